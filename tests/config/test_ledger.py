"""The books must be able to be wrong: each rule is broken once, and must be found."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from config import ledger
from config.invariants import PASSES
from devices.models import Device, SimulatedMessage
from leads.import_results import Options
from leads.importing import LeadImport
from leads.models import Niche
from sequences.models import Sequence
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceContactFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db


LONG_AGO = timezone.now() - timedelta(hours=5)


def violations(campaign: Campaign | None = None) -> list[ledger.Violation]:
    return ledger.violations(campaign, again_after_seconds=0)


def reception() -> ledger.Reception:
    return ledger.reception(again_after_seconds=0)


def sent_and_received() -> BroadcastMessage:
    now = timezone.now()
    message = BroadcastMessageFactory(
        status="sent", queued_at=now, sent_at=now, finished_at=now, attempts=1,
        processing_worker_id="w/1", processing_started_at=now, lease_epoch=1,
    )  # fmt: skip
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
        {"status": "processing", "lease_epoch": 2, "finished_at": None, "sent_at": None},
        {"status": "processing", "processing_started_at": LONG_AGO, "sent_at": None,
         "finished_at": None},
        {"status": "pending", "finished_at": None},
        {"status": "lost"},
        {"status": "cancelled"},
        {"queued_at": None},
        {"attempts": 0},
        {"sent_at": LONG_AGO},
        {"status": "cancelled", "sent_at": None, "delivered_at": LONG_AGO},
        {"read_at": LONG_AGO},
        {"restarts": 1},
        {"status": "paused", "sent_at": None, "finished_at": None, "processing_worker_id": None},
        {"sent_at": None},
        {"finished_at": None},
        {"status": "skipped", "skip_reason": ""},
        {"status": "failed", "error_code": ""},
        {"status": "pending", "processing_worker_id": None, "finished_at": None, "device": None},
    ],
    ids=str,
)  # fmt: skip
def test_each_broken_rule_is_found(broken: dict[str, object]) -> None:
    message = sent_and_received()
    BroadcastMessage.objects.filter(pk=message.pk).update(**broken)

    assert violations()


def test_a_second_copy_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    receive(sent_and_received())

    with pytest.raises(SystemExit) as stop:
        call_command("verify_ledger", again_after=0)

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

    assert reception() == ledger.Reception(recorded=Counter(sent=1), received=Counter(sent=1))


@pytest.mark.parametrize("status", ["sent", "unknown"])
def test_a_device_that_has_another_transport_now_leaves_the_books_in_order(status: str) -> None:
    """Or had from the start: a world of somebody's own is a transport by another name."""
    message = sent_and_received()
    BroadcastMessage.objects.update(status=status, provider_message_id=None)
    Device.objects.update(transport="folder")

    assert reception() == ledger.Reception(
        recorded=Counter({status: 1}), received=Counter({status: 1})
    )

    receive(message)
    assert len(reception().twice) == 1


@pytest.mark.parametrize(("its_id", "missing"), [("SIM01", 1), ("3EB0C7", 0)], ids=str)
def test_only_who_was_written_to_by_the_simulator_must_have_received_it(
    its_id: str, missing: int
) -> None:
    """Whatever transport the device has now."""
    message = sent_and_received()
    BroadcastMessage.objects.update(provider_message_id=its_id)
    receive(BroadcastMessageFactory(device=message.device, campaign=message.campaign))
    SimulatedMessage.objects.filter(key=message.key).delete()

    for transport in (Device.SIMULATOR, "folder"):
        Device.objects.update(transport=transport)
        assert len(reception().sent_but_missing) == missing


def test_one_who_received_nothing_is_found() -> None:
    sent_and_received()
    SimulatedMessage.objects.all().delete()

    assert len(reception().sent_but_missing) == 1


def test_one_who_received_it_against_the_record_is_found() -> None:
    message = sent_and_received()
    BroadcastMessage.objects.filter(pk=message.pk).update(status="pending")

    assert len(reception().received_against_the_record) == 1


@pytest.mark.parametrize("change", [{"phone": "60199999999"}, {"key": "message-0"}], ids=str)
def test_what_went_astray_or_came_from_nowhere_is_found(
    change: dict[str, str],
) -> None:
    sent_and_received()
    SimulatedMessage.objects.update(**change)

    found = reception()

    assert len(found.received_from_nowhere) == 1
    assert len(found.sent_but_missing) == 1


