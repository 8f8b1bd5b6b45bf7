"""Proofs of the review of 2026-11-27. Each asserts what should hold, and fails where it does not."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from broadcasts import leases, outcomes
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent
from broadcasts.senders import Senders
from broadcasts.worker import Broadcaster
from devices.models import Device
from devices.transports.base import Accepted, NotSent, Receipt
from leads.models import Lead
from tests.broadcasts.test_fences import lease_of
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    claimed_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Session:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.sent: list[str] = []

    def send(self, message: Any) -> Any:
        self.sent.append(message.key)
        return self.answer

    def recall(self, key: str) -> Any:
        return None

    def close(self) -> None:
        pass


def broadcaster_of(session: Any) -> tuple[Broadcaster, Device, Any]:
    broadcaster = Broadcaster(capacity=3)
    device = DeviceFactory(
        online=True, worker_id=broadcaster.id, min_delay_seconds=1, max_delay_seconds=1
    )
    lease = broadcaster._leases.held[device.pk] = lease_of(device)
    lease.session = session
    broadcaster._leases.renew_in_time()
    broadcaster._put_down(lease)
    return broadcaster, device, lease


class BetterAccepted(Accepted):
    """A transport's own, with more to say."""


@pytest.mark.parametrize("answer", [None, "3EB0", BetterAccepted("3EB0")])
def test_t1_an_answer_that_is_no_outcome_does_not_get_it_sent_twice(answer: Any) -> None:
    session = Session(answer)
    broadcaster, device, lease = broadcaster_of(session)
    message = BroadcastMessageFactory(device=device)
    broadcaster.turn()
    deadline = time.monotonic() + 5
    while not session.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    broadcaster.turn()
    print("after the send:", BroadcastMessage.objects.get().status)

    # any blip of the database, e.g. a lost connection in a heartbeat
    def blip() -> None:
        raise OperationalError(2013, "Lost connection")

    import broadcasts.worker as w

    w.DATABASE_DOWN_SECONDS = 0.0
    broadcaster._survive(blip)
    for _ in range(30):
        broadcaster._survive(broadcaster.turn)
        time.sleep(0.1)
        if len(session.sent) > 1:
            break
    print("sent:", session.sent, BroadcastMessage.objects.get().status)
    broadcaster._senders.stop()
    assert len(session.sent) == 1


@pytest.mark.parametrize("answer", [Accepted(None), Accepted(12)])  # type: ignore[arg-type]
def test_t7_a_transports_mistake_does_not_end_the_broadcaster(answer: Any) -> None:
    session = Session(answer)
    broadcaster, device, lease = broadcaster_of(session)
    BroadcastMessageFactory(device=device)
    broadcaster.turn()
    deadline = time.monotonic() + 5
    while not session.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    broadcaster._survive(broadcaster.turn)


def test_t7b_a_receipt_without_a_zone_does_not_end_the_broadcaster() -> None:
    broadcaster, device, lease = broadcaster_of(Session(None))
    BroadcastMessageFactory(
        device=device,
        status="sent",
        sent_at=timezone.now(),
        provider_message_id="3EB0",
        finished_at=timezone.now(),
    )
    from datetime import datetime

    broadcaster._reported(device.pk, 1, Receipt("3EB0", "read", datetime(2026, 1, 1)))
    broadcaster._survive(broadcaster.turn)


def test_t2_an_account_that_was_changed_does_not_speak_for_the_former_one(
    admin_client: Any,
) -> None:
    """Changed while nothing is being sent; the broadcaster finds out within 15 s."""
    device = DeviceFactory(online=True, transport="simulator")
    url = reverse("admin:devices_device_change", args=[device.pk])
    fields = admin_client.get(url).context["adminform"].form.initial
    fields = {k: "" if v is None else v for k, v in fields.items()} | {"transport": "neonize"}
    assert admin_client.post(url, fields).status_code == 302
    assert Device.objects.get().transport == "neonize"
    # its broadcaster does not know yet: the next message leaves through the former transport
    Device.objects.update(transport="two")
    message = BroadcastMessageFactory(device=device)
    (claimed,) = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[device.pk])
    from broadcasts import pacing

    now = timezone.now()
    slot = pacing.after_send(pacing.Pace(), pacing.Slot(), now, 5)
    assert BroadcastMessage.objects.hand_over(
        [claimed], {device.pk: slot}, at=now, worker_id="worker"
    )
    # ... it leaves, and the broadcaster is killed before the outcome. Another takes over.
    Device.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    Device.objects.take_leases([device.pk], "other")
    BroadcastMessage.objects.unstick()
    assert BroadcastMessage.objects.get().status == "unknown"

    class Two:
        def recall(self, key: str) -> Any:
            return NotSent()  # true: its account never sent it

    outcomes.settle_unknown([message.pk], {device.pk: Two()})  # type: ignore[dict-item]
    assert BroadcastMessage.objects.get().status == "unknown", "it will be sent twice"


