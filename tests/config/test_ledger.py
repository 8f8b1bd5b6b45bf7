"""The books must be able to be wrong: each rule is broken once, and must be found."""

from __future__ import annotations

from collections import Counter

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from config import ledger
from devices.models import SimulatedMessage
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db


def sent_and_received() -> BroadcastMessage:
    now = timezone.now()
    message = BroadcastMessageFactory(
        status="sent", sent_at=now, finished_at=now, processing_worker_id="w/1"
    )
    Campaign.objects.update(audience_size=1, audience_max_lead_id=message.lead.pk)
    receive(message)
    return message


def receive(message: BroadcastMessage) -> None:
    SimulatedMessage.objects.create(
        device=message.device, phone=message.recipient_phone, key=message.key, body="Hi"
    )


def test_books_in_order_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    message = sent_and_received()

    call_command("verify_ledger", campaign=message.campaign.pk)

    assert "nobody got it twice" in capsys.readouterr().out


@pytest.mark.parametrize(
    "broken",
    [
        {"status": "processing", "processing_worker_id": None, "finished_at": None},
        {"status": "pending", "finished_at": None},
        {"sent_at": None},
        {"finished_at": None},
        {"status": "skipped", "skip_reason": ""},
        {"status": "failed", "error_code": ""},
        {"status": "pending", "processing_worker_id": None, "finished_at": None, "device": None},
    ],
    ids=str,
)
def test_each_broken_rule_is_found(broken: dict[str, object]) -> None:
    message = sent_and_received()
    BroadcastMessage.objects.filter(pk=message.pk).update(**broken)

    assert list(ledger.violations())


def test_a_second_copy_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    receive(sent_and_received())

    with pytest.raises(SystemExit) as stop:
        call_command("verify_ledger")

    assert stop.value.code == 1
    assert "2 copies" in capsys.readouterr().out


def test_a_copy_that_a_person_asked_for_is_no_second_copy() -> None:
    message = sent_and_received()
    BroadcastMessage.objects.update(status="unknown", error_code="timed_out")
    BroadcastMessage.objects.settle_as_not_sent()
    now = timezone.now()
    BroadcastMessage.objects.update(status="sent", sent_at=now, finished_at=now)
    message.refresh_from_db()
    receive(message)

    assert ledger.reception() == ledger.Reception(
        recorded=Counter(sent=1), received=Counter(sent=1)
    )


def test_one_who_received_nothing_is_found() -> None:
    sent_and_received()
    SimulatedMessage.objects.all().delete()

    assert len(ledger.reception().sent_but_missing) == 1


def test_one_who_received_it_against_the_record_is_found() -> None:
    message = sent_and_received()
    BroadcastMessage.objects.filter(pk=message.pk).update(status="pending")

    assert len(ledger.reception().received_against_the_record) == 1


@pytest.mark.parametrize("change", [{"phone": "60199999999"}, {"key": "message-0"}], ids=str)
def test_what_went_astray_or_came_from_nowhere_is_found(
    change: dict[str, str],
) -> None:
    sent_and_received()
    SimulatedMessage.objects.update(**change)

    reception = ledger.reception()

    assert len(reception.received_from_nowhere) == 1
    assert len(reception.sent_but_missing) == 1


def test_a_lead_without_a_message_is_found() -> None:
    DeviceFactory()
    LeadFactory.create_batch(3)
    campaign = CampaignFactory()
    campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert list(ledger.violations(campaign)) == []

    campaign.messages.first().delete()
    Campaign.objects.update(audience_size=2)

    (violation,) = ledger.violations(campaign)
    assert "Every lead" in violation.rule


def test_numbers_that_do_not_add_up_are_found() -> None:
    message = sent_and_received()
    Campaign.objects.update(audience_size=2)

    (violation,) = ledger.violations(message.campaign)
    assert "add up" in violation.rule


def test_a_campaign_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(CommandError, match="no campaign 7"):
        call_command("verify_ledger", campaign=7)
