from __future__ import annotations

import signal
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from broadcasts.models import Pass
from broadcasts.schedules import PASSES


def pytest_configure() -> None:
    # As Ctrl-C: what tests have started is ended by them, and not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Without collectstatic, the names of hashed files are not known.
    plain = "django.contrib.staticfiles.storage.StaticFilesStorage"
    settings.STORAGES["staticfiles"]["BACKEND"] = plain


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mysql") and connection.vendor != "mysql":
        pytest.skip("needs a MySQL or MariaDB server")


@pytest.fixture
def _scheduler_runs(db: None) -> None:
    """Its tasks have just ended. Its schedules date from when the database was made."""
    for task in PASSES:
        Pass.objects.note(task)


@pytest.fixture
def _scheduler_is_late(db: None) -> None:
    for task in PASSES:
        Pass.objects.create(task=task, ended_at=Now() - timedelta(minutes=4))


@pytest.fixture
def operator(db: None) -> User:
    """Someone who may do the daily work: the group Operator."""
    return _member("operator", "Operator")


@pytest.fixture
def viewer(db: None) -> User:
    """Someone who may look and change nothing: the group Viewer."""
    return _member("viewer", "Viewer")


@pytest.fixture
def outsider(db: None) -> User:
    """Someone with a login and no rights at all."""
    return User.objects.create_user("outsider")


@pytest.fixture
def operator_client(operator: User) -> Client:
    return _signed_in(operator)


@pytest.fixture
def viewer_client(viewer: User) -> Client:
    return _signed_in(viewer)


@pytest.fixture
def outsider_client(outsider: User) -> Client:
    return _signed_in(outsider)


def _member(username: str, group: str) -> User:
    user = User.objects.create_user(username)
    user.groups.add(Group.objects.get(name=group))
    return user


def _signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client