def test_t3_asking_the_transports_costs_no_lease(settings: Any) -> None:
    settings.LEASE_SECONDS, settings.HEARTBEAT_SECONDS = 3, 1
    held = Leases("worker", capacity=9, report=lambda *_: None)
    device = DeviceFactory(online=True)
    lease = held.held[device.pk] = lease_of(device)

    class Slow:
        def recall(self, key: str) -> Any:
            time.sleep(0.03)

        def close(self) -> None:
            pass

    lease.session = Slow()  # type: ignore[assignment]
    BroadcastMessageFactory.create_batch(
        120,
        device=device,
        status="unknown",
        finished_at=timezone.now(),
        error_code="interrupted",
        attempts=1,
        queued_at=timezone.now(),
    )
    held.renew_in_time()
    began = time.monotonic()
    held.keep()
    took = time.monotonic() - began
    free = Device.objects.free().count()
    print(f"keep took {took:.1f} s, safe={held.are_safe()}, free for others={free}")
    assert not free and held.are_safe()


def test_t4_sends_that_hang_do_not_stop_all_other_devices(settings: Any) -> None:
    """Their sessions are ended and the devices given back, but nobody can end their threads."""
    settings.STUCK_AFTER = timedelta(seconds=0.2)
    hang, done = threading.Event(), threading.Event()

    class Hanging(Session):
        def send(self, message: Any) -> Any:
            hang.wait()

    broadcaster, device, lease = broadcaster_of(Hanging(None))
    broadcaster._leases.capacity = broadcaster._senders.most = 1
    BroadcastMessageFactory(device=device)
    broadcaster.turn()
    time.sleep(0.5)
    broadcaster._leases._looked_at = 0.0
    broadcaster.turn()
    assert lease.is_given_up
    broadcaster._senders.submit(done.set)
    broadcaster.turn()
    got = done.wait(2)
    hang.set()
    broadcaster._senders.stop()
    assert got


def twins() -> tuple[Any, Any, Any, Any]:
    name, campaign = "551187654321", CampaignFactory(status="sending")
    one, two = DeviceFactory(online=True), DeviceFactory(online=True, worker_id="other")
    person, twin = LeadFactory(phone="5511987654321"), LeadFactory(phone=name)
    return (
        one,
        two,
        BroadcastMessageFactory(device=one, lead=person, campaign=campaign),
        BroadcastMessageFactory(device=two, lead=twin, campaign=campaign),
    )


def claim_and_leave_out(device: Device, worker: str) -> list[Any]:
    claimed = BroadcastMessage.objects.claim(worker_id=worker, device_ids=[device.pk])
    sendable = Broadcaster()._leave_out(claimed)
    assert sendable == [m for m in claimed if not m.refusal]
    return [m for m in claimed if not m.refusal]


def test_t5a_of_two_numbers_that_two_broadcasters_claim_at_once_one_gets_it() -> None:
    one, two, first, second = twins()
    Lead.objects.note_presence({first.recipient_phone: second.recipient_phone})
    theirs = BroadcastMessage.objects.claim(worker_id="other", device_ids=[two.pk])
    ours = claim_and_leave_out(one, "worker")
    for m in theirs:
        if m.refusal:
            BroadcastMessage.objects.skip([m], m.refusal)
    rows = list(
        BroadcastMessage.objects.order_by("pk").values_list(
            "recipient_phone", "status", "skip_reason"
        )
    )
    print(rows)
    BroadcastMessage.objects.filter(status="pending").update(scheduled_at=timezone.now())
    ours = ours or claim_and_leave_out(one, "worker")
    assert len(ours) == 1


def test_t5b_of_two_numbers_one_gets_it_though_the_other_s_send_came_back() -> None:
    one, two, first, second = twins()
    (theirs,) = BroadcastMessage.objects.claim(worker_id="other", device_ids=[two.pk])
    assert not theirs.refusal
    from broadcasts import pacing

    now = timezone.now()
    slot = pacing.after_send(pacing.Pace(), pacing.Slot(), now, 0)
    (theirs,) = BroadcastMessage.objects.hand_over(
        [theirs], {two.pk: slot}, at=now, worker_id="other"
    )
    # on the wire: meanwhile WhatsApp says that the two are one, and the other's turn comes
    Lead.objects.note_presence({first.recipient_phone: second.recipient_phone})
    ours = claim_and_leave_out(one, "worker")
    # the line broke: nothing left
    outcomes.record([Sent(theirs, NotSent())])
    Device.objects.update(next_send_at=None)
    again = claim_and_leave_out(two, "other")
    rows = list(
        BroadcastMessage.objects.order_by("pk").values_list(
            "recipient_phone", "status", "skip_reason"
        )
    )
    print(rows)
    BroadcastMessage.objects.filter(status="pending").update(scheduled_at=timezone.now())
    ours = ours or claim_and_leave_out(one, "worker")
    assert len(ours + again) == 1


def test_t6_a_lost_answer_to_one_chunk_does_not_leave_the_others_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from broadcasts import queryset

    monkeypatch.setattr(queryset, "CHUNK", 2)
    campaign = CampaignFactory(sending=True)
    device = DeviceFactory(online=True)
    BroadcastMessageFactory.create_batch(6, campaign=campaign, device=device)
    lost = []

    def lose(execute: Any, sql: str, parameters: Any, *rest: Any) -> Any:
        result = execute(sql, parameters, *rest)
        if sql.startswith("UPDATE") and not lost:
            lost.append(1)
            raise OperationalError(2013, "Lost connection to server during query")
        return result

    with connection.execute_wrapper(lose):
        moved = BroadcastMessage.objects.filter(campaign=campaign).cancel()
    print("moved", moved, BroadcastMessage.objects.filter(status="pending").count(), "left")
    assert not BroadcastMessage.objects.filter(status="pending").exists()
