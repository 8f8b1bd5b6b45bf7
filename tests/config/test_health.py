from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone
from django_q.models import Schedule

from broadcasts.models import Worker
from config import health


@pytest.fixture(autouse=True)
def _ask_about_migrations_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", False)


@pytest.fixture
def _unreachable() -> Iterator[None]:
    """Every statement fails, as it does when the server is gone."""

    def fail(*args: Any) -> None:
        raise OperationalError("no route to db.internal as user siaran") from sqlite3.Error()

    with connection.execute_wrapper(fail):
        yield


def test_the_process_is_up_and_no_database_is_asked(client: Client) -> None:
    # Without the django_db mark: any query would fail the test.
    answer = client.get("/healthz")

    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert "no-cache" in answer["Cache-Control"]


@pytest.mark.usefixtures("_scheduler_runs")
def test_ready_when_every_part_works(client: Client) -> None:
    Worker.objects.register("w")

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "working": True,
        "database": "ok",
        "migrations": "ok",
        "scheduler": "ok",
        "broadcasters": "ok",
    }


@pytest.mark.usefixtures("_scheduler_is_late")
def test_a_missing_scheduler_is_told_and_the_pages_stay_up(client: Client) -> None:
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["working"] is False
    assert answer.json()["scheduler"] == (
        "4 schedules are late: run manage.py qcluster, or read its log"
    )


@pytest.mark.usefixtures("_scheduler_is_late")
def test_a_schedule_that_is_switched_off_is_not_late(client: Client) -> None:
    Schedule.objects.update(repeats=0)
    Schedule.objects.create(func="x", next_run=timezone.now())

    assert client.get("/readyz").json()["scheduler"] == "ok"


@pytest.mark.django_db
def test_a_missing_broadcaster_is_told_and_the_pages_stay_up(client: Client) -> None:
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["broadcasters"] == "none alive: run manage.py runbroadcaster"


@pytest.mark.django_db
def test_an_old_schema_is_not_ready(client: Client) -> None:
    MigrationRecorder(connection).record_unapplied("config", "0002_schedules")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["migrations"] == "1 not applied: run manage.py migrate"
    assert answer.json()["scheduler"] == "not asked"


@pytest.mark.django_db
def test_migrations_are_asked_about_until_the_answer_is_yes(
    client: Client, django_assert_num_queries: Any
) -> None:
    client.get("/readyz")

    with django_assert_num_queries(2):  # schedules, broadcasters
        client.get("/readyz")


@pytest.mark.django_db
@pytest.mark.usefixtures("_unreachable")
def test_a_database_that_is_gone_is_not_ready_and_nothing_leaks(client: Client) -> None:
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["database"] == "does not answer"
    assert "db.internal" not in answer.text
    assert client.get("/healthz").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_both_are_open_and_only_to_be_read(client: Client, path: str) -> None:
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
    assert client.get(path, headers={"host": "elsewhere.test"}).status_code == 400
