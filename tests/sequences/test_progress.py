from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now
from django.utils import timezone

from attachments.models import KEPT_FOR, Attachment
from broadcasts.models import BroadcastMessage
from devices.models import Device
from leads.models import Trigger
from sequences import progress
from sequences.models import Sequence, SequenceContact, SequenceStep
from tests.factories import (
    AttachmentFactory,
    DeviceFactory,
    LeadFactory,
    SequenceFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db
DAY = 86_400


@pytest.fixture(autouse=True)
def device(db: None) -> Device:
    return DeviceFactory()


def drip(*delays: int, trigger: str = "COLDVITAC") -> Sequence:
    sequence = SequenceFactory(trigger=Trigger.ensure([trigger])[trigger])
    for position, delay in enumerate(delays, start=1):
        SequenceStepFactory(sequence=sequence, position=position, delay_seconds=delay)
    return sequence


def process() -> dict[str, int]:
    return Sequence.objects.process()


def let_a_day_pass() -> None:
    SequenceContact.objects.filter(next_due_at__isnull=False).update(
        next_due_at=timezone.now() - timedelta(seconds=1)
    )


def steps_of(phone: str) -> list[int]:
    rows = BroadcastMessage.objects.filter(recipient_phone=phone).order_by("pk")
    return list(rows.values_list("sequence_step__position", flat=True))


def test_a_lead_with_the_trigger_is_enrolled_once() -> None:
    drip(DAY)
    LeadFactory(triggers=["COLDVITAC"])

    assert process()["enrolled"] == 1
    assert process()["enrolled"] == 0
    assert SequenceContact.objects.count() == 1


def test_a_step_s_messages_carry_its_file_and_keep_it_when_it_gets_another() -> None:
    sequence = drip(0, 0)
    step = sequence.steps.all()[0]
    old, new = AttachmentFactory.create_batch(2)
    SequenceStep.objects.filter(pk=step.pk).update(attachment=old)
    for attachment in (old, new):
        LeadFactory(triggers=["COLDVITAC"])
        SequenceStep.objects.filter(pk=step.pk).update(attachment=attachment)
        process()

    carried = BroadcastMessage.objects.filter(sequence_step=step).order_by("pk")
    assert [message.attachment for message in carried] == [old, new]
    Attachment.objects.update(kept_at=Now() - KEPT_FOR * 2)
    assert Attachment.objects.sweep() == 0
    others = BroadcastMessage.objects.exclude(sequence_step=step)
    assert {message.attachment for message in others} <= {None}


def test_triggers_are_matched_exactly() -> None:
    drip(DAY, trigger="HOT")
    LeadFactory(triggers=["HOTVITAC"])

    assert process()["enrolled"] == 0


def test_the_first_step_waits_for_its_own_delay() -> None:
    drip(DAY)
    LeadFactory(triggers=["COLDVITAC"])

    process()

    contact = SequenceContact.objects.get()
    assert contact.next_due_at > timezone.now() + timedelta(hours=23)
    assert not BroadcastMessage.objects.exists()


def test_a_due_contact_gets_the_step_and_moves_on() -> None:
    drip(0, DAY)
    lead = LeadFactory(triggers=["COLDVITAC"], name="Siti")

    assert process()["queued"] == 1

    message = BroadcastMessage.objects.get()
    assert (message.recipient_phone, message.status) == (lead.phone, "pending")
    assert message.body == "Hi Siti, one more thing."
    assert message.priority == BroadcastMessage.Priority.SEQUENCE_FIRST
    contact = SequenceContact.objects.get()
    assert contact.next_step.position == 2
    assert contact.next_due_at > timezone.now() + timedelta(hours=23)
    assert process()["queued"] == 0


def test_the_steps_come_in_their_order_to_the_end() -> None:
    drip(0, DAY, DAY)
    lead = LeadFactory(triggers=["COLDVITAC"])

    for _ in range(4):
        process()
        let_a_day_pass()

    assert steps_of(lead.phone) == [1, 2, 3]
    contact = SequenceContact.objects.get()
    assert (contact.status, contact.next_step) == ("completed", None)
    assert contact.finished_at is not None


def test_a_step_to_somebody_the_device_has_talked_with_is_no_first_contact() -> None:
    drip(0)
    device = Device.objects.get()
    lead = LeadFactory(triggers=["COLDVITAC"], device=device, replied_to=device)

    process()

    message = BroadcastMessage.objects.get(recipient_phone=lead.phone)
    assert message.priority == BroadcastMessage.Priority.SEQUENCE


def test_what_another_scheduler_enrolled_this_moment_is_not_counted_again() -> None:
    sequence = drip(0)
    leads = LeadFactory.create_batch(3, triggers=["COLDVITAC"])
    first = sequence.steps.get()
    ids = [lead.pk for lead in leads]
    assert progress._enrol(sequence, first, ids[:2]) == 2
    assert progress._enrol(sequence, first, ids) == 1
    assert sequence.contacts.count() == 3


@pytest.mark.parametrize("change", [{"status": "paused"}, {"trigger": "OTHER"}])
def test_a_pass_enrols_nobody_any_more_once_the_operator_changed_it(change: dict) -> None:
    sequence = drip(0)
    LeadFactory(triggers=["COLDVITAC"])
    if "trigger" in change:
        change = {"trigger": Trigger.ensure(["OTHER"])["OTHER"]}
    Sequence.objects.update(**change)  # since the pass has read it
    assert progress.enrol(sequence) == 0
    assert not sequence.contacts.exists()


def test_a_step_that_somebody_had_already_is_not_counted_as_queued() -> None:
    drip(0, DAY)
    lead, other = LeadFactory.create_batch(2, triggers=["COLDVITAC"])
    process()
    phone = lead.phone
    lead.delete()
    again = LeadFactory(phone=phone, triggers=["COLDVITAC"])
    LeadFactory(triggers=["COLDVITAC"])

    counts = process()

    assert counts == {
        "enrolled": 2, "queued": 1, "skipped": 0, "completed": 0, "messages_moved": 0,
    }  # fmt: skip
    assert steps_of(phone) == [1]
    assert SequenceContact.objects.get(lead=again).next_step.position == 2
    assert steps_of(other.phone) == [1]


def test_a_step_that_somebody_had_already_is_not_counted_as_skipped() -> None:
    drip(0, DAY)
    lead = LeadFactory(triggers=["COLDVITAC"])
    process()
    phone = lead.phone
    lead.delete()
    LeadFactory(phone=phone, triggers=["COLDVITAC"], opted_out=True)

    assert process()["skipped"] == 0

    assert SequenceContact.objects.get().stop_reason == "opted_out"
    assert BroadcastMessage.objects.get().status == "pending"


def test_the_command_prints_what_it_really_did(capsys: pytest.CaptureFixture[str]) -> None:
    drip(0)
    LeadFactory(triggers=["COLDVITAC"])
    for said in (
        "enrolled 1, queued 1, skipped 0, completed 1, messages_moved 0",
        "enrolled 0, queued 0, skipped 0, completed 0, messages_moved 0",
    ):
        call_command("process_sequences")
        assert capsys.readouterr().out.strip() == said


def test_a_contact_that_another_scheduler_moved_on_gets_no_step_twice() -> None:
    sequence = drip(0, 0)
    lead = LeadFactory(triggers=["COLDVITAC"])
    progress.enrol(sequence)
    steps = list(sequence.steps.all())
    read_by_both = list(sequence.contacts.due())
    allocation = progress.Allocation(
        Device.objects.all(), starts_at=timezone.now(), priority=BroadcastMessage.Priority.SEQUENCE
    )

    first = progress._advance_chunk(sequence, steps, read_by_both, allocation, timezone.now())
    second = progress._advance_chunk(sequence, steps, read_by_both, allocation, timezone.now())

    assert (first.total(), second.total()) == (1, 0)
    assert steps_of(lead.phone) == [1]
    assert SequenceContact.objects.get().next_step.position == 2


@pytest.mark.parametrize(
    ("lead", "reason"),
    [({"opted_out": True}, "opted_out"), ({"without_consent": True}, "no_consent")],
)
def test_who_may_not_be_messaged_is_stopped_and_shown(lead: dict[str, bool], reason: str) -> None:
    drip(0, 0)
    LeadFactory(triggers=["COLDVITAC"], **lead)

    assert process()["skipped"] == 1

    message, contact = BroadcastMessage.objects.get(), SequenceContact.objects.get()
    assert (message.status, message.skip_reason) == ("skipped", reason)
    assert (contact.status, contact.stop_reason) == ("stopped", reason)
    assert process()["skipped"] == 0


def test_a_paused_sequence_neither_enrols_nor_sends() -> None:
    sequence = drip(0)
    LeadFactory(triggers=["COLDVITAC"])
    assert sequence.pause()

    assert process()["enrolled"] == 0

    assert sequence.activate()
    assert process()["queued"] == 1


def test_pausing_holds_what_already_waits() -> None:
    sequence = drip(0)
    LeadFactory(triggers=["COLDVITAC"])
    process()

    assert sequence.pause()
    assert BroadcastMessage.objects.get().status == "paused"
    assert sequence.activate()
    assert BroadcastMessage.objects.get().status == "pending"


def test_a_sequence_without_steps_cannot_be_activated() -> None:
    sequence = SequenceFactory(status=Sequence.Status.DRAFT)

    assert not sequence.activate()
    SequenceStepFactory(sequence=sequence)
    assert sequence.activate()
    assert not sequence.activate()


def test_a_step_added_later_reaches_those_who_are_still_in_it() -> None:
    sequence = drip(0, DAY)
    lead = LeadFactory(triggers=["COLDVITAC"])
    process()
    SequenceStepFactory(sequence=sequence, position=3, delay_seconds=0)

    for _ in range(2):
        let_a_day_pass()
        process()

    assert steps_of(lead.phone) == [1, 2, 3]


def test_without_a_device_contacts_wait() -> None:
    drip(0)
    LeadFactory(triggers=["COLDVITAC"])
    Device.objects.update(enabled=False)

    assert process()["queued"] == 0

    Device.objects.update(enabled=True)
    assert process()["queued"] == 1


def test_a_sequence_that_fails_does_not_hold_up_the_others(device: Device) -> None:
    """Its device may send again at the end of all time."""
    failing, other = drip(0, trigger="FIRST"), drip(0, trigger="SECOND")
    never = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    failing.devices.add(DeviceFactory(next_send_at=never))
    other.devices.add(device)
    lead = LeadFactory(triggers=["FIRST", "SECOND"])

    with pytest.raises(OverflowError):
        process()

    assert BroadcastMessage.objects.get(recipient_phone=lead.phone).sequence == other


def test_more_than_a_chunk_moves_on_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "CHUNK", 3)
    drip(0)
    LeadFactory.create_batch(8, triggers=["COLDVITAC"])

    counts = process()

    assert (counts["enrolled"], counts["queued"], counts["completed"]) == (8, 8, 8)


def test_who_waits_for_a_step_that_is_deleted_gets_the_one_after_it() -> None:
    sequence = drip(0, DAY, DAY)
    lead = LeadFactory(triggers=["COLDVITAC"])
    process()

    sequence.steps.get(position=2).delete()
    let_a_day_pass()
    process()

    assert steps_of(lead.phone) == [1, 3]
    assert SequenceContact.objects.get().status == "completed"


def test_who_waits_for_the_last_step_when_it_is_deleted_is_done() -> None:
    sequence = drip(0, DAY)
    LeadFactory(triggers=["COLDVITAC"])
    process()

    sequence.steps.get(position=2).delete()
    let_a_day_pass()
    process()

    assert SequenceContact.objects.get().status == "completed"
