"""The fleet must notice whoever ends without an order, and whoever does not end on one."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import END_A_BROADCASTER, Fleet, Place, alive, stands, wait_until
from tests.faults.trips import clock

READY = "import signal, sys, time; {}; open(sys.argv[1] + '/ready', 'w'); time.sleep(60)"
WAITS = READY.format("pass")
OBEYS = READY.format("signal.signal(signal.SIGTERM, lambda *_: exit(0))")
DEAF = READY.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
SUPERVISES = (
    "import signal, subprocess, sys, time\n"
    f"command = [sys.executable, '-c', {WAITS!r}, sys.argv[1]]\n"
    "child = subprocess.Popen(command, start_new_session=True)\n"
    "signal.signal(signal.SIGTERM, lambda *_: (child.terminate(), child.wait(), exit(0)))\n"
    "while True: time.sleep(0.1)"
)
TRIPS = (
    "import sys, time, pathlib; from tests.faults.trips import Trips\n"
    "trips = Trips(pathlib.Path(sys.argv[1]))\n"
    "while True: trips.at('before the send'); time.sleep(0.01)"
)

Start = Callable[..., Place]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, random.Random(0), end_seconds=1)
    yield fleet
    fleet.kill_all()


@pytest.fixture
def start(fleet: Fleet, tmp_path: Path) -> Start:
    """Starts a process that runs this code, and waits until Python has got so far."""

    def start(code: str, *, sends: bool = True) -> Place:
        place = Place("broadcaster-1", ["-c", code, str(tmp_path)], {}, sends)
        fleet.add(place)
        fleet.keep()
        if "/ready" in code:
            assert wait_until((tmp_path / "ready").exists, 20)
            fleet.keep()
        return place

    return start


def ended(fleet: Fleet, place: Place) -> bool:
    fleet.keep()
    return place.start_at > 0


@pytest.mark.parametrize("code", ["exit(3)", "exit(0)"])
def test_who_ends_by_itself_is_found_however_it_ends(fleet: Fleet, start: Start, code: str) -> None:
    place = start(code, sends=False)

    assert wait_until(lambda: ended(fleet, place), 20)
    assert len(fleet.died) == 1


def test_who_is_killed_by_us_has_not_died_by_itself(fleet: Fleet, start: Start) -> None:
    place = start(WAITS)
    pid = place.pid
    before = clock()

    assert fleet.kill(pid)
    assert not fleet.kill(pid)  # nobody is there any more
    fleet.keep()

    assert fleet.died == {}
    assert fleet.was_disturbed(pid, before, clock())
    assert not fleet.was_disturbed(pid, before - 2, before - 1)


def test_who_obeys_has_ended_in_good_order(fleet: Fleet, start: Start) -> None:
    place = start(OBEYS)

    fleet.end_one(place)

    assert wait_until(lambda: ended(fleet, place), 20)
    assert fleet.died == {}
    assert fleet.carried_out == {END_A_BROADCASTER: 1}


def test_who_does_not_end_on_sigterm_is_found(fleet: Fleet, start: Start) -> None:
    place = start(DEAF, sends=False)
    pid = place.pid

    fleet.end()

    assert "did not end" in fleet.died[pid]
    assert not alive(pid)


def test_a_supervised_worker_that_ends_by_itself_is_found(fleet: Fleet, start: Start) -> None:
    place = start(SUPERVISES)
    (worker,) = place.workers

    os.kill(worker, signal.SIGTERM)  # not by the fleet

    assert wait_until(lambda: bool(fleet.keep() or fleet.died), 20)
    assert list(fleet.died) == [worker]


def test_a_supervised_worker_that_we_kill_or_end_is_not(fleet: Fleet, start: Start) -> None:
    place = start(SUPERVISES)
    (worker,) = place.workers

    fleet.kill(worker)
    fleet.keep()
    fleet.end()

    assert fleet.died == {}


def test_who_trips_is_known_to_have_been_killed_on_order(fleet: Fleet, start: Start) -> None:
    place = start(TRIPS)
    pid = place.pid

    assert fleet.trips.order("kill before the send", 1)
    assert not fleet.trips.order("kill before the send", 1)  # the first still waits

    assert wait_until(lambda: ended(fleet, place), 20)
    assert fleet.died == {}
    assert abs(fleet.killed[pid] - clock()) < 20
    assert fleet.carried_out == {"kill before the send": 1}


def test_who_is_stopped_stands_still_until_woken(fleet: Fleet, start: Start) -> None:
    pid = start(WAITS).pid
    before = clock()

    assert fleet.stop(pid, seconds=60)
    assert fleet.senders() == []
    assert fleet.was_disturbed(pid, before, clock())
    fleet.wake_all()

    (stop,) = fleet.stops
    assert before < stop.at < stop.until < clock()
    assert fleet.senders() == [pid]


def test_who_was_stopped_and_killed_was_active_until_it_was_stopped(
    fleet: Fleet, start: Start
) -> None:
    pid = start(WAITS).pid
    fleet.stop(pid, seconds=60)
    at = fleet.stopped[pid].at
    fleet.kill(pid)

    assert fleet.last_active_at(pid) == at < fleet.killed[pid]


def test_who_was_told_to_end_before_it_could_listen_has_ended_on_our_order(
    fleet: Fleet, start: Start
) -> None:
    place = start(WAITS)

    fleet.end_one(place)

    assert wait_until(lambda: ended(fleet, place), 20)
    assert fleet.died == {}
    assert not fleet.carried_out  # of its own accord it ended nothing


def test_who_stands_and_nobody_knows_why_is_woken(fleet: Fleet, start: Start) -> None:
    pid = start(WAITS).pid
    os.kill(pid, signal.SIGSTOP)  # as one does that was stopped while it carried out an order
    assert wait_until(lambda: stands(pid))

    fleet.keep()

    assert wait_until(lambda: not stands(pid))
    assert fleet.stops == []