@pytest.mark.parametrize(
    ("target_status", "niches", "audience"),
    [("", [], 4), ("customer", [], 2), ("", ["VITAC"], 2), ("", ["VITAC", "EXSTART"], 3),
     ("customer", ["VITAC", "EXSTART"], 1)],
)  # fmt: skip
def test_a_lead_without_a_message_is_found_in_every_kind_of_audience(
    target_status: str, niches: list[str], audience: int
) -> None:
    DeviceFactory()
    LeadFactory(status="customer")
    LeadFactory(status="customer", niches=["VITAC", "EXSTART"])
    LeadFactory(niches=["VITAC"])
    LeadFactory(niches=["EXSTART"])
    campaign = CampaignFactory(target_status=target_status)
    campaign.niches.add(*Niche.ensure(niches).values())
    campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.audience_size == audience
    assert violations() == []

    forgotten = campaign.messages.first()
    forgotten.delete()
    Campaign.objects.update(audience_size=audience - 1)

    for (violation,) in (violations(campaign), violations()):
        assert "Every lead" in violation.rule
        assert violation.examples == [f"{campaign}: {forgotten.lead}"]


def test_who_lost_the_one_niche_of_a_campaign_is_not_forgotten() -> None:
    """The campaign keeps what it sent; without its niche it is for nobody, not for everybody."""
    DeviceFactory()
    LeadFactory(niches=["VITAC"])
    LeadFactory()
    campaign = CampaignFactory()
    campaign.niches.add(Niche.objects.get())
    campaign.schedule()
    Campaign.objects.process()

    Niche.objects.all().delete()

    assert violations() == []


def test_numbers_that_do_not_add_up_are_found() -> None:
    message = sent_and_received()
    Campaign.objects.update(audience_size=2)

    (violation,) = violations(message.campaign)
    assert "add up" in violation.rule


def test_who_got_a_niche_later_is_not_forgotten(admin_client: Client) -> None:
    """By an import, or on the lead's page: either way the audience has grown since."""
    DeviceFactory()
    [vitac] = Niche.ensure(["VITAC"]).values()
    imported, edited = LeadFactory(phone="60123456789"), LeadFactory()
    LeadFactory(niches=["VITAC"])
    campaign = CampaignFactory()
    campaign.niches.add(vitac)
    campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()

    text = f"phone,niche\n{imported.phone},VITAC\n"
    LeadImport(io.BytesIO(text.encode()), Options(region="MY")).run()
    page = reverse("admin:leads_lead_change", args=[edited.pk])
    fields = admin_client.get(page).context["adminform"].form.initial
    form = {name: value for name, value in fields.items() if value not in (None, [])}
    assert admin_client.post(page, form | {"niches": [vitac.pk]}).status_code == 302

    assert vitac.leads.count() == 3
    assert violations(campaign) == []


def test_a_device_that_counts_fewer_than_it_sends_is_found() -> None:
    message = sent_and_received()
    device = Device.objects.filter(pk=message.device.pk)
    today = timezone.now().astimezone(message.device.zone).date()
    device.update(usage_day=today, usage_day_count=1)
    assert violations() == []

    device.update(usage_day_count=0)

    (violation,) = violations()
    assert "counts what it sends" in violation.rule
    device.update(usage_day_count=1)
    BroadcastMessage.objects.update(priority=BroadcastMessage.Priority.CAMPAIGN_FIRST)
    assert [violation.rule for violation in violations()] == [violation.rule]
    device.update(usage_first_count=1)
    assert violations() == []


@pytest.mark.parametrize("lease", [{"lease_expires_at": None}, {"worker_id": ""}], ids=str)
def test_half_a_lease_is_found(lease: dict[str, object]) -> None:
    message = sent_and_received()
    Device.objects.filter(pk=message.device.pk).update(**lease)

    (violation,) = violations()
    assert "lease" in violation.rule


