"""What somebody else changes between what is read and what is written, and what the database would
not take as it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.db.models import F
from django.utils import timezone

from broadcasts import leases, outcomes, pacing
from broadcasts.inbound import Reports, Said
from broadcasts.lease import Lease
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent
from broadcasts.worker import Broadcaster
from campaigns.models import Campaign
from devices.models import Device
from devices.transports.base import (
    Accepted,
    Blocked,
    Connected,
    DeviceBlocked,
    Disconnected,
    Event,
    Inbound,
    Outcome,
    Outdated,
    Receipt,
    Refused,
    Unknown,
)
from tests.factories import (
    BroadcastMessageFactory,
    DeviceFactory,
    claimed_of,
)

pytestmark = pytest.mark.django_db


@contextmanager
def just_before(statement: str, act: Callable[[], object]) -> Iterator[None]:
    """Lets somebody else act right before the first statement that begins like this."""
    waiting = [act]

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        plain = sql.replace('"', "").replace("`", "").strip()
        if waiting and plain.startswith(statement):
            waiting.pop()()
        return execute(sql, *arguments)

    with connection.execute_wrapper(look):
        yield
    assert not waiting, f"no {statement!r} was run"


def lose_to_another(message: BroadcastMessage) -> None:
    Device.objects.filter(pk=message.device_id).update(
        worker_id="other", lease_epoch=F("lease_epoch") + 1
    )


def lease_of(device: Device, *, epoch: int = 1) -> Lease:
    pace, slot = pacing.Pace.of(device), pacing.Slot()
    return Lease(device=device, epoch=epoch, session=Mock(), pace=pace, slot=slot, connected=True)


def act_on(*events: Event, of: Lease, held: Lease | None = None) -> None:
    """What the broadcaster "worker" does when a session of this lease reports these events."""
    leases = Leases("worker", capacity=1, report=lambda *_: None)
    leases.held[of.device.pk] = held or of
    reports = Reports(leases)
    for event in events:
        reports.add(Said(of.device.pk, of.epoch, event))
    list(reports.act())
    reports.receipts.record()


def claimed(**values: object) -> BroadcastMessage:
    """A message that the broadcaster "worker" has claimed and that has not left."""
    return BroadcastMessageFactory(
        status="processing",
        processing_worker_id="worker/1",
        lease_epoch=1,
        processing_started_at=timezone.now(),
        **values,
    )


# Between reading and writing


@pytest.mark.parametrize("now_is", ["processing", "queued", "sent", "paused"])
def test_a_message_that_moves_on_while_it_is_looked_up_is_not_expired(now_is: str) -> None:
    message = BroadcastMessageFactory(expires_at=timezone.now() - timedelta(seconds=1))
    row = BroadcastMessage.objects.filter(pk=message.pk)

    with just_before("UPDATE broadcast_messages", lambda: row.update(status=now_is)):
        assert BroadcastMessage.objects.expire() == 0

    assert row.get().status == now_is


def test_a_message_that_gets_more_time_while_it_is_looked_up_is_not_expired() -> None:
    message = BroadcastMessageFactory(expires_at=timezone.now() - timedelta(seconds=1))
    later = timezone.now() + timedelta(hours=1)
    row = BroadcastMessage.objects.filter(pk=message.pk)

    with just_before("UPDATE broadcast_messages", lambda: row.update(expires_at=later)):
        assert BroadcastMessage.objects.expire() == 0

    assert row.get().status == "pending"


def test_a_campaign_resumed_while_its_messages_are_looked_up_is_not_held() -> None:
    message = BroadcastMessageFactory()
    campaign = Campaign.objects.filter(pk=message.campaign_id)
    campaign.update(status="paused", paused_at=timezone.now())

    with just_before("UPDATE broadcast_messages", lambda: campaign.update(status="sending")):
        campaign.get().settle_messages()

    assert BroadcastMessage.objects.get().status == "pending"


@pytest.mark.parametrize(
    "act",
    [
        lambda: Device.objects.update(worker_id="other", lease_epoch=2),
        lambda: Device.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1)),
        lambda: BroadcastMessage.objects.update(status="cancelled"),
        lambda: BroadcastMessage.objects.update(status="queued", processing_worker_id="other/1"),
    ],
    ids=["device lost", "lease run out", "cancelled", "taken by another"],
)
def test_nothing_is_claimed_that_is_lost_between_looking_and_taking(
    act: Callable[[], object],
) -> None:
    message = BroadcastMessageFactory()

    with just_before("UPDATE broadcast_messages", act):
        got = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[message.device_id])

    assert got == []
    assert BroadcastMessage.objects.get().status != "processing"


@pytest.mark.parametrize("status", ["processing", "queued"])
def test_what_is_claimed_anew_while_the_stuck_are_freed_stays_claimed(status: str) -> None:
    message = claimed()
    row = BroadcastMessage.objects.filter(pk=message.pk)
    row.update(status=status)
    lose_to_another(message)

    def claim_anew() -> None:
        row.update(processing_worker_id="other/2", lease_epoch=2)

    with just_before("UPDATE broadcast_messages", claim_anew):
        freed = BroadcastMessage.objects.unstick()

    assert freed == {"released": 0, "unknown": 0}
    assert row.get().status == status


def test_what_leaves_while_the_stuck_are_freed_is_not_released() -> None:
    message = claimed()
    lose_to_another(message)
    row = BroadcastMessage.objects.filter(pk=message.pk)

    with just_before("UPDATE broadcast_messages", lambda: row.update(status="sent")):
        BroadcastMessage.objects.unstick()

    assert row.get().status == "sent"


def test_what_another_claims_while_the_forgotten_are_looked_up_stays_claimed() -> None:
    """It may be on the wire there: released, it would be sent a second time."""
    broadcaster = Broadcaster()
    message = claimed()
    row = BroadcastMessage.objects.filter(pk=message.pk)
    row.update(processing_worker_id=f"{broadcaster.id}/1")
    broadcaster._leases.held[message.device.pk] = lease_of(message.device)

    def claim_anew() -> None:
        row.update(status="queued", processing_worker_id="other/2", lease_epoch=2)

    with just_before("UPDATE broadcast_messages", claim_anew):
        broadcaster._release_forgotten()

    assert row.get().status == "queued"


def test_a_claim_that_was_given_up_does_not_skip_the_next_one() -> None:
    given_up = claimed_of(claimed())
    BroadcastMessage.objects.update(processing_worker_id="other/2")

    assert BroadcastMessage.objects.skip([given_up], "opted_out") == 0

    assert BroadcastMessage.objects.get().status == "processing"


# Too long for its column: an error there would come back with every turn and hold up all devices


@pytest.mark.parametrize(
    "outcome",
    [
        Accepted("wamid." + "x" * 300),
        Refused("c" * 300, "m" * 300),
        Refused("c" * 300, "m" * 300, timedelta(0)),
        Unknown("c" * 300, "m" * 300, "wamid." + "x" * 300),
        DeviceBlocked("c" * 300, "m" * 300, "restricted"),
    ],
    ids=["accepted", "refused", "refused for now", "unknown", "blocked"],
)
def test_an_outcome_that_is_too_long_is_cut(outcome: Outcome) -> None:
    message = claimed()
    BroadcastMessage.objects.update(status="queued", attempts=1)

    outcomes.record([Sent(claimed_of(message), outcome)])

    message.refresh_from_db()
    assert message.status != "queued"
    message.clean_fields(exclude=["skip_reason", "device", "lead", "campaign"])
    message.device.refresh_from_db()
    message.device.clean_fields()


@pytest.mark.parametrize("event", [Disconnected("x" * 300), Blocked("banned", "x" * 300)])
def test_a_reason_that_is_too_long_is_cut(event: Event) -> None:
    device = DeviceFactory(online=True)

    act_on(event, of=lease_of(device))

    device.refresh_from_db()
    assert device.status_reason == "x" * 255


# Who may speak of a device

STATES = [
    Connected(),
    Disconnected("the connection died"),
    Blocked("banned", "401"),
    Outdated("too old"),
]


@pytest.mark.parametrize("event", STATES, ids=lambda event: type(event).__name__)
def test_who_lost_a_device_neither_silences_nor_revives_it(event: Event) -> None:
    """It stalled, and acts on what its session said before it learns that the lease is gone."""
    status = "offline" if event == Connected() else "online"
    device = DeviceFactory(online=True, worker_id="other", lease_epoch=2, status=status)

    act_on(event, of=lease_of(device))

    device.refresh_from_db()
    assert (device.status, device.status_reason) == (status, "")


@pytest.mark.parametrize("event", STATES, ids=lambda event: type(event).__name__)
def test_what_an_earlier_session_said_is_not_the_state_of_the_present_one(event: Event) -> None:
    """Lost and taken back by the same process, while the first session's word was on its way."""
    status = "offline" if event == Connected() else "online"
    device = DeviceFactory(online=True, lease_epoch=2, status=status)
    now = lease_of(device, epoch=2)
    now.connected = status == "online"

    act_on(event, of=lease_of(device, epoch=1), held=now)

    device.refresh_from_db()
    assert (device.status, now.connected) == (status, status == "online")


