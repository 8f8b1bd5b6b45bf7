"""The page that asks before a campaign is sent: what leaves is what it showed, or it asks again."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from campaigns import composing
from campaigns.models import Campaign
from leads.models import Lead
from tests.campaigns.entering import entered
from tests.factories import (
    AttachmentFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    NicheFactory,
)

pytestmark = pytest.mark.django_db

CHANGED = "It was changed since you looked: nothing was sent."
SAYS_THE_SAME = "says the same, word for word"


def url(name: str, campaign: Campaign) -> str:
    return reverse(f"campaigns:{name}", args=[campaign.pk])


@pytest.fixture
def draft() -> Campaign:
    DeviceFactory(online=True)
    LeadFactory.create_batch(2)
    LeadFactory(opted_out=True)
    campaign: Campaign = CampaignFactory()
    return campaign


def look(client: Client, campaign: Campaign) -> str:
    """Opens the review; returns what its button would post."""
    text = client.get(url("review", campaign)).content.decode()
    (agreed,) = re.findall(r'name="agreed" value="([^"]+)"', text)
    return str(agreed)


def press(client: Client, campaign: Campaign, agreed: str) -> str:
    """Presses Send as on the page that was looked at; returns what is shown then."""
    shown = client.post(url("review", campaign), {"agreed": agreed}, follow=True)
    campaign.refresh_from_db()
    return shown.content.decode()


def test_the_review_says_how_many_and_asks(operator_client: Client, draft: Campaign) -> None:
    text = operator_client.get(url("review", draft)).content.decode()
    assert "Send 2 messages" in text
    assert "opted out" in text
    draft.refresh_from_db()
    assert draft.status == "draft"


def test_the_review_says_that_it_begins_at_once(operator_client: Client) -> None:
    text = operator_client.get(url("review", CampaignFactory())).content.decode()
    assert "Begins as soon as its devices may send; the forecast says when." in text


def test_pressing_send_asks_the_scheduler_at_once_and_only_once(
    operator_client: Client, draft: Campaign
) -> None:
    agreed = look(operator_client, draft)
    for _ in range(2):  # a double click
        press(operator_client, draft, agreed)

    assert draft.status == "scheduled"
    assert [task.func() for task in OrmQ.objects.all()] == ["campaigns.tasks.process_campaigns"]
    assert LogEntry.objects.count() == 1


def test_a_date_makes_it_schedule_instead_of_send(operator_client: Client, draft: Campaign) -> None:
    at = timezone.now() + timedelta(days=1)
    Campaign.objects.update(scheduled_at=at)
    assert "Schedule 2 messages" in operator_client.get(url("review", draft)).content.decode()
    press(operator_client, draft, look(operator_client, draft))
    assert (draft.status, draft.scheduled_at) == ("scheduled", at)
    assert not OrmQ.objects.exists()


def test_what_the_history_says_is_translated(
    operator_client: Client, draft: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composing, "_", lambda words: f"<{words}>")
    press(operator_client, draft, look(operator_client, draft))
    assert LogEntry.objects.get().get_change_message() == "<Scheduled.>"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("scheduled", "it is scheduled already"),
        ("sending", "it was sent already"),
        ("finished", "it was sent already"),
        ("cancelled", "it was cancelled"),
    ],
)
def test_who_presses_send_too_late_is_told_that_it_did_nothing(
    operator_client: Client, draft: Campaign, status: str, said: str
) -> None:
    agreed = look(operator_client, draft)
    Campaign.objects.update(status=status, scheduled_at=timezone.now(), finished_at=timezone.now())

    assert said in press(operator_client, draft, agreed)
    assert draft.status == status
    assert said not in operator_client.get(url("review", draft), follow=True).content.decode()


# What forbids it


def test_nothing_is_sent_to_nobody(operator_client: Client) -> None:
    draft = CampaignFactory()
    text = press(operator_client, draft, look(operator_client, draft))
    assert "No lead matches this audience." in text
    assert draft.status == "draft"


def test_nothing_is_sent_where_the_one_device_chosen_is_off(
    operator_client: Client, draft: Campaign
) -> None:
    draft.devices.set([DeviceFactory(enabled=False)])
    page = operator_client.get(url("review", draft)).content.decode()
    button = page[: page.index("Send 2 messages")].rpartition("<button")[2]
    assert " disabled>" in button
    assert "The device chosen may not send" in press(
        operator_client, draft, look(operator_client, draft)
    )
    assert draft.status == "draft"


def test_a_time_that_has_passed_since_is_refused(operator_client: Client, draft: Campaign) -> None:
    Campaign.objects.update(scheduled_at=datetime(2020, 1, 1, tzinfo=UTC))
    text = press(operator_client, draft, look(operator_client, draft))
    assert "The time it was to start at is past." in text
    assert draft.status == "draft"


# What was shown


def edit_text(draft: Campaign) -> None:
    Campaign.objects.filter(pk=draft.pk).update(message="Something else")


def edit_file(draft: Campaign) -> None:
    Campaign.objects.filter(pk=draft.pk).update(attachment=AttachmentFactory())


def edit_niches(draft: Campaign) -> None:
    """To others, as many."""
    niche = NicheFactory()
    LeadFactory.create_batch(2, niches=[niche.name])
    draft.niches.set([niche])


def edit_lead_status(draft: Campaign) -> None:
    Lead.objects.update(status="customer")
    Campaign.objects.filter(pk=draft.pk).update(target_status="customer")


def edit_devices(draft: Campaign) -> None:
    draft.devices.set([DeviceFactory()])


def edit_start(draft: Campaign) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    Campaign.objects.filter(pk=draft.pk).update(scheduled_at=tomorrow)


def edit_zone(draft: Campaign) -> None:
    Campaign.objects.filter(pk=draft.pk).update(timezone="Europe/Berlin")


def edit_pauses(draft: Campaign) -> None:
    Campaign.objects.filter(pk=draft.pk).update(max_delay_seconds=77)


EDITS: list[Callable[[Campaign], None]] = [
    edit_text, edit_file, edit_niches, edit_lead_status, edit_devices, edit_start, edit_zone,
    edit_pauses,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_a_draft_that_was_changed_since_is_shown_again_before_it_is_sent(
    operator_client: Client, draft: Campaign, edit: Callable[[Campaign], None]
) -> None:
    agreed = look(operator_client, draft)
    edit(draft)

    text = press(operator_client, draft, agreed)

    assert CHANGED in text
    assert draft.status == "draft"
    assert CHANGED not in press(operator_client, draft, look(operator_client, draft))
    assert draft.status == "scheduled"


def test_another_tab_s_start_does_not_make_now_of_it(
    operator_client: Client, draft: Campaign
) -> None:
    at = timezone.now() + timedelta(days=3)
    Campaign.objects.update(scheduled_at=at)
    agreed = look(operator_client, draft)
    operator_client.post(url("edit", draft), entered(then="save", when="now"))

    assert CHANGED in press(operator_client, draft, agreed)
    assert draft.status == "draft"


def test_saving_the_same_again_changes_nothing(operator_client: Client, draft: Campaign) -> None:
    operator_client.post(url("edit", draft), entered(then="save"))
    agreed = look(operator_client, draft)
    operator_client.post(url("edit", draft), entered(then="save", title="Only for us"))

    press(operator_client, draft, agreed)

    assert draft.status == "scheduled"


@pytest.mark.parametrize("agreed", ["", "2", "x-2-", "-", "²-²-²", f"x-{'9' * 5000}-"])
def test_who_agrees_to_nothing_is_shown_it_first(
    operator_client: Client, draft: Campaign, agreed: str
) -> None:
    assert CHANGED in press(operator_client, draft, agreed)
    assert draft.status == "draft"


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_saved_between_the_look_and_the_sending_is_not_sent(
    draft: Campaign, edit: Callable[[Campaign], None]
) -> None:
    agreed = draft.agreement(2)
    seen = Campaign.objects.get(pk=draft.pk)
    edit(draft)

    assert not seen.send(agreed)

    draft.refresh_from_db()
    assert draft.status == "draft"


def test_the_only_niche_deleted_since_does_not_make_everybody_of_it(
    operator_client: Client, draft: Campaign
) -> None:
    niche = NicheFactory()
    LeadFactory.create_batch(3, niches=[niche.name])
    draft.niches.set([niche])
    agreed = look(operator_client, draft)
    niche.delete()

    assert CHANGED in press(operator_client, draft, agreed)
    assert draft.status == "draft"


# To how many


def test_an_audience_that_has_grown_is_shown_again_before_it_is_sent_to(
    operator_client: Client, draft: Campaign
) -> None:
    agreed = look(operator_client, draft)
    LeadFactory()
    text = press(operator_client, draft, agreed)
    assert "The audience has grown" in text
    assert "Send 3 messages" in text
    assert draft.status == "draft"


def test_an_audience_that_has_shrunk_is_sent_to_and_that_is_said(
    operator_client: Client, draft: Campaign
) -> None:
    last = LeadFactory()
    agreed = look(operator_client, draft)
    Lead.objects.filter(pk=last.pk).opt_out(source="a call")

    assert "It goes to 2, 1 fewer than the page showed." in press(operator_client, draft, agreed)
    assert draft.status == "scheduled"


# Others that say the same


@pytest.mark.parametrize("is_sent", [True, False])
def test_another_campaign_with_the_same_text_is_a_warning(
    operator_client: Client, draft: Campaign, is_sent: bool
) -> None:
    """The browser's Back button saves a second draft; sent, both reach the same people."""
    CampaignFactory(title="The other", message=draft.message, sending=is_sent)

    text = operator_client.get(url("review", draft)).content.decode()

    assert "The other" in text
    assert SAYS_THE_SAME in text
    assert ("a draft, says" in text) is not is_sent


