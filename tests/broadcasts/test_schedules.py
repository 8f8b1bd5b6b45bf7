from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import Schedule

from broadcasts.models import Pass
from broadcasts.schedules import PASSES, scheduler

pytestmark = pytest.mark.django_db


@pytest.mark.usefixtures("_scheduler_runs")
def test_a_task_that_has_ended_no_pass_for_minutes_is_late() -> None:
    assert scheduler().runs
    Pass.objects.filter(task=PASSES[0]).update(ended_at=Now() - timedelta(minutes=4))
    late = scheduler()
    assert not late.runs
    assert not late.stands_still  # the others run

    Pass.objects.update(ended_at=Now() - timedelta(minutes=4))
    assert scheduler().stands_still


@pytest.mark.usefixtures("_scheduler_runs")
def test_a_schedule_that_is_run_more_seldom_is_not_late_before_its_time() -> None:
    Pass.objects.update(ended_at=Now() - timedelta(minutes=9))
    Schedule.objects.update(minutes=8)
    assert scheduler().runs


def test_without_schedules_there_is_no_scheduler() -> None:
    Schedule.objects.all().delete()
    assert not scheduler().runs
    assert not scheduler().stands_still


def test_a_schedule_that_never_ran_is_late_once_it_should_have() -> None:
    Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=2))
    assert scheduler().runs
    Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=4))
    assert not scheduler().runs


def test_what_the_scheduler_runs_is_noted_when_it_ends_well() -> None:
    for task in PASSES:
        import_string(task)()
    assert set(Pass.objects.values_list("task", flat=True)) == set(PASSES)
