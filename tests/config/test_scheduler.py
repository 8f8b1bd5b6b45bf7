"""Real processes of the scheduler, killed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from django_q.models import Schedule, Success
from django_q.tasks import async_task

from broadcasts.models import Pass
from broadcasts.schedules import PASSES
from tests.faults.fleet import alive, children, descendants
from tests.processes import ROOT, Process, start, wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # It takes a minute of waiting, and what is killed here knows of no database.
    pytest.mark.skipif(connection.vendor != "sqlite", reason="runs with the tests on SQLite"),
]

IMPATIENT = """
import os, django
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()
from config import scheduler
scheduler.START_SECONDS = scheduler.ASK_SECONDS = 0.0
scheduler.RESTART_SECONDS = 60.0
scheduler.Scheduler().run()
"""


@pytest.fixture
def run() -> Iterator[Callable[..., Process]]:
    """Starts the scheduler, whose processes have all ended a moment after the test."""
    started: list[Process] = []

    def run(*command: str) -> Process:
        started.append(start(*(command or ("manage.py", "qcluster"))))
        return started[-1]

    yield run
    for process in started:
        seen = tree(process.pid)
        process.kill()
        wait_until(lambda seen=seen: not any(map(alive, seen)))  # type: ignore[misc]
        sys.stdout.write(process.communicate()[0])


def tree(pid: int) -> list[int]:
    return [pid, *descendants(pid)]


def guarded(process: Process) -> list[int]:
    """Returns the two workers, the monitor and the pusher, once all of them are there."""
    return [each for guard in children(process.pid) for each in children(guard)]


def stands(process: Process) -> bool:
    return len(guarded(process)) == 4


def has_run_a_task() -> bool:
    """Whether the scheduler has ended a task that is put now."""
    before = Success.objects.count()
    async_task("os.getpid")
    wait_until(lambda: Success.objects.count() > before)
    return True


@pytest.mark.parametrize("which", range(4))
def test_tasks_run_again_whichever_of_its_processes_is_killed(
    run: Callable[..., Process], which: int
) -> None:
    process = run()
    wait_until(lambda: stands(process))
    assert has_run_a_task()
    before = guarded(process)

    os.kill(before[which], signal.SIGKILL)

    wait_until(lambda: stands(process) and not set(before) & set(guarded(process)))
    assert has_run_a_task()


def test_tasks_run_again_when_the_guard_is_killed(run: Callable[..., Process]) -> None:
    process = run()
    wait_until(lambda: stands(process))
    before = tree(process.pid)[1:]

    os.kill(before[0], signal.SIGKILL)

    wait_until(lambda: not any(map(alive, before)) and stands(process))
    assert has_run_a_task()


def test_nothing_of_it_stays_when_it_is_killed_itself(run: Callable[..., Process]) -> None:
    process = run()
    wait_until(lambda: stands(process))
    before = tree(process.pid)

    process.kill()

    wait_until(lambda: not any(map(alive, before[1:])))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nor_where_the_guard_is_killed_with_it_or_stands_still(
    run: Callable[..., Process], number: signal.Signals
) -> None:
    process = run()
    wait_until(lambda: stands(process))
    before = tree(process.pid)

    os.kill(process.pid, signal.SIGSTOP)  # so that it does not see what becomes of the guard
    os.kill(before[1], number)
    process.kill()

    wait_until(lambda: not any(map(alive, before[1:])))


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_when_told_to_also_where_a_worker_stands_still(
    run: Callable[..., Process], is_stopped: bool
) -> None:
    process = run()
    wait_until(lambda: stands(process))
    before = tree(process.pid)
    if is_stopped:
        os.kill(guarded(process)[0], signal.SIGSTOP)

    os.killpg(process.pid, signal.SIGTERM)  # as honcho does

    assert process.wait(timeout=20) == 0
    assert not any(map(alive, before[1:]))


def test_it_begins_afresh_when_nothing_that_is_to_run_has_ended_for_minutes(
    run: Callable[..., Process],
) -> None:
    Schedule.objects.all().delete()  # whatever other tests have left of them
    for task in PASSES:
        Schedule.objects.create(
            func=task, schedule_type=Schedule.MINUTES, minutes=1,
            next_run=timezone.now() + timedelta(days=1),  # by a clock that was ahead
        )  # fmt: skip
        Pass.objects.create(task=task, ended_at=Now() - timedelta(minutes=10))
    process = run("-c", IMPATIENT)
    wait_until(lambda: children(process.pid))

    assert process.stdout
    assert any("No task of the scheduler has ended for minutes" in line for line in process.stdout)
    wait_until(lambda: not children(process.pid))
    assert not Schedule.objects.filter(next_run__gt=timezone.now()).exists()


def test_it_waits_for_a_database_that_is_not_there_yet() -> None:
    nobody = {"DATABASE_URL": "mysql://siaran@127.0.0.1:1/siaran"}
    code = IMPATIENT.replace("RESTART_SECONDS = 60", "RESTART_SECONDS = 0")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, env=os.environ | nobody, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    said = ""
    while said.count("ended with 1") < 2:
        said += process.stderr.readline()
    process.kill()
    process.communicate()
    assert "Traceback" not in said
