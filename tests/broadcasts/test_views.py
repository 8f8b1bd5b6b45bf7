from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from tests.factories import (
    AttachmentFactory,
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db

VERBS = {
    "arrived": ("unknown", "sent"),
    "send_again": ("unknown", "pending"),
    "not_arrived": ("unknown", "failed"),
    "retry": ("failed", "pending"),
    "reschedule": ("expired", "pending"),
    "ask_again": ("skipped", "pending"),
}
REASON = {"skipped": "not_on_whatsapp"}


def hidden_in(page: str) -> dict[str, str]:
    """What the page's buttons post besides."""
    return dict(re.findall('<input type="hidden" name="(ended_at)" value="(.*?)">', page))


def test_the_list_says_where_each_message_stands_and_why(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True, title="October restock")
    for status, rest in (
        ("failed", {"error_message": "This number is not on WhatsApp."}),
        ("skipped", {"skip_reason": "no_consent", "device": None, "body": ""}),
        ("paused", {}),
        ("expired", {}),
        ("unknown", {}),
    ):
        BroadcastMessageFactory(campaign=campaign, status=status, **rest)
    page = viewer_client.get(reverse("messages:list")).content.decode()
    for words in (
        "October restock",
        "This number is not on WhatsApp.",
        "No consent on record",
        "Its campaign is paused.",
        "It could not start in time.",
        "Nobody can tell whether it arrived.",
    ):
        assert words in page


def test_the_list_shows_which_message_carries_which_file(
    viewer_client: Client, django_assert_max_num_queries: Any
) -> None:
    campaign, device = CampaignFactory(sending=True), DeviceFactory()
    picture = AttachmentFactory(name="Shop.png")
    with_file = {"campaign": campaign, "device": device, "attachment": picture}
    BroadcastMessageFactory.create_batch(5, **with_file, body="Look")
    # Left out before it was written: nothing was to be brought.
    left_out = {"device": None, "status": "skipped", "skip_reason": "opted_out", "body": ""}
    BroadcastMessageFactory(**with_file | left_out)
    with django_assert_max_num_queries(14):
        page = viewer_client.get(reverse("messages:list")).content.decode()
    assert page.count("Shop.png") == 5
    assert "picture" in page


def test_a_message_without_a_text_shows_its_file(viewer_client: Client) -> None:
    message = BroadcastMessageFactory(body="", attachment=AttachmentFactory(name="Shop.png"))
    url = reverse("messages:detail", args=[message.pk])
    page = viewer_client.get(url).content.decode()
    assert "Picture Shop.png" in page
    assert "No text" not in page
    BroadcastMessage.objects.update(status="skipped", skip_reason="opted_out")
    assert "Picture Shop.png" in viewer_client.get(url).content.decode(), "it was written"
    BroadcastMessage.objects.update(device=None)
    assert "left out before it was written" in viewer_client.get(url).content.decode()


@pytest.fixture
def four() -> dict[str, BroadcastMessage]:
    """A message of a campaign, one of a sequence, a failed one and one of a deleted lead."""
    step = SequenceStepFactory()
    return {
        "campaign": BroadcastMessageFactory(lead__phone="60121112222", lead__name="Ali"),
        "sequence": BroadcastMessageFactory(
            campaign=None, sequence=step.sequence, sequence_step=step
        ),
        "failed": BroadcastMessageFactory(status="failed"),
        "orphan": BroadcastMessageFactory(
            lead=None, recipient_phone="60139998888", recipient_name="Gone"
        ),
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"status": "failed"}, {"failed"}),
        ({"campaign": "campaign"}, {"campaign"}),
        ({"sequence": "sequence"}, {"sequence"}),
        ({"device": "failed"}, {"failed"}),
        ({"q": "012-111 2222"}, {"campaign"}),
        ({"q": "60121112222"}, {"campaign"}),
        ({"q": "ali"}, {"campaign"}),
        ({"q": "60139998888"}, {"orphan"}),
        ({"q": "nobody"}, set()),
        ({"q": "ali", "status": "failed"}, set()),
        ({"status": "nonsense", "campaign": "x"}, {"campaign", "sequence", "failed", "orphan"}),
    ],
)
def test_the_list_is_narrowed(
    viewer_client: Client,
    four: dict[str, BroadcastMessage],
    query: dict[str, str],
    names: set[str],
) -> None:
    for field in ("campaign", "sequence", "device"):
        if query.get(field) in four:
            query = query | {field: getattr(four[query[field]], f"{field}_id")}
    page = viewer_client.get(reverse("messages:list"), query).context["page"]
    assert {message.pk for message in page.rows} == {four[name].pk for name in names}


