from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import Schedule

schedules = import_module("config.migrations.0002_schedules")


@pytest.mark.django_db
def test_four_tasks_run_every_minute_and_one_a_day_for_ever() -> None:
    rows = Schedule.objects.values_list("func", "schedule_type", "minutes", "repeats")

    assert set(rows) == {
        ("campaigns.tasks.process_campaigns", "I", 1, -1),
        ("sequences.tasks.process_sequences", "I", 1, -1),
        ("broadcasts.tasks.unstick_messages", "I", 1, -1),
        ("broadcasts.tasks.expire_messages", "I", 1, -1),
        ("broadcasts.tasks.tidy_up", "I", 1440, -1),
    }


@pytest.mark.parametrize("func", schedules.SCHEDULES)
def test_every_schedule_names_a_function_that_exists(func: str) -> None:
    assert callable(import_string(func))


@pytest.mark.django_db
def test_the_next_run_is_a_minute_later() -> None:
    now = timezone.now()

    schedule = Schedule.objects.get(func="broadcasts.tasks.unstick_messages")
    assert schedule.calculate_next_run(now) == now + timedelta(minutes=1)


@pytest.mark.django_db
def test_a_schedule_that_an_operator_changed_gets_no_twin() -> None:
    Schedule.objects.filter(func="broadcasts.tasks.expire_messages").update(name="Ours", minutes=5)

    schedules.create_schedules(apps, SimpleNamespace(connection=connection))

    changed = Schedule.objects.get(func="broadcasts.tasks.expire_messages")
    assert (changed.name, changed.minutes) == ("Ours", 5)
    assert Schedule.objects.count() == len(schedules.SCHEDULES)


@pytest.mark.django_db(transaction=True)
def test_the_schedules_go_and_come_back_and_leave_others_alone() -> None:
    Schedule.objects.create(name="Other", func="os.getpid")
    call_command("migrate", "config", "0001", verbosity=0)
    try:
        assert Schedule.objects.get().name == "Other"
    finally:
        call_command("migrate", "config", verbosity=0)

    assert Schedule.objects.count() == len(schedules.SCHEDULES) + 1