@pytest.mark.parametrize(
    "broken",
    [{"next_due_at": None}, {"finished_at": LONG_AGO}, {"status": "completed"},
     {"status": "stopped", "next_due_at": None, "finished_at": LONG_AGO}],
    ids=str,
)  # fmt: skip
def test_a_contact_in_two_states_is_found(broken: dict[str, object]) -> None:
    contact = SequenceContactFactory(next_due_at=timezone.now())
    assert violations() == []

    type(contact).objects.update(**broken)

    assert len(violations()) == 1


@pytest.mark.parametrize("status", ["finished", "cancelled"])
def test_what_waits_for_a_campaign_that_is_over_is_found(status: str) -> None:
    message = BroadcastMessageFactory(scheduled_at=LONG_AGO)
    Campaign.objects.update(status=status, finished_at=LONG_AGO, audience_size=1)

    (violation,) = violations(message.campaign)
    assert "nothing waits" in violation.rule


@pytest.mark.parametrize("since", [timedelta(minutes=1), timedelta(hours=1)], ids=str)
def test_what_is_too_late_and_waits_all_the_same_is_found(since: timedelta) -> None:
    """Once the scheduler has had its passes."""
    message = BroadcastMessageFactory(scheduled_at=LONG_AGO, expires_at=timezone.now() - since)
    Campaign.objects.update(audience_size=1)

    found = [violation.rule for violation in violations(message.campaign)]

    assert found == ["What is too late to be sent does not wait"] * (since > PASSES)


@pytest.mark.parametrize("since", [timedelta(minutes=1), timedelta(hours=1)], ids=str)
@pytest.mark.parametrize("of", ["campaign", "sequence"])
def test_what_is_paused_and_waits_all_the_same_is_found(of: str, since: timedelta) -> None:
    step = SequenceStepFactory()
    owner = {"sequence": step.sequence, "sequence_step": step, "campaign": None}
    BroadcastMessageFactory(scheduled_at=LONG_AGO, **(owner if of == "sequence" else {}))
    Campaign.objects.update(audience_size=1)
    assert violations() == []

    for model in (Campaign, Sequence):
        model.objects.update(status="paused", paused_at=timezone.now() - since)

    found = [violation.rule for violation in violations()]
    assert found == ["Nothing of what is paused waits"] * (since > PASSES)


@pytest.mark.parametrize(
    "change", [{"attempts": 1}, {"scheduled_at": timezone.now()}], ids=["back", "rescheduled"]
)
def test_what_waits_since_just_now_is_left_to_the_next_pass(change: dict[str, object]) -> None:
    """It came back from the wire, or a person sent it on its way again."""
    BroadcastMessageFactory(scheduled_at=LONG_AGO, expires_at=LONG_AGO)
    Campaign.objects.update(audience_size=1, status="paused", paused_at=LONG_AGO)
    assert len(violations()) == 2

    BroadcastMessage.objects.update(**change)

    assert violations() == []


def test_what_comes_right_while_it_is_looked_at_is_no_offence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A receipt writes when a message was delivered, and only then that it was sent."""
    message = sent_and_received()
    BroadcastMessage.objects.update(status="unknown", error_code="timed_out")
    assert violations()

    def settle(_seconds: float) -> None:
        BroadcastMessage.objects.filter(pk=message.pk).update(status="sent", error_code="")

    monkeypatch.setattr(ledger.time, "sleep", settle)
    assert violations() == []


def test_books_of_any_size_take_the_same_number_of_statements(
    django_assert_num_queries: Callable[..., Any],
) -> None:
    """Also where a lead is in no audience: of another status, without the niche, or the niche is
    gone that the campaign was for."""
    DeviceFactory()
    LeadFactory.create_batch(2)
    kept, lost = Niche.ensure(["VITAC", "EXSTART"]).values()
    LeadFactory(status="customer").niches.set([kept, lost])
    CampaignFactory().schedule()
    Campaign.objects.process()
    with CaptureQueriesContext(connection) as few:
        assert violations() == []
    CampaignFactory(target_status="customer").schedule()
    for niche in (kept, lost):
        campaign = CampaignFactory()
        campaign.niches.add(niche)
        campaign.schedule()
    Campaign.objects.process()
    lost.delete()

    with django_assert_num_queries(len(few)):
        assert violations() == []
    assert BroadcastMessage.objects.count() == 6


def test_a_campaign_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(CommandError, match="no campaign 7"):
        call_command("verify_ledger", campaign=7)