def test_the_list_can_show_a_day_and_what_is_being_sent(viewer_client: Client) -> None:
    """The overview's figures link here: a link must show the rows that its figure counts."""
    noon = datetime(2026, 11, 23, 12, tzinfo=timezone.get_default_timezone())
    today = BroadcastMessageFactory(status="sent", finished_at=noon)
    BroadcastMessageFactory(status="sent", finished_at=noon - timedelta(days=1))
    claimed = BroadcastMessageFactory(status="processing")
    handed_over = BroadcastMessageFactory(status="queued")

    of_the_day = viewer_client.get("/messages/?status=sent&day=2026-11-23").context["page"].rows
    working = viewer_client.get("/messages/?status=working").context["page"].rows

    assert list(of_the_day) == [today]
    assert set(working) == {claimed, handed_over}


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_day_at_the_end_of_the_calendar_is_refused_at_its_field(
    viewer_client: Client, day: str
) -> None:
    BroadcastMessageFactory()
    page = viewer_client.get(reverse("messages:list"), {"day": day})
    assert page.status_code == 200
    assert page.context["form"].errors.keys() == {"day"}
    assert len(page.context["page"].rows) == 1, "as if no day were given"


def test_the_list_goes_on_without_counting(
    viewer_client: Client, django_assert_max_num_queries: Any
) -> None:
    campaign, device = CampaignFactory(sending=True), DeviceFactory()
    made = BroadcastMessageFactory.create_batch(60, campaign=campaign, device=device)
    with django_assert_max_num_queries(14) as queries:
        page = viewer_client.get(reverse("messages:list")).context["page"]
    counting = [query["sql"] for query in queries.captured_queries if "COUNT" in query["sql"]]
    assert not [sql for sql in counting if "broadcast_messages" in sql]
    assert len(page.rows) == 50
    rest = viewer_client.get(reverse("messages:list"), {"before": page.older}).context["page"]
    assert {m.pk for m in [*page.rows, *rest.rows]} == {m.pk for m in made}
    assert rest.older is None


