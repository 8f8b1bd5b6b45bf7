from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F
from django.utils import timezone
from django_q.models import OrmQ

from broadcasts.models import BroadcastMessage
from broadcasts.queryset import CHUNK
from campaigns.models import Campaign
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)

pytestmark = pytest.mark.django_db


def sending(**statuses: int) -> Campaign:
    campaign = CampaignFactory(sending=True)
    for status, count in statuses.items():
        BroadcastMessageFactory.create_batch(count, campaign=campaign, status=status)
    return campaign


def test_a_draft_is_scheduled_once_however_often_it_is_clicked() -> None:
    campaign = CampaignFactory()
    same = Campaign.objects.get(pk=campaign.pk)

    assert campaign.schedule()
    assert not same.schedule(timezone.now() + timedelta(days=1))
    campaign.refresh_from_db()
    assert campaign.scheduled_at <= timezone.now() + timedelta(seconds=5)


def test_a_campaign_is_started_by_one_scheduler() -> None:
    campaign = CampaignFactory()
    campaign.schedule()
    same = Campaign.objects.get(pk=campaign.pk)

    assert campaign.start()
    assert not same.start()


def test_what_was_discarded_since_it_was_read_as_due_holds_up_nobody() -> None:
    CampaignFactory(status="scheduled", scheduled_at=timezone.now())
    slow = Campaign.objects.due().get()
    assert Campaign.objects.get().unschedule()
    assert Campaign.objects.get().discard()

    assert not slow.start()


def test_what_was_put_off_since_it_was_read_as_due_does_not_start() -> None:
    campaign = CampaignFactory()
    campaign.schedule()
    slow = Campaign.objects.due().get()
    assert campaign.unschedule()
    assert campaign.schedule(timezone.now() + timedelta(days=1))

    assert not slow.start()

    assert slow.status == "scheduled"


def test_pausing_takes_what_waits_out_of_the_queue_and_leaves_the_rest() -> None:
    campaign = sending(pending=2, processing=1, queued=1, sent=1)

    assert campaign.pause()

    counts = campaign.counts()
    assert campaign.status == "paused"
    assert (counts["paused"], counts["pending"]) == (2, 0)
    assert counts["processing"] == counts["queued"] == counts["sent"] == 1


