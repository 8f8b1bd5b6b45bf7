"""Writes that meet a deadlock, or whose answer gets lost: a broadcaster's about its devices, and
those about many messages at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection

from broadcasts import leases, queryset
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.worker import Broadcaster
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def eager(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broadcaster renews and looks around at every turn."""
    settings.SIMULATOR_SPEED = 1000
    settings.HEARTBEAT_SECONDS = 0
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)


@contextmanager
def failing_once(statement: str, error: OperationalError, *, after: bool) -> Iterator[None]:
    """The first statement that begins like this fails, before or after the server has run it."""
    left = [error]

    def fail(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        hit = bool(left) and sql.replace('"', "").replace("`", "").startswith(statement)
        result = None if hit and not after else execute(sql, *arguments)
        if hit:
            raise left.pop()
        return result

    with connection.execute_wrapper(fail):
        yield
    assert not left, f"no {statement!r} was run"


DEADLOCK = OperationalError(1213, "Deadlock found when trying to get lock")
ANSWER_LOST = OperationalError(2013, "Lost connection to server during query")


@pytest.mark.parametrize(
    ("error", "after"), [(DEADLOCK, False), (ANSWER_LOST, True)], ids=["deadlock", "answer lost"]
)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE broadcast_workers SET heartbeat_at",
        "UPDATE devices SET worker_id",
        "UPDATE devices SET lease_expires_at",
        "UPDATE devices SET status",
    ],
)
def test_what_gets_in_the_way_of_a_lease_does_not_hold_up_the_turn(
    statement: str, error: OperationalError, after: bool
) -> None:
    device, broadcaster = DeviceFactory(), Broadcaster()
    Worker.objects.register(broadcaster.id)

    def works() -> bool:
        broadcaster.turn()  # raises what it does not survive
        broadcaster._wait()
        held = broadcaster._leases.held.get(device.pk)
        return bool(held and held.connected)

    with failing_once(statement, error, after=after):
        deadline = time.monotonic() + 20
        while not works():
            assert time.monotonic() < deadline, "waited in vain"

    device.refresh_from_db()
    assert (device.status, device.lease_epoch) == ("online", 1)
    with failing_once("UPDATE devices SET worker_id", error, after=after):
        broadcaster._finish()
    assert not Device.objects.leased().exists()
    assert not Worker.objects.alive().exists()


@pytest.fixture
def six(monkeypatch: pytest.MonkeyPatch) -> list[BroadcastMessage]:
    """More messages than go together."""
    monkeypatch.setattr(queryset, "CHUNK", 2)
    campaign, device = CampaignFactory(sending=True), DeviceFactory()
    return BroadcastMessageFactory.create_batch(6, campaign=campaign, device=device)


@pytest.mark.parametrize(
    ("before", "verb", "after"),
    [
        ("pending", "cancel", "cancelled"),
        ("pending", "hold", "paused"),
        ("paused", "unhold", "pending"),
    ],
)
def test_a_chunk_whose_answer_got_lost_does_not_keep_those_behind_it(
    before: str, verb: str, after: str, six: list[BroadcastMessage]
) -> None:
    messages = BroadcastMessage.objects.all()
    messages.update(status=before)

    with failing_once("UPDATE broadcast_messages", ANSWER_LOST, after=True):
        getattr(messages, verb)()

    assert set(messages.values_list("status", flat=True)) == {after}


def test_a_retry_whose_commit_was_not_heard_of_goes_on_behind_it(
    six: list[BroadcastMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """History and status are one transaction: it is the answer to its end that may get lost."""
    messages = BroadcastMessage.objects.all()
    messages.update(status="failed")
    commit, left = connection._commit, [ANSWER_LOST]

    def lose() -> None:
        commit()
        if left:
            raise left.pop()

    monkeypatch.setattr(connection, "_commit", lose)
    messages.retry_failed()

    assert not left
    assert set(messages.values_list("status", "restarts")) == {("pending", 1)}
    assert [message.history.count() for message in six] == [1] * 6
