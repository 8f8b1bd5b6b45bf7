"""Asking WhatsApp who is on it, before the first message."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts import checking, inbound, pacing
from broadcasts.checking import Checks, Turn, strangers_next
from broadcasts.lease import Lease
from broadcasts.models import BroadcastMessage
from broadcasts.shelf import Shelf
from broadcasts.worker import Broadcaster
from config import ledger
from devices.models import Device, SimulatedMessage
from devices.transports import transport
from devices.transports.base import Inbound, OutgoingMessage
from devices.transports.simulator import SimulatorTransport, World
from leads.models import PRESENCE_LASTS, Lead
from tests.factories import BroadcastMessageFactory, DeviceFactory, LeadFactory
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

Priority = BroadcastMessage.Priority
LONG_AGO = PRESENCE_LASTS + timedelta(minutes=1)


class Session:
    """Knows who is on WhatsApp; nothing else of it is used here."""

    def __init__(self, **knows: str) -> None:
        self.knows = knows
        self.asked: list[list[str]] = []
        self.silent: set[str] = set()
        self.error: Exception | None = None

    def check(self, phones: Sequence[str]) -> Mapping[str, str]:
        self.asked.append(list(phones))
        if self.error:
            raise self.error
        told = {phone: self.knows.get(phone, phone) for phone in phones}
        return {phone: name for phone, name in told.items() if phone not in self.silent}

    def send(self, message: OutgoingMessage) -> None:
        raise AssertionError


def lease(device: Device, session: object) -> Lease:
    return Lease(device, 1, session, pacing.Pace.of(device), pacing.Slot.of(device), connected=True)


def first(device: Device, lead: Lead | None = None, **values: object) -> Lead:
    lead = lead or LeadFactory()
    values = {"priority": Priority.CAMPAIGN_FIRST} | values
    BroadcastMessageFactory(device=device, lead=lead, **values)
    return lead


def reasons() -> list[str]:
    return list(
        Lead.objects.with_skip_reason().order_by("pk").values_list("skip_reason", flat=True)
    )


def test_those_are_asked_about_whose_turn_is_next_and_of_whom_nothing_is_known() -> None:
    device, soon = DeviceFactory(), timezone.now()
    later = first(device, scheduled_at=soon + timedelta(hours=1))
    drip = first(device, priority=Priority.SEQUENCE_FIRST, scheduled_at=soon + timedelta(hours=2))
    nobody_new = first(device, priority=Priority.CAMPAIGN)
    another_s = first(DeviceFactory())
    known = [
        first(device, LeadFactory(on_whatsapp_at=soon)),
        first(device, LeadFactory(not_on_whatsapp_at=soon)),
        first(device, status="sent", sent_at=soon),
    ]
    forgotten = [
        first(device, LeadFactory(on_whatsapp_at=soon - LONG_AGO)),
        first(device, LeadFactory(not_on_whatsapp_at=soon - LONG_AGO)),
    ]
    found = strangers_next(device.pk)
    assert found == [lead.phone for lead in (drip, *forgotten, later)]
    assert not {lead.phone for lead in (nobody_new, another_s, *known)} & set(found)


def test_however_long_a_queue_is_its_head_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "AHEAD", 2)
    device = DeviceFactory()
    leads = [first(device) for _ in range(4)]
    Lead.objects.filter(pk=leads[0].pk).update(on_whatsapp_at=Now())
    assert strangers_next(device.pk) == [leads[1].phone]


def test_what_is_tried_again_takes_no_place_at_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "AHEAD", 1)
    device = DeviceFactory()
    first(device, LeadFactory(on_whatsapp_at=Now()), priority=Priority.CAMPAIGN_AGAIN_FIRST)
    stranger = first(device)
    assert strangers_next(device.pk) == [stranger.phone]


def test_what_whatsapp_says_is_written_down_at_the_lead() -> None:
    device = DeviceFactory()
    here, gone, renamed, silent = (first(device) for _ in range(4))
    session = Session(**{gone.phone: "", renamed.phone: "551187654321"})
    session.silent.add(silent.phone)

    Checks().look([Turn(lease(device, session))])

    for lead in (here, gone, renamed, silent):
        lead.refresh_from_db()
    assert here.on_whatsapp_at
    assert here.whatsapp_phone is None
    assert gone.not_on_whatsapp_at
    assert (renamed.on_whatsapp_at is not None, renamed.whatsapp_phone) == (True, "551187654321")
    assert (silent.on_whatsapp_at, silent.not_on_whatsapp_at) == (None, None)


@pytest.mark.parametrize("is_asked", [True, False])
def test_two_numbers_of_one_person_are_written_to_once(is_asked: bool) -> None:
    device, name = DeviceFactory(), "551187654321"
    known = LeadFactory(phone=name)
    if is_asked:
        first(device, known)
    spellings = [first(device, LeadFactory(phone=p)) for p in ("5511987654321", "55011987654321")]
    session = Session(**{lead.phone: name for lead in spellings})

    Checks().look([Turn(lease(device, session))])

    for lead in (known, *spellings):
        lead.refresh_from_db()
    assert [lead.whatsapp_phone for lead in spellings] == [name, name]
    assert reasons() == ["", "duplicate", "duplicate"]
    assert (known.on_whatsapp_at is not None) is is_asked
    assert set(Lead.objects.at(name)) == {known, *spellings}


def test_of_two_spellings_the_first_is_the_person() -> None:
    device = DeviceFactory()
    spellings = [first(device, LeadFactory(phone=p)) for p in ("5511987654321", "55011987654321")]
    session = Session(**{lead.phone: "551187654321" for lead in spellings})
    turn, checks = Turn(lease(device, session)), Checks()
    checks.look([turn])
    Lead.objects.update(on_whatsapp_at=None, not_on_whatsapp_at=None)
    turn.next_at, checks._asked = 0, {}
    checks.look([turn])  # and stays so

    assert reasons() == ["", "duplicate"]


def test_a_number_that_is_another_s_on_whatsapp_is_the_same_person() -> None:
    device, name = DeviceFactory(), "551187654321"
    LeadFactory(phone="5511987654321", whatsapp_phone=name)
    first(device, LeadFactory(phone=name))

    Checks().look([Turn(lease(device, Session()))])

    assert reasons() == ["", "duplicate"]


def test_whose_number_is_its_own_again_is_nobody_s_duplicate() -> None:
    name = "551187654321"
    other = LeadFactory(phone="5511987654321", whatsapp_phone=name)
    LeadFactory(phone=name)
    Lead.objects.mark_duplicates([name])
    assert reasons() == ["", "duplicate"]
    Lead.objects.note_presence({other.phone: other.phone})
    assert reasons() == ["", ""]


def test_a_stop_counts_for_every_number_of_a_person_known_now_or_later() -> None:
    name = "551187654321"
    LeadFactory(phone="5511987654321", whatsapp_phone=name)
    twin = LeadFactory(phone=name, opted_out=True, opt_out_source="wrote STOP")
    Lead.objects.mark_duplicates([name])
    assert reasons() == ["opted_out", "opted_out"]
    Lead.objects.update(opted_out_at=None)
    assert Lead.objects.filter(pk=twin.pk).opt_out(source="by phone") == 1
    assert reasons() == ["opted_out", "opted_out"]


def test_a_device_that_may_write_to_nobody_new_looks_nobody_up() -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    device, session = DeviceFactory(first_contacts_blocked_until=tomorrow), Session()
    first(device)
    Checks().look([Turn(lease(device, session))])
    assert session.asked == []


def test_no_more_are_asked_about_than_so_many_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "AT_ONCE", 2)
    device, session = DeviceFactory(), Session()
    leads = [first(device) for _ in range(3)]
    turn, checks = Turn(lease(device, session)), Checks()

    checks.look([turn])
    checks.look([turn])
    assert session.asked == [[lead.phone for lead in leads[:2]]]
    assert turn.next_at > time.monotonic() + 50

    turn.next_at = 0
    checks.look([turn])
    assert session.asked[1:] == [[leads[2].phone]]


def test_without_a_connection_nobody_is_asked() -> None:
    device, session = DeviceFactory(), Session()
    first(device)
    turn = Turn(lease(device, session))
    turn.lease.connected = False
    Checks().look([turn])
    assert session.asked == []


def test_an_account_that_gets_no_answer_asks_less_often_and_the_others_go_on() -> None:
    device, other = DeviceFactory.create_batch(2)
    session, others = Session(), Session()
    first(device)
    lead = first(other)
    session.error = RuntimeError("info query returned status 429")
    turns, checks = [Turn(lease(device, session)), Turn(lease(other, others))], Checks()

    checks.look(turns)
    assert others.asked == [[lead.phone]]
    assert [turn.pause_seconds for turn in turns] == [120, 60]
    for turn in turns:
        turn.next_at = 0
    checks.look(turns)
    assert len(session.asked) == 1  # who got no answer is not asked about at once again
    assert turns[0].pause_seconds == 60


def test_a_transport_that_cannot_tell_costs_nothing() -> None:
    device, checks = DeviceFactory(), Checks()
    session = SimulatorTransport().open(device, lambda event: None)
    checks.add(lease(device, session))
    assert (checks._turns, checks._thread) == ({}, None)
    session.close()


def test_the_thread_is_there_as_long_as_somebody_can_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checking, "LOOK_SECONDS", 0.01)
    device, checks, session = DeviceFactory(), Checks(), Session()
    lead = first(device)
    checks.add(lease(device, session))
    thread = checks._thread
    assert thread
    wait_until(lambda: Lead.objects.get(pk=lead.pk).on_whatsapp_at)
    checks.drop(device.pk)
    thread.join(20)
    assert checks._thread is None


def test_who_turns_out_not_to_be_there_is_left_out_and_costs_the_device_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checking, "LOOK_SECONDS", 0.01)
    world = World(not_on_whatsapp=1, checks=True)
    monkeypatch.setattr(transport("simulator"), "world", world)
    # Not before it may: so the look comes first.
    device = DeviceFactory(next_send_at=timezone.now() + timedelta(seconds=3))
    first(device)

    Broadcaster(drain=True).run()

    message = BroadcastMessage.objects.get()
    assert (message.status, message.skip_reason) == ("skipped", "not_on_whatsapp")
    assert (message.attempts, message.queued_at) == (0, None)
    device.refresh_from_db()
    assert device.usage_day_count == 0
    assert not SimulatedMessage.objects.exists()


def test_what_whatsapp_said_holds_for_a_while() -> None:
    lead = LeadFactory(not_on_whatsapp_at=timezone.now() - PRESENCE_LASTS + timedelta(hours=1))
    assert Lead.objects.with_skip_reason().get().skip_reason == "not_on_whatsapp"
    Lead.objects.filter(pk=lead.pk).update(not_on_whatsapp_at=Now() - LONG_AGO)
    assert Lead.objects.with_skip_reason().get().skip_reason == ""


def test_whom_whatsapp_knows_by_another_number_is_written_to_there_and_heard_from_there() -> None:
    device = DeviceFactory(online=True)
    lead = first(device, LeadFactory(phone="5511987654321", whatsapp_phone="551187654321"))
    (claimed,) = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[device.pk])
    assert Shelf().pack(claimed).phone == "551187654321"

    inbound._note_reply(device.pk, Inbound("551187654321", "STOP", timezone.now()))

    lead.refresh_from_db()
    assert lead.opted_out_at
    assert lead.replied_to == device


def test_the_books_find_a_message_at_the_number_that_whatsapp_knows() -> None:
    lead = LeadFactory(phone="5511987654321", whatsapp_phone="551187654321")
    message = BroadcastMessageFactory(lead=lead, status="sent", sent_at=timezone.now())
    SimulatedMessage.objects.create(
        device=message.device, phone="551187654321", key=message.key, body="Hi"
    )
    assert not ledger.reception(again_after_seconds=0).is_wrong
    SimulatedMessage.objects.create(
        device=message.device, phone="5511987654321", key=message.key, body="Hi"
    )
    assert len(ledger.reception(again_after_seconds=0).twice) == 1