def test_what_people_write_and_read_counts_whoever_holds_the_device_by_now() -> None:
    device = DeviceFactory(online=True, worker_id="other", lease_epoch=2)
    message = BroadcastMessageFactory(device=device, status="sent", provider_message_id="3EB0")
    phone, now = message.recipient_phone, timezone.now()

    act_on(Receipt("3EB0", "read", now), Inbound(phone, "STOP", now), of=lease_of(device))

    message.refresh_from_db()
    assert message.read_at is not None
    assert message.lead.opted_out_at is not None


def test_a_block_is_not_lifted_for_another_s_session() -> None:
    """It ends while the holder looks for such, and the device changes hands just then."""
    over = timezone.now() - timedelta(seconds=1)
    device = DeviceFactory(online=True, status="restricted", restricted_until=over)
    held = Leases("worker", capacity=1, report=lambda *_: None)
    held.held[device.pk] = lease_of(device)

    def lose() -> None:
        Device.objects.update(worker_id="other", lease_epoch=2)

    with just_before("UPDATE devices SET status", lose):
        held.keep()

    assert Device.objects.get().status == "restricted"


# Restrictions


@pytest.mark.parametrize("state", ["restricted", "logged_out", "banned"])
def test_no_connection_that_begins_or_ends_lifts_what_whatsapp_has_blocked(state: Any) -> None:
    device = DeviceFactory(online=True)
    until = timezone.now() + timedelta(hours=24)

    for event in (Blocked(state, "429", until), Disconnected("blip"), Connected()):
        act_on(event, of=lease_of(device))

    device.refresh_from_db()
    assert (device.status, device.restricted_until) == (state, until)


