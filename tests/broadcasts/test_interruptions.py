"""What a broadcaster knows of its own claims, when an answer hangs or gets lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from broadcasts import worker
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent
from broadcasts.retrying import ATTEMPTS
from broadcasts.worker import Broadcaster
from devices.transports.base import Accepted, NotSent
from tests.broadcasts.test_fences import lease_of
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db


def on_the_wire(broadcaster: Broadcaster, claim: str, **values: object) -> Claimed:
    row = BroadcastMessageFactory(
        status="queued", attempts=1, lease_epoch=1, processing_started_at=timezone.now(),
        processing_worker_id=f"{broadcaster.id}/{claim}", **values,
    )  # fmt: skip
    message = claimed_of(row)
    broadcaster._on_wire.add((message.pk, message.token))
    return message


def test_an_answer_from_an_earlier_session_does_not_speak_for_the_claim_that_came_after() -> None:
    """It comes together with that of another message, which the later claim has taken too."""
    broadcaster = Broadcaster()
    hung = on_the_wire(broadcaster, "first")
    other = on_the_wire(broadcaster, "second")
    row = BroadcastMessage.objects.get(pk=hung.pk)
    BroadcastMessage.objects.filter(pk=row.pk).update(processing_worker_id=other.token)
    again = claimed_of(row)
    broadcaster._on_wire.add((again.pk, again.token))

    for result in (Sent(hung, Accepted("3EB1")), Sent(other, Accepted("3EB2"))):
        broadcaster._inbox.put(result)
    broadcaster._collect()
    assert BroadcastMessage.objects.get(pk=hung.pk).status == "queued"
    assert BroadcastMessage.objects.get(pk=other.pk).status == "sent"

    broadcaster._inbox.put(Sent(again, Accepted("3EB3")))
    broadcaster._collect()
    assert BroadcastMessage.objects.get(pk=hung.pk).provider_message_id == "3EB3"
    assert not broadcaster._on_wire


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_is_committed_after_the_look_for_it_is_released_in_the_next_turn() -> None:
    """The connection broke, and the server was still at it."""
    broadcaster = Broadcaster()
    device = DeviceFactory(online=True, worker_id=broadcaster.id)
    message = BroadcastMessageFactory(device=device)
    lease = broadcaster._leases.held[device.pk] = lease_of(device)
    broadcaster._leases.renew_in_time()
    broadcaster._put_down(lease)

    def lose(execute: Callable[..., Any], sql: str, parameters: Any, *rest: Any) -> Any:
        if "'processing'" in sql:
            late.append(parameters[0])
            raise OperationalError(2013, "Lost connection to server during query")
        return execute(sql, parameters, *rest)

    late: list[str] = []
    with connection.execute_wrapper(lose):
        broadcaster._send_due()
    BroadcastMessage.objects.update(
        status="processing", processing_worker_id=late[0], lease_epoch=1,
        processing_started_at=timezone.now(),
    )  # fmt: skip

    broadcaster.turn()

    assert BroadcastMessage.objects.get(pk=message.pk).status == "pending"


@pytest.mark.django_db(transaction=True)
def test_who_is_stopped_while_the_database_is_away_waits_to_say_what_never_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to a hand-over was lost with the database: nobody was given the message."""
    monkeypatch.setattr(worker, "DATABASE_DOWN_SECONDS", 0.01)
    broadcaster = Broadcaster()
    message = on_the_wire(broadcaster, "lost")
    broadcaster._on_wire.clear()
    broadcaster._unrecorded = [Sent(message, NotSent())]
    failures = iter(range(2 * ATTEMPTS))

    def away(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if next(failures, None) is not None:
            raise OperationalError(2002, "Can't connect to server")
        return execute(sql, *arguments)

    with connection.execute_wrapper(away):
        broadcaster._finish()

    assert BroadcastMessage.objects.get().status == "pending"
