"""The broadcaster's loop in this process, with the real simulator at a thousand times its pace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import OperationalError
from django.utils import timezone

from broadcasts import lookout, outcomes, worker
from broadcasts.leases import clock
from broadcasts.models import BroadcastMessage
from broadcasts.queryset import INTERRUPTED
from broadcasts.worker import Broadcaster
from campaigns.models import Campaign
from devices.models import Device, SimulatedMessage
from devices.transports import simulator, transport
from devices.transports.base import Connected
from devices.transports.simulator import World
from leads.models import Lead
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

KIND = World(not_on_whatsapp=0, media_host_down=0, replies=0, opts_out=0, delivered=1, read=1)


@pytest.fixture(autouse=True)
def world(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    settings.SIMULATOR_SPEED = 1000

    def make(**traits: object) -> None:
        traits = {name: getattr(KIND, name) for name in World.__slots__} | traits
        monkeypatch.setattr(transport("simulator"), "world", World(**traits))  # type: ignore[arg-type]

    make()
    return make


def campaign_to(*leads: Lead, device: Device | None = None) -> Campaign:
    device = device or DeviceFactory()
    campaign = CampaignFactory(sending=True)
    for lead in leads:
        BroadcastMessageFactory(campaign=campaign, lead=lead, device=device)
    return campaign


def drain() -> None:
    Broadcaster(drain=True).run()


def run_until(condition: Callable[[], object]) -> None:
    """Runs a broadcaster beside this test until the condition holds."""
    broadcaster = Broadcaster()

    def watch() -> None:
        try:
            wait_until(condition)
        finally:
            broadcaster.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    broadcaster.run()
    watcher.join()
    assert condition()


def bubbles(phone: str) -> list[str]:
    return list(SimulatedMessage.objects.filter(phone=phone).values_list("body", flat=True))


def test_what_comes_in_does_not_wait_for_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TICK_SECONDS", 300.0)
    campaign = campaign_to(LeadFactory())
    broadcaster = Broadcaster()
    thread = threading.Thread(target=broadcaster.run)
    thread.start()
    try:
        wait_until(lambda: campaign.messages.filter(status="sent").exists())
    finally:
        broadcaster.stop()
        broadcaster._has_come_in.set()
        thread.join()


def test_everybody_receives_the_text_that_was_queued() -> None:
    leads = LeadFactory.create_batch(5)
    campaign = campaign_to(*leads)

    drain()

    assert campaign.counts()["sent"] == 5
    for lead in leads:
        assert bubbles(lead.phone) == ["Hi there, the shop is open."]


def test_who_opted_out_since_it_was_queued_receives_nothing() -> None:
    lead = LeadFactory()
    campaign = campaign_to(lead)
    Lead.objects.filter(pk=lead.pk).opt_out(source="by phone")

    drain()

    message = campaign.messages.get()
    assert (message.status, message.skip_reason) == ("skipped", "opted_out")
    assert bubbles(lead.phone) == []


def test_who_was_deleted_since_it_was_queued_receives_nothing() -> None:
    lead = LeadFactory()
    campaign = campaign_to(lead)
    lead.delete()

    drain()

    message = campaign.messages.get()
    assert (message.status, message.skip_reason) == ("skipped", "lead_deleted")
    assert bubbles(message.recipient_phone) == []


def test_a_test_message_needs_no_lead() -> None:
    BroadcastMessageFactory(
        device=DeviceFactory(), lead=None, campaign=None, priority=0, recipient_phone="60123456789",
        recipient_name="",
    )  # fmt: skip

    drain()

    assert len(bubbles("60123456789")) == 1


def test_who_is_not_on_whatsapp_is_left_out_now_and_next_time(
    world: Callable[..., None],
) -> None:
    world(not_on_whatsapp=1)
    lead = LeadFactory()
    campaign = campaign_to(lead)

    drain()

    message = campaign.messages.get()
    assert (message.status, message.skip_reason) == ("skipped", "not_on_whatsapp")
    assert (message.attempts, message.error_code) == (1, "")
    assert Lead.objects.with_skip_reason().get(pk=lead.pk).skip_reason == "not_on_whatsapp"


def test_an_answer_that_got_lost_leaves_the_message_unknown(
    world: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world(answer_lost=1, delivered=0)
    monkeypatch.setattr(simulator.SimulatorSession, "recall", lambda *_: None)
    lead = LeadFactory()
    campaign = campaign_to(lead)

    drain()

    assert campaign.messages.get().status == "unknown"
    assert len(bubbles(lead.phone)) == 1


def test_a_receipt_settles_an_answer_that_got_lost(
    world: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world(answer_lost=1)
    monkeypatch.setattr(simulator.SimulatorSession, "recall", lambda *_: None)
    lead = LeadFactory()
    campaign = campaign_to(lead)

    run_until(lambda: campaign.counts()["sent"])

    assert campaign.messages.get().delivered_at is not None
    assert len(bubbles(lead.phone)) == 1


def test_a_restricted_device_keeps_its_messages_until_the_restriction_ends(
    world: Callable[..., None],
) -> None:
    world(blocked=1)
    campaign = campaign_to(LeadFactory())
    run_until(lambda: Device.objects.get().status == "restricted")
    Device.objects.update(restricted_until=timezone.now() + timedelta(hours=1))
    assert campaign.messages.get().status == "pending"

    world()
    other = campaign_to(LeadFactory(), device=DeviceFactory())
    run_until(lambda: other.counts()["sent"])
    assert campaign.messages.get().status == "pending", "a new connection lifted the restriction"

    Device.objects.filter(status="restricted").update(
        restricted_until=timezone.now() - timedelta(seconds=1)
    )
    drain()

    assert campaign.messages.get().status == "sent"


def test_delivered_and_read_are_written_down() -> None:
    campaign = campaign_to(LeadFactory())

    run_until(lambda: campaign.messages.filter(read_at__isnull=False).exists())

    message = campaign.messages.get()
    assert message.sent_at <= message.read_at
    assert message.delivered_at is not None


def test_a_reply_of_stop_opts_the_lead_out(world: Callable[..., None]) -> None:
    world(opts_out=1)
    lead = LeadFactory()
    campaign_to(lead)

    run_until(lambda: Lead.objects.get(pk=lead.pk).opted_out_at)

    lead.refresh_from_db()
    assert "STOP" in lead.opt_out_source
    assert lead.last_replied_at is not None


def test_a_device_outside_its_sending_hours_sends_nothing() -> None:
    now = timezone.now()
    closed = DeviceFactory(
        timezone="UTC",
        sends_from=(now + timedelta(hours=2)).time(),
        sends_until=(now + timedelta(hours=4)).time(),
    )
    waiting, sent = campaign_to(LeadFactory(), device=closed), campaign_to(LeadFactory())

    run_until(lambda: sent.counts()["sent"])

    assert waiting.counts()["pending"] == 1


def test_a_device_that_is_switched_off_is_given_back() -> None:
    campaign = campaign_to(LeadFactory())
    Device.objects.update(enabled=False)
    other = campaign_to(LeadFactory())

    run_until(lambda: other.counts()["sent"])

    assert campaign.counts()["pending"] == 1
    assert list(Device.objects.filter(enabled=False).values_list("lease_epoch", flat=True)) == [0]


def test_pauses_are_kept_through_a_restart(settings: LazySettings) -> None:
    settings.SIMULATOR_SPEED = 1
    campaign = campaign_to(*LeadFactory.create_batch(2))
    run_until(lambda: campaign.counts()["sent"] == 1)

    broadcaster = Broadcaster()
    threading.Timer(2, broadcaster.stop).start()  # the pause is 5 seconds at least
    broadcaster.run()

    assert campaign.counts()["pending"] == 1
    assert Device.objects.get().next_send_at > timezone.now()


def test_a_device_whose_pause_is_not_quite_over_by_the_database_is_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "LONGEST_PAUSE_SECONDS", 300.0)
    monkeypatch.setattr(lookout, "LOOK_SECONDS_A_DEVICE", 300.0)
    campaign = campaign_to(LeadFactory())
    soon = timezone.now() + timedelta(seconds=1)
    Device.objects.update(next_send_at=soon)
    broadcaster = Broadcaster()
    broadcaster.turn()
    broadcaster._leases._clock_offset += 0.4  # ahead of the database's clock

    def is_sent() -> bool:
        broadcaster.turn()
        return campaign.messages.filter(status="sent").exists()

    wait_until(is_sent)
    broadcaster._finish()

    assert campaign.messages.get().sent_at > soon


def test_outcomes_wait_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database goes away between the send and its record; the message is not sent again."""
    lead = LeadFactory()
    campaign = campaign_to(lead)
    monkeypatch.setattr(worker, "DATABASE_DOWN_SECONDS", 0.05)
    record, failures = outcomes.record, iter([1, 2, 3])

    def away(results: list[outcomes.Sent]) -> None:
        if next(failures, None):
            raise OperationalError(2013, "Lost connection to server during query")
        record(results)

    monkeypatch.setattr(outcomes, "record", away)

    drain()

    assert campaign.messages.get().status == "sent"
    assert len(bubbles(lead.phone)) == 1