def test_a_longer_restriction_replaces_a_shorter_one() -> None:
    device, now = DeviceFactory(online=True), timezone.now()

    for hours in (1, 24):
        until = now + timedelta(hours=hours)
        act_on(Blocked("restricted", "429", until), of=lease_of(device))

    device.refresh_from_db()
    assert device.restricted_until == now + timedelta(hours=24)


def test_a_block_that_is_over_lets_the_device_come_back() -> None:
    over = timezone.now() - timedelta(seconds=1)
    device = DeviceFactory(online=True, status="banned", restricted_until=over)
    assert Device.objects.usable().get() == device

    act_on(Connected(), of=lease_of(device))

    assert Device.objects.get().status == "online"


def test_a_ban_without_an_end_has_none() -> None:
    device = DeviceFactory(online=True, status="banned")

    act_on(Connected(), of=lease_of(device))

    assert Device.objects.get().status == "banned"
    assert not Device.objects.usable().exists()


# Time


def away(*_: object) -> None:
    raise OperationalError(2002, "Can't connect to server")


def test_leases_that_cannot_be_renewed_are_soon_not_safe_to_send_by(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    now = [1000.0]
    monkeypatch.setattr(leases, "clock", lambda: now[0])
    held = Leases("worker", capacity=1, report=lambda *_: None)
    assert not held.are_safe()
    held.keep()
    assert held.are_safe()

    now[0] += settings.LEASE_SECONDS * 0.7
    with connection.execute_wrapper(away), pytest.raises(OperationalError):
        held.keep()

    assert not held.are_safe()


def test_a_renewal_counts_from_when_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    now = [1000.0]
    monkeypatch.setattr(leases, "clock", lambda: now[0])
    held = Leases("worker", capacity=1, report=lambda *_: None)

    def slow(execute: Callable[..., Any], *arguments: Any) -> Any:
        now[0] += settings.LEASE_SECONDS
        return execute(*arguments)

    with connection.execute_wrapper(slow):
        held.renew_in_time()

    assert not held.are_safe()