@pytest.mark.parametrize("more", [0, 1])
def test_the_scheduler_is_asked_at_once_for_what_an_operator_cannot_wait_for(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaigns.models.AT_ONCE", CHUNK)
    campaign, device, lead = CampaignFactory(sending=True), DeviceFactory(), LeadFactory()
    BroadcastMessage.objects.bulk_create(
        BroadcastMessageFactory.build(
            campaign=campaign, device=device, lead=lead, recipient_phone=f"6012{n:08}"
        )
        for n in range(CHUNK - 1 + more)
    )

    assert campaign.pause()

    assert [task.func() for task in OrmQ.objects.all()] == [
        "campaigns.tasks.process_campaigns"
    ] * more


def test_resuming_puts_it_back_with_its_time() -> None:
    campaign = sending(pending=1)
    expires_at = timezone.now() + timedelta(hours=1)
    campaign.messages.update(expires_at=expires_at)
    campaign.pause()
    Campaign.objects.update(paused_at=timezone.now() - timedelta(hours=5))

    assert campaign.resume()

    message = campaign.messages.get()
    assert (campaign.status, message.status) == ("sending", "pending")
    # To the second: SQLite's clock knows milliseconds.
    assert message.expires_at >= expires_at + timedelta(hours=5, seconds=-1)


def test_a_second_pause_before_all_are_back_does_not_take_the_time_of_the_first() -> None:
    campaign = sending(pending=1)
    expires_at = timezone.now() + timedelta(hours=1)
    campaign.messages.update(expires_at=expires_at)
    campaign.pause()
    # Resumed after five hours; the scheduler has not moved this one back yet.
    now = timezone.now()
    Campaign.objects.update(status="sending", paused_at=now - timedelta(hours=5), resumed_at=now)

    campaign.pause()
    Campaign.objects.update(paused_at=F("paused_at") - timedelta(hours=2))
    campaign.resume()

    message = campaign.messages.get()
    assert message.status == "pending"
    assert message.expires_at >= expires_at + timedelta(hours=7, seconds=-1)


def test_a_campaign_paused_before_it_began_is_scheduled_again() -> None:
    campaign = CampaignFactory()
    campaign.schedule(timezone.now() + timedelta(days=1))
    campaign.pause()

    assert campaign.resume()
    assert campaign.status == "scheduled"


def test_cancelling_is_for_good() -> None:
    campaign = sending(pending=1, paused=1, queued=1, sent=1)

    assert campaign.cancel()

    counts = campaign.counts()
    assert (counts["cancelled"], counts["queued"], counts["sent"]) == (2, 1, 1)
    assert not campaign.resume()
    assert not campaign.pause()


def test_whoever_comes_second_is_told_so() -> None:
    campaign = sending(pending=1)
    same = Campaign.objects.get(pk=campaign.pk)

    assert campaign.cancel()
    assert not same.pause()
    assert same.status == "cancelled"


def test_a_message_left_behind_by_a_pause_that_crossed_a_resume_is_put_right() -> None:
    campaign = sending(paused=1)

    assert Campaign.objects.process()["messages_moved"] == 1
    assert campaign.counts()["pending"] == 1


@pytest.mark.parametrize("status", BroadcastMessage.OPEN)
def test_a_campaign_with_something_open_is_not_finished(status: str) -> None:
    campaign = sending(**{status: 1}, sent=1)

    assert Campaign.objects.finish() == 0
    campaign.refresh_from_db()
    assert campaign.status == "sending"


def test_a_campaign_is_finished_when_nothing_is_open_unknown_or_not() -> None:
    campaign = sending(sent=2, failed=1, unknown=1, skipped=1, expired=1)

    assert Campaign.objects.finish() == 1
    campaign.refresh_from_db()
    assert campaign.status == "finished"
    assert campaign.finished_at is not None


@pytest.mark.parametrize(
    ("ended", "verb"),
    [
        ("failed", "retry_failed"),
        ("expired", "reschedule_expired"),
        ("unknown", "settle_as_not_sent"),
    ],
)
def test_a_finished_campaign_of_which_something_is_tried_again_is_sending_at_once(
    ended: str, verb: str
) -> None:
    campaign, other = sending(sent=1, **{ended: 1}), sending(sent=1)
    Campaign.objects.finish()

    assert getattr(campaign.messages.all(), verb)() == 1

    campaign.refresh_from_db()
    other.refresh_from_db()
    assert (campaign.status, campaign.finished_at) == ("sending", None)
    assert other.status == "finished"


def test_what_goes_on_of_a_finished_campaign_by_itself_is_written_down_by_the_scheduler() -> None:
    campaign = sending(unknown=1)
    Campaign.objects.finish()
    campaign.messages.update(status="pending")  # as when the transport remembers no such message

    assert Campaign.objects.process()["reopened"] == 1
    campaign.refresh_from_db()
    assert campaign.status == "sending"


@pytest.mark.parametrize("body", ["Hi {nam}", "Hi {name", "Hi name}", "{a|b}", "Hi {{name}}"])
def test_a_placeholder_that_would_reach_a_customer_unfilled_is_refused(body: str) -> None:
    with pytest.raises(ValidationError) as error:
        CampaignFactory.build(message=body).clean_fields()

    assert "message" in error.value.message_dict


def test_a_draft_can_be_discarded_and_nothing_else() -> None:
    draft, sent = CampaignFactory(), sending(sent=1)

    assert draft.discard()
    assert not sent.discard()
    assert list(Campaign.objects.all()) == [sent]


def test_a_draft_that_was_scheduled_meanwhile_is_not_discarded() -> None:
    draft = CampaignFactory()
    Campaign.objects.get(pk=draft.pk).schedule()

    assert not draft.discard()
    assert Campaign.objects.get().status == "scheduled"
