"""What the host does to a broadcaster: limits, signals, an old tzdata, an end."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from broadcasts import supervisor, worker
from broadcasts.leases import Leases
from broadcasts.senders import Senders
from broadcasts.supervisor import Supervisor
from broadcasts.worker import Broadcaster
from devices.models import Device
from devices.transports.base import Inbound, Receipt
from tests.broadcasts.test_fences import away, lease_of
from tests.broadcasts.test_leases import ends_by_itself
from tests.factories import BroadcastMessageFactory, DeviceFactory
from tests.processes import wait_until

pytestmark = pytest.mark.django_db


def test_a_host_without_threads_to_spare_sends_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    senders, go_on, done = Senders(10), threading.Event(), [threading.Event() for _ in range(3)]
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    senders.submit(go_on.wait, 20)
    monkeypatch.setattr(threading.Thread, "start", start)
    senders.grow()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for each in done:
        senders.submit(each.set)
        senders.grow()
    go_on.set()

    assert all(each.wait(20) for each in done)
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    senders.stop()


def test_a_device_in_an_unknown_zone_does_not_keep_the_others_from_sending() -> None:
    """Chosen on a host whose tzdata is newer; each broadcaster in turn would end over it."""
    leases = Leases("worker", capacity=2, report=lambda *_: None)
    held, other = (lease_of(DeviceFactory(online=True)) for _ in range(2))
    leases.held = {lease.device.pk: lease for lease in (held, other)}
    Device.objects.filter(pk=held.device.pk).update(timezone="Mars/Olympus_Mons")

    leases.keep()

    assert set(leases.held) == {other.device.pk}
    device = Device.objects.get(pk=held.device.pk)
    assert (device.status, device.worker_id) == ("offline", "")
    assert "Mars/Olympus_Mons" in device.status_reason


def test_a_lost_device_is_closed_before_the_leases_look_fresh() -> None:
    """A sender thread that wakes up then finds it old, or gone."""
    lease = lease_of(DeviceFactory(online=True, worker_id="other"))
    leases = Leases("worker", capacity=1, report=lambda *_: None)
    leases.held[lease.device.pk] = lease
    fresh: list[bool] = []
    lease.session.close.side_effect = lambda: fresh.append(leases.are_safe())  # type: ignore[attr-defined]

    leases.renew_in_time()

    assert fresh == [False]
    assert leases.are_safe()


def test_what_sessions_report_until_they_are_closed_is_written_down() -> None:
    message = BroadcastMessageFactory(status="sent", provider_message_id="3EB0")
    lease = lease_of(message.device)
    broadcaster, now = Broadcaster(), timezone.now()
    broadcaster._leases.held[lease.device.pk] = lease

    def report_and_close() -> None:
        for event in (Inbound(message.recipient_phone, "STOP", now), Receipt("3EB0", "read", now)):
            broadcaster._reported(lease.device.pk, 1, event)

    lease.session.close.side_effect = report_and_close  # type: ignore[attr-defined]

    broadcaster._finish()

    message.refresh_from_db()
    assert message.lead.opted_out_at is not None
    assert message.read_at is not None


@pytest.mark.django_db(transaction=True)
def test_a_broadcaster_ends_with_its_supervisor_also_where_the_database_goes_away_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "DATABASE_DOWN_SECONDS", 0.01)
    with connection.execute_wrapper(away):
        assert ends_by_itself(Broadcaster(supervisor=-1))


def test_the_supervisor_replaces_a_worker_that_a_signal_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ended well, but nobody has told the supervisor to stop, and nothing was to be drained."""
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0)
    code = "import os, pathlib, sys; (pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()"
    supervised = Supervisor(1, [])
    supervised.command = [sys.executable, "-c", code, str(tmp_path)]

    def watch() -> None:
        try:
            wait_until(lambda: len(list(tmp_path.iterdir())) >= 2)
        finally:
            supervised.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    supervised.run()
    watcher.join()

    assert len(list(tmp_path.iterdir())) >= 2
