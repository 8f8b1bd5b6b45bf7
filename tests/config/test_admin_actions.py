from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from config import adminsite
from devices.models import Device
from leads.models import Lead
from sequences.models import Sequence
from tests import factories

pytestmark = pytest.mark.django_db


def stuck_message() -> BroadcastMessage:
    """Claimed by a broadcaster whose lease ran out a while ago."""
    return factories.BroadcastMessageFactory(
        status="processing",
        processing_worker_id="gone/1",
        lease_epoch=1,
        processing_started_at=timezone.now() - timedelta(minutes=10),
        device__lease_expires_at=timezone.now() - timedelta(minutes=9),
    )


def message(status: str) -> Callable[[], BroadcastMessage]:
    return lambda: factories.BroadcastMessageFactory(status=status)


def campaign(status: str) -> Callable[[], Campaign]:
    times = {"scheduled_at": timezone.now(), "started_at": timezone.now(),
             "fanned_out_at": timezone.now()}  # fmt: skip
    return lambda: factories.CampaignFactory(status=status, **times)


def draft() -> Sequence:
    sequence: Sequence = factories.SequenceFactory(status="draft")
    return sequence


# action: a row it applies to, a row it does not, what the first is like before and after.
CASES: list[tuple[str, Callable[[], Any], Callable[[], Any], str, Any, Any]] = [
    ("retry_failed", message("failed"), message("sent"), "status", "failed", "pending"),
    ("settle_as_sent", message("unknown"), message("failed"), "status", "unknown", "sent"),
    ("settle_as_not_arrived", message("unknown"), message("sent"), "status", "unknown", "failed"),
    ("settle_as_not_sent", message("unknown"), message("sent"), "status", "unknown", "pending"),
    ("reschedule_expired", message("expired"), message("sent"), "status", "expired", "pending"),
    ("cancel", message("pending"), message("queued"), "status", "pending", "cancelled"),
    ("unstick", stuck_message, message("pending"), "status", "processing", "pending"),
    ("pause", campaign("sending"), campaign("draft"), "status", "sending", "paused"),
    ("resume", campaign("paused"), campaign("sending"), "status", "paused", "sending"),
    ("cancel", campaign("paused"), campaign("finished"), "status", "paused", "cancelled"),
    ("pause", factories.SequenceFactory, draft, "status", "active", "paused"),
    (
        "switch_on",
        lambda: factories.DeviceFactory(enabled=False),
        factories.DeviceFactory,
        "enabled",
        False,
        True,
    ),
    (
        "switch_off",
        factories.DeviceFactory,
        lambda: factories.DeviceFactory(enabled=False),
        "enabled",
        True,
        False,
    ),
    (
        "opt_out",
        factories.LeadFactory,
        lambda: factories.LeadFactory(opted_out=True),
        "opt_out_source",
        "",
        "admin",
    ),
]
cases = pytest.mark.parametrize(
    ("action", "applicable", "other", "field", "before", "after"), CASES
)


def url(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def act(client: Client, action: str, *rows: Model, **more: Any) -> Any:
    data = {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], **more}
    return client.post(url(type(rows[0])), data)


def value(row: Model, field: str) -> Any:
    return type(row)._default_manager.values_list(field, flat=True).get(pk=row.pk)


@pytest.fixture
def staff(client: Client) -> Callable[[str], Client]:
    def sign_in(group: str) -> Client:
        user = User.objects.create_user(f"staff {group}", is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        client.force_login(user)
        return client

    return sign_in


@cases
def test_action_says_what_it_will_do_and_waits(
    staff: Callable[[str], Client],
    action: str,
    applicable: Callable[[], Any],
    other: Callable[[], Any],
    field: str,
    before: Any,
    after: Any,
) -> None:
    row, left_alone = applicable(), other()

    page = act(staff("Operator"), action, row, left_alone)

    assert page.status_code == 200
    assert "<b>1</b> of the 2 chosen" in page.text
    assert str(page.context["effect"]) in page.text.replace("&#x27;", "'")
    assert value(row, field) == before
    assert not LogEntry.objects.exists()


@cases
def test_confirmed_action_is_done_once_and_written_down(
    staff: Callable[[str], Client],
    action: str,
    applicable: Callable[[], Any],
    other: Callable[[], Any],
    field: str,
    before: Any,
    after: Any,
) -> None:
    row, left_alone = applicable(), other()
    untouched = value(left_alone, field)
    client = staff("Operator")

    for _ in range(2):
        assert act(client, action, row, left_alone, confirmed="yes").status_code == 302

    assert value(row, field) == after
    assert value(left_alone, field) == untouched
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.get_username()) == (str(row.pk), "staff Operator")
    assert entry.content_type is not None
    assert entry.content_type.model_class() is type(row)


