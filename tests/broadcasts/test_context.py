from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import RequestFactory
from django.utils import timezone
from django_q.models import Schedule
from pytest_django.fixtures import DjangoAssertNumQueries

from broadcasts.context import SystemState, system
from broadcasts.models import Worker
from broadcasts.schedules import PASSES

pytestmark = pytest.mark.django_db


def state(user: User | AnonymousUser) -> SystemState:
    request = RequestFactory().get("/")
    request.user = user
    found: SystemState = system(request)["system"]
    return found


@pytest.fixture
def broadcaster() -> Worker:
    now = timezone.now()
    return Worker.objects.create(id="one", hostname="host", pid=1, started_at=now, heartbeat_at=now)


@pytest.mark.usefixtures("_scheduler_runs")
def test_all_is_well_while_somebody_sends_and_somebody_schedules(
    viewer: User, broadcaster: Worker
) -> None:
    assert (state(viewer).broadcasters, state(viewer).trouble) == (1, "")


@pytest.mark.usefixtures("_scheduler_runs")
def test_a_missing_broadcaster_is_said(viewer: User) -> None:
    assert state(viewer).trouble == "Nothing is sent: no broadcaster is running"


@pytest.mark.usefixtures("_scheduler_is_late")
def test_where_both_are_missing_both_are_said(viewer: User) -> None:
    said = "Nothing is sent: no broadcaster and no scheduler is running"
    assert state(viewer).trouble == said


@pytest.mark.usefixtures("_scheduler_is_late")
def test_a_scheduler_that_is_late_is_said(viewer: User, broadcaster: Worker) -> None:
    assert state(viewer).trouble == "The scheduler is not running"


def test_a_page_that_does_not_show_it_pays_nothing(
    viewer: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    request = RequestFactory().get("/")
    request.user = viewer
    with django_assert_num_queries(0):
        system(request)
    with django_assert_num_queries(2):
        assert state(viewer).trouble


def test_nothing_of_it_is_shown_to_strangers() -> None:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    assert system(request) == {}


@pytest.mark.usefixtures("_scheduler_is_late")
def test_a_schedule_that_is_switched_off_is_not_missed(viewer: User, broadcaster: Worker) -> None:
    Schedule.objects.filter(func__in=PASSES).update(repeats=0)
    assert state(viewer).trouble == ""


def test_without_schedules_nobody_schedules(viewer: User, broadcaster: Worker) -> None:
    Schedule.objects.all().delete()
    assert state(viewer).trouble == "The scheduler is not running"
