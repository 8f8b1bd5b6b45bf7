"""Broadcasters that are killed, stopped and started. What the simulator's phones received is the
judge, not the queue."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from broadcasts.leases import LOOK_AROUND_SECONDS
from broadcasts.models import BroadcastMessage, Worker
from campaigns.models import Campaign
from config import ledger
from devices.models import Device, SimulatedMessage
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory
from tests.processes import FAST, broadcaster, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def start_campaign(*, leads: int, devices: int, **pace: int) -> Campaign:
    DeviceFactory.create_batch(devices, **pace)
    LeadFactory.create_batch(leads)
    campaign = CampaignFactory()
    assert campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.status == "sending"
    return campaign


def has_received(messages: int) -> bool:
    return received() >= messages


def received() -> int:
    return SimulatedMessage.objects.filter(from_device=True).count()


def assert_everybody_once(campaign: Campaign) -> None:
    reception = ledger.reception(campaign)
    assert reception.twice == []
    assert reception.sent_but_missing == []
    assert reception.received_against_the_record == []
    assert list(ledger.violations(campaign)) == []
    counts = campaign.counts()
    # The simulator itself says who got nothing, and why: they are not on WhatsApp.
    assert counts["sent"] + counts["skipped"] == campaign.audience_size, counts
    assert reception.received.total() == counts["sent"]
    refused = campaign.messages.filter(status="skipped")
    assert set(refused.values_list("skip_reason", flat=True)) <= {"not_on_whatsapp"}


def test_killed_in_mid_campaign_nobody_gets_it_twice_and_nobody_is_missing() -> None:
    # Short pauses, long ways: at any moment several messages have arrived of which the
    # broadcaster does not know yet.
    campaign = start_campaign(leads=240, devices=12, min_delay_seconds=1, max_delay_seconds=1)
    slow = {"SIMULATOR_SPEED": "5"}

    for target in (40, 90, 140):
        with broadcaster(**slow) as first, broadcaster(**slow) as second:
            wait_until(partial(has_received, target))
            for process in (first, second):
                os.killpg(process.pid, signal.SIGKILL)
    with broadcaster("--drain") as last:
        wait_until(lambda: not campaign.messages.open().exists())
        # What the killed had handed over is settled by the transport's own record.
        wait_until(lambda: not campaign.messages.filter(status="unknown").exists())
        assert last.wait(timeout=60) == 0

    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.status == "finished"
    assert_everybody_once(campaign)


@pytest.mark.mysql  # stopped inside a transaction, it would hold SQLite's one write lock
def test_a_broadcaster_that_stalls_longer_than_its_lease_sends_nothing_twice() -> None:
    campaign = start_campaign(leads=150, devices=3)

    with broadcaster() as stalled:
        wait_until(lambda: received() >= 20)
        os.killpg(stalled.pid, signal.SIGSTOP)
        with broadcaster() as successor:
            wait_until(lambda: received() >= 60)
            os.killpg(stalled.pid, signal.SIGCONT)
            wait_until(lambda: not campaign.messages.open().exists())
            wait_until(lambda: not campaign.messages.filter(status="unknown").exists())
            assert successor.poll() is None
            assert stalled.poll() is None

    assert_everybody_once(campaign)


def test_sigterm_finishes_what_is_on_the_wire_and_releases_the_rest() -> None:
    campaign = start_campaign(leads=120, devices=4)

    with broadcaster() as process:
        wait_until(lambda: received() >= 20)
        process.terminate()
        assert process.wait(timeout=30) == 0

    counts = campaign.counts()
    assert counts["processing"] == counts["queued"] == counts["unknown"] == 0
    assert counts["pending"] > 0
    assert counts["sent"] == received()
    assert not Device.objects.exclude(worker_id="").exists()
    assert not Worker.objects.filter(stopped_at__isnull=True).exists()


def test_two_broadcasters_share_the_devices_between_them() -> None:
    DeviceFactory.create_batch(6)

    def shares() -> list[int]:
        holders = list(Device.objects.leased().values_list("worker_id", flat=True))
        return sorted(holders.count(holder) for holder in set(holders))

    with broadcaster():
        wait_until(lambda: shares() == [6])
        with broadcaster() as second:
            wait_until(lambda: shares() == [3, 3])
            second.terminate()
            second.wait(timeout=30)
        wait_until(lambda: shares() == [6])


def test_the_devices_of_one_that_was_killed_are_taken_once_its_leases_have_run_out() -> None:
    DeviceFactory.create_batch(6)

    with broadcaster() as first, broadcaster() as second:
        wait_until(lambda: len(set(Device.objects.leased().values_list("worker_id"))) == 2)
        os.killpg(second.pid, signal.SIGKILL)
        # The lease, a look around, and what a busy host adds to it.
        seconds = int(FAST["LEASE_SECONDS"]) + LOOK_AROUND_SECONDS + 4
        victims = Worker.objects.filter(pid=second.pid)
        wait_until(
            lambda: (
                Device.objects.leased().exclude(worker_id__in=victims.values("pk")).count() == 6
            ),
            seconds=seconds,
        )
        assert first.poll() is None


def test_workers_really_are_so_many_processes_and_end_together() -> None:
    DeviceFactory.create_batch(4)

    with broadcaster("--workers", "2") as supervisor:
        wait_until(lambda: Worker.objects.alive().count() == 2)
        workers = list(Worker.objects.alive())
        assert len({worker.pid for worker in workers}) == 2
        assert supervisor.pid not in {worker.pid for worker in workers}
        supervisor.terminate()
        assert supervisor.wait(timeout=30) == 0

    assert not Worker.objects.filter(stopped_at__isnull=True).exists()


def test_a_killed_worker_process_is_replaced() -> None:
    DeviceFactory.create_batch(2)

    with broadcaster("--workers", "2") as supervisor:
        wait_until(lambda: Worker.objects.alive().count() == 2)
        victim = Worker.objects.alive().first()
        assert victim is not None
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: Worker.objects.alive().exclude(pk=victim.pk).count() == 2)
        supervisor.terminate()
        supervisor.wait(timeout=30)


def test_workers_end_when_their_supervisor_is_killed() -> None:
    with broadcaster("--workers", "2") as supervisor:
        wait_until(lambda: Worker.objects.alive().count() == 2)
        supervisor.kill()
        wait_until(lambda: not Worker.objects.filter(stopped_at__isnull=True).exists())


def test_a_dead_brother_s_unsettled_messages_are_shown_as_unknown_until_settled() -> None:
    """Without a broadcaster nobody can ask the transport: the scheduler says what it knows."""
    campaign = start_campaign(leads=30, devices=1)
    message = campaign.messages.filter(status="pending").first()
    assert message is not None
    BroadcastMessage.objects.filter(pk=message.pk).update(
        status="queued",
        processing_worker_id="dead/1",
        lease_epoch=7,
        processing_started_at="2026-01-01T00:00Z",
    )

    assert BroadcastMessage.objects.unstick() == {"released": 0, "unknown": 1}
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("unknown", "interrupted")