def test_of_two_that_say_the_same_the_second_asks_again(
    operator_client: Client, draft: Campaign
) -> None:
    other = CampaignFactory(message=draft.message, title="The other")
    agreed, agreed_of_other = look(operator_client, draft), look(operator_client, other)
    press(operator_client, other, agreed_of_other)

    text = press(operator_client, draft, agreed)

    assert "Another campaign that says the same was sent since you looked" in text
    assert SAYS_THE_SAME in text
    assert (other.status, draft.status) == ("scheduled", "draft")
    press(operator_client, draft, look(operator_client, draft))  # meant so
    assert draft.status == "scheduled"


def test_one_that_says_the_same_and_is_sent_this_very_moment_is_seen(draft: Campaign) -> None:
    other = CampaignFactory(message=draft.message)
    agreed, agreed_of_other = draft.agreement(2), other.agreement(2)

    assert other.send(agreed_of_other)
    assert not draft.send(agreed)


def test_one_that_says_the_same_and_is_gone_by_then_takes_no_new_word(
    operator_client: Client, draft: Campaign
) -> None:
    other = CampaignFactory(message=draft.message)
    other.schedule()
    agreed = look(operator_client, draft)
    other.cancel()

    press(operator_client, draft, agreed)

    assert draft.status == "scheduled"