def test_a_message_shows_its_whole_life(viewer_client: Client) -> None:
    now = timezone.now()
    message = BroadcastMessageFactory(
        status="sent", body="Hi *Ali*", provider_message_id="SIM0001", attempts=1,
        processing_started_at=now, processing_worker_id="kl-1/3:8f2a", queued_at=now,
        sent_at=now, delivered_at=now, read_at=now, finished_at=now,
    )  # fmt: skip
    page = viewer_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    for words in (
        "Hi <strong>Ali</strong>", "kl-1/3:8f2a", "SIM0001", "claimed", "handed to WhatsApp",
        "delivered", "read", message.campaign.title,
    ):  # fmt: skip
        assert words in page


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ({"status": "pending"}, ["written for", "due"]),
        (
            {"status": "failed", "processing_started_at": 11, "queued_at": 12, "finished_at": 13},
            ["written for", "due", "claimed", "handed to WhatsApp", "failed"],
        ),
        (
            {"status": "skipped", "finished_at": 8},
            ["written for", "skipped", "would have been due"],
        ),
        ({"status": "skipped", "finished_at": 11}, ["written for", "due", "skipped"]),
        # Its campaign was begun late.
        (
            {"status": "skipped", "scheduled_at": 8, "finished_at": 9},
            ["due", "written for", "skipped"],
        ),
        (
            {"status": "skipped", "scheduled_at": 9, "finished_at": 9},
            ["written for", "due", "skipped"],
        ),
        # WhatsApp tells whole seconds, by a clock of its own.
        (
            {"status": "sent", "processing_started_at": 11, "queued_at": 12, "sent_at": 14,
             "delivered_at": 13, "finished_at": 14},
            ["written for", "due", "claimed", "handed to WhatsApp", "sent", "delivered"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_message_s_life_is_told_in_its_order(
    viewer_client: Client, ended: dict[str, Any], told: list[str]
) -> None:
    def at(value: Any) -> Any:
        return datetime(2026, 11, 2, value, tzinfo=UTC) if isinstance(value, int) else value

    times = {name: at(value) for name, value in ended.items()}
    message = BroadcastMessageFactory(**{"scheduled_at": at(10), **times})
    BroadcastMessage.objects.update(created_at=at(9))

    page = viewer_client.get(reverse("messages:detail", args=[message.pk])).content.decode()

    life = page.split('<ol class="life">')[1].split("</ol>")[0]
    lines = re.findall(r"<span>\s*(.*?)\s*<", life)
    assert [re.sub(r"\s+", " ", line) for line in lines if line] == told


@pytest.mark.parametrize("verb", VERBS)
def test_the_operators_word_is_taken_once_and_noted(operator_client: Client, verb: str) -> None:
    before, after = VERBS[verb]
    reason = REASON.get(before, "")
    message = BroadcastMessageFactory(
        status=before, queued_at=timezone.now(), skip_reason=reason, finished_at=timezone.now(),
        lead__not_on_whatsapp_at=timezone.now(),
    )  # fmt: skip
    other = BroadcastMessageFactory(status=before)
    url = reverse(f"messages:{verb}", args=[message.pk])
    detail = reverse("messages:detail", args=[message.pk])
    page = operator_client.get(detail).content.decode()
    assert url in page
    for _click in range(2):
        assert operator_client.post(url, hidden_in(page))["Location"] == detail
    message.refresh_from_db()
    other.refresh_from_db()
    assert (message.status, other.status) == (after, before)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username) == (str(message.pk), "operator")
    assert message.skip_reason == ""
    assert (message.lead.not_on_whatsapp_at is None) is (verb == "ask_again")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", BroadcastMessage.Status.values)
def test_a_message_in_another_state_is_left_alone(
    operator_client: Client, verb: str, status: str
) -> None:
    if status == VERBS[verb][0]:
        return
    message = BroadcastMessageFactory(status=status)
    response = operator_client.post(reverse(f"messages:{verb}", args=[message.pk]), follow=True)
    assert "Nothing was changed" in response.content.decode()
    message.refresh_from_db()
    assert message.status == status
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_viewer_settles_nothing_and_a_link_neither(
    viewer_client: Client, operator_client: Client, verb: str
) -> None:
    status = VERBS[verb][0]
    message = BroadcastMessageFactory(status=status, skip_reason=REASON.get(status, ""))
    url = reverse(f"messages:{verb}", args=[message.pk])
    assert viewer_client.post(url).status_code == 403
    assert operator_client.get(url).status_code == 405
    page = viewer_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    assert url not in page


@pytest.mark.parametrize(
    "left_out", [{"skip_reason": "opted_out"}, {"skip_reason": "not_on_whatsapp", "device": None}]
)
def test_only_what_was_written_to_a_number_not_on_whatsapp_is_asked_about_again(
    operator_client: Client, left_out: dict[str, Any]
) -> None:
    message = BroadcastMessageFactory(status="skipped", **left_out)
    url = reverse("messages:ask_again", args=[message.pk])
    page = operator_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    assert url not in page
    assert "Nothing was changed" in operator_client.post(url, follow=True).content.decode()


def test_of_a_cancelled_campaign_is_settled_what_did_not_arrive(operator_client: Client) -> None:
    """It is not sent again; that it was lost can be said all the same."""
    message = BroadcastMessageFactory(status="unknown", campaign__status="cancelled")
    page = operator_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    assert reverse("messages:send_again", args=[message.pk]) not in page

    operator_client.post(reverse("messages:not_arrived", args=[message.pk]))

    message.refresh_from_db()
    assert (message.status, message.error_code) == ("failed", "not_arrived")


def test_what_did_not_arrive_can_still_be_tried_again(operator_client: Client) -> None:
    message = BroadcastMessageFactory(status="unknown", provider_message_id="3EB0")
    for verb in ("not_arrived", "retry"):
        operator_client.post(reverse(f"messages:{verb}", args=[message.pk]))
    message.refresh_from_db()
    assert message.status == "pending"
    lines = message.history.values_list("status", "decision", "provider_message_id")
    assert list(lines) == [("unknown", "not_arrived", "3EB0"), ("failed", "retried", None)]


def test_a_message_that_is_not_there_is_not_found(operator_client: Client) -> None:
    assert operator_client.get(reverse("messages:detail", args=[99])).status_code == 404
    assert operator_client.post(reverse("messages:retry", args=[99])).status_code == 404


def test_a_lead_without_a_name_is_still_shown(viewer_client: Client) -> None:
    BroadcastMessageFactory(lead=LeadFactory(name="", phone="60123456789"))
    assert "+60 12-345 6789" in viewer_client.get(reverse("messages:list")).content.decode()


def test_the_page_tells_what_became_of_it_before(operator_client: Client, operator: User) -> None:
    message = BroadcastMessageFactory(status="failed", error_message="The media host was down.")

    operator_client.post(reverse("messages:retry", args=[message.pk]))
    page = operator_client.get(reverse("messages:detail", args=[message.pk])).content.decode()

    assert "The media host was down." in page
    assert f"by {operator}" in page


@pytest.mark.parametrize("name", ["device", "campaign", "sequence"])
def test_an_id_that_none_can_be_is_no_error(viewer_client: Client, name: str) -> None:
    assert viewer_client.get(reverse("messages:list"), {name: "9" * 23}).status_code == 200


@pytest.mark.parametrize("again_by", ["another operator", "a transport that knew"])
def test_a_word_about_an_earlier_end_does_not_send_again_what_has_ended_anew(
    operator_client: Client, again_by: str
) -> None:
    """The page of an unknown message is open; the message leaves meanwhile, and again WhatsApp does
    not say so in time."""
    unknown = {"status": "unknown", "error_code": "interrupted", "attempts": 1}
    message = BroadcastMessageFactory(**unknown, finished_at=timezone.now())
    url = reverse("messages:send_again", args=[message.pk])
    page = operator_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    form = hidden_in(page)
    if again_by == "another operator":
        operator_client.post(url, form)
        assert BroadcastMessage.objects.get().status == "pending"
    later = timezone.now() + timedelta(seconds=1)
    BroadcastMessage.objects.update(**unknown, finished_at=later)

    operator_client.post(url, form)

    found = BroadcastMessage.objects.get()
    assert (found.status, found.finished_at) == ("unknown", later)


@pytest.mark.parametrize("ended_at", ["now", "2026-13-01T00:00", "9999-12-31T23:59:59.999999"])
def test_an_end_that_no_page_has_shown_changes_nothing(
    operator_client: Client, ended_at: str
) -> None:
    message = BroadcastMessageFactory(
        status="unknown", error_code="timed_out", finished_at=timezone.now()
    )
    url = reverse("messages:send_again", args=[message.pk])

    assert operator_client.post(url, {"ended_at": ended_at}).status_code == 302

    message.refresh_from_db()
    assert message.status == "unknown"