def test_a_hand_over_whose_answer_was_lost_is_given_back_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lead = LeadFactory()
    campaign = campaign_to(lead)
    monkeypatch.setattr(worker, "DATABASE_DOWN_SECONDS", 0.05)
    manager = type(BroadcastMessage.objects)
    hand_over, failures = manager.hand_over, iter([1])

    def lost(self: object, *args: object, **kwargs: object) -> list[BroadcastMessage]:
        handed = hand_over(self, *args, **kwargs)  # type: ignore[arg-type]
        if next(failures, None):
            raise OperationalError(2013, "Lost connection to server during query")
        return handed

    monkeypatch.setattr(manager, "hand_over", lost)

    drain()

    message = campaign.messages.get()
    assert (message.status, message.attempts) == ("sent", 1)
    assert len(bubbles(lead.phone)) == 1


def test_a_hand_over_that_took_longer_than_its_lease_and_then_failed_has_not_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another broadcaster took the device meanwhile, and could not tell; this one can."""
    lead = LeadFactory()
    campaign = campaign_to(lead)
    monkeypatch.setattr(worker, "DATABASE_DOWN_SECONDS", 0.05)
    monkeypatch.setattr(simulator.SimulatorSession, "recall", lambda *_: None)
    manager = type(BroadcastMessage.objects)
    hand_over, failures = manager.hand_over, iter([1])

    def held_up(self: object, *args: object, **kwargs: object) -> list[BroadcastMessage]:
        handed = hand_over(self, *args, **kwargs)  # type: ignore[arg-type]
        if next(failures, None):
            campaign.messages.update(**INTERRUPTED)
            raise OperationalError(2013, "Lost connection to server during query")
        return handed

    monkeypatch.setattr(manager, "hand_over", held_up)

    drain()

    message = campaign.messages.get()
    assert (message.status, message.attempts) == ("sent", 1)
    assert len(bubbles(lead.phone)) == 1


@pytest.mark.parametrize("step", ["send", "refusal"])
def test_a_transport_that_raises_has_not_said_that_nothing_left(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, or as the answer that it has promised."""
    campaign = campaign_to(LeadFactory())
    monkeypatch.setattr(simulator.SimulatorSession, step, lambda *_: 1 / 0)

    drain()

    message = campaign.messages.get()
    assert (message.status, message.error_code) == ("unknown", "transport_error")