@cases
def test_viewers_cannot_act_even_when_they_post(
    staff: Callable[[str], Client],
    action: str,
    applicable: Callable[[], Any],
    other: Callable[[], Any],
    field: str,
    before: Any,
    after: Any,
) -> None:
    row = applicable()

    act(staff("Viewer"), action, row, confirmed="yes")

    assert value(row, field) == before
    assert not LogEntry.objects.exists()


@cases
def test_action_without_anything_to_do_says_so(
    staff: Callable[[str], Client],
    action: str,
    applicable: Callable[[], Any],
    other: Callable[[], Any],
    field: str,
    before: Any,
    after: Any,
) -> None:
    page = act(staff("Operator"), action, other())

    assert page.status_code == 200
    assert 'name="confirmed"' not in page.text
    assert str(page.context["nothing"]) in page.text


def test_all_that_match_are_those_that_were_there_when_it_was_asked(
    staff: Callable[[str], Client],
) -> None:
    client = staff("Operator")
    first, second = (factories.BroadcastMessageFactory(status="failed") for _ in range(2))
    page = act(client, "retry_failed", first, select_across="1")
    assert page.context["count"] == 2
    later = factories.BroadcastMessageFactory(status="failed")

    act(
        client, "retry_failed", first, select_across="1", confirmed="yes",
        last_pk=page.context["last_pk"],
    )  # fmt: skip

    assert [value(row, "status") for row in (first, second, later)] == [
        "pending",
        "pending",
        "failed",
    ]


def test_what_was_sent_again_since_and_is_unknown_anew_is_another_question(
    staff: Callable[[str], Client],
) -> None:
    client = staff("Operator")
    row = factories.BroadcastMessageFactory(status="unknown", finished_at=timezone.now())
    page = act(client, "settle_as_not_sent", row)
    answer = {"confirmed": "yes", "last_at": page.context["last_at"]}
    assert f'value="{answer["last_at"]}"' in page.text
    since = timezone.now()
    BroadcastMessage.objects.update(finished_at=since)

    act(client, "settle_as_not_sent", row, **answer)
    assert value(row, "status") == "unknown"

    act(client, "settle_as_not_sent", row, confirmed="yes", last_at=since.isoformat())
    assert value(row, "status") == "pending"


def test_all_that_match_keeps_to_the_filter(staff: Callable[[str], Client]) -> None:
    client = staff("Operator")
    chosen = factories.LeadFactory(niches=["VITAC"])
    other = factories.LeadFactory(niches=["EXSTART"])

    client.post(
        f"{url(Lead)}?niche=VITAC",
        {"action": "opt_out", ACTION_CHECKBOX_NAME: [chosen.pk], "select_across": "1",
         "confirmed": "yes"},
    )  # fmt: skip

    assert value(chosen, "opted_out_at") is not None
    assert value(other, "opted_out_at") is None


def test_all_with_a_common_status_are_acted_on(
    staff: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adminsite, "COMMON", 2)
    rows = [factories.BroadcastMessageFactory(status="failed") for _ in range(3)]
    client = staff("Operator")
    data = {"action": "retry_failed", ACTION_CHECKBOX_NAME: [rows[0].pk], "select_across": "1"}

    page = client.post(f"{url(BroadcastMessage)}?status__exact=failed", data)
    assert page.context["count"] == 3
    client.post(f"{url(BroadcastMessage)}?status__exact=failed", {**data, "confirmed": "yes"})

    assert [value(row, "status") for row in rows] == ["pending"] * 3


def test_very_many_rows_get_one_line_of_history(
    staff: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adminsite, "LOGGED_ONE_BY_ONE", 2)
    rows = [factories.LeadFactory() for _ in range(3)]

    act(staff("Operator"), "opt_out", *rows, confirmed="yes")

    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.object_id) == ("3 leads", None)
    assert Lead.objects.filter(opted_out_at__isnull=False).count() == 3


@pytest.mark.parametrize(
    "model", [Lead, Campaign, Device, Sequence], ids=lambda model: model.__name__
)
def test_nothing_is_deleted_in_bulk(client: Client, model: type[Model]) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    page = client.get(url(model))

    assert "delete_selected" not in page.text


def test_history_does_not_say_of_all_what_was_done_to_some(rf: RequestFactory) -> None:
    _first, second = factories.LeadFactory.create_batch(2)
    request = rf.post("/")
    request.user = User.objects.create_superuser("boss")

    def opt_out_second(leads: Any) -> int:
        # As if somebody else had been first with the other.
        return leads.filter(pk=second.pk).opt_out(source="admin")  # type: ignore[no-any-return]

    action = adminsite.ConfirmedAction(
        gettext_lazy("Opt out"), effect=gettext_lazy("x"), may="opt_out",
        applies_to=lambda leads: leads, work=opt_out_second, nothing=gettext_lazy("x"),
    )  # fmt: skip

    assert action.do(request, Lead.objects.all()) == 1

    said = {entry.get_change_message() for entry in LogEntry.objects.all()}
    assert said == {"Asked for: Opt out. 1 of the 2 rows changed."}