def test_a_device_whose_session_does_not_open_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = DeviceFactory()
    campaign = campaign_to(LeadFactory())
    open_session = simulator.SimulatorTransport.open

    def refuse(self: simulator.SimulatorTransport, device: Device, report: object) -> object:
        if device == broken:
            raise OSError("the session file is damaged")
        return open_session(self, device, report)  # type: ignore[arg-type]

    monkeypatch.setattr(simulator.SimulatorTransport, "open", refuse)

    run_until(lambda: campaign.counts()["sent"])

    broken.refresh_from_db()
    assert broken.worker_id == ""


def test_a_wait_that_is_over_at_once_ends() -> None:
    """The broadcaster's one thread slept for ever, when nothing was on its way to wake it."""
    broadcaster = Broadcaster()

    def wait_briefly() -> None:
        for _ in range(5000):
            broadcaster._reported(1, 1, Connected())
            broadcaster._sort_in(broadcaster._inbox.get())
            broadcaster._turned_at = clock() - worker.TICK_SECONDS + 5e-6
            broadcaster._wait()

    waiting = threading.Thread(target=wait_briefly, daemon=True)
    waiting.start()
    waiting.join(30)

    assert not waiting.is_alive()


def test_a_cap_on_first_contacts_holds_back_new_people_and_nobody_else() -> None:
    device = DeviceFactory(first_contact_limit=2)
    first, usual = BroadcastMessage.Priority.CAMPAIGN_FIRST, BroadcastMessage.Priority.CAMPAIGN
    for lane in [first] * 5 + [usual] * 3:
        BroadcastMessageFactory(device=device, priority=lane)

    run_until(lambda: BroadcastMessage.objects.filter(status="sent").count() >= 5)

    left = BroadcastMessage.objects.filter(status="pending")
    assert [message.priority for message in left] == [first] * 3
    device.refresh_from_db()
    assert (device.usage_first_count, device.usage_day_count) == (2, 5)
