"""What a broadcaster knows of its own claims, when an answer hangs or gets lost."""

from __future__ import annotations

import pytest
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent
from broadcasts.worker import Broadcaster
from devices.transports.base import Accepted
from tests.factories import BroadcastMessageFactory

pytestmark = pytest.mark.django_db


def on_the_wire(broadcaster: Broadcaster, claim: str, **values: object) -> BroadcastMessage:
    message = BroadcastMessageFactory(
        status="queued", attempts=1, lease_epoch=1, processing_started_at=timezone.now(),
        processing_worker_id=f"{broadcaster.id}/{claim}", **values,
    )  # fmt: skip
    message.lead_device = None  # annotated by the claim
    broadcaster._on_wire.add((message.pk, message.processing_worker_id))
    return message


def test_an_answer_from_an_earlier_session_does_not_speak_for_the_claim_that_came_after() -> None:
    """It comes together with that of another message, which the later claim has taken too."""
    broadcaster = Broadcaster()
    hung = on_the_wire(broadcaster, "first")
    other = on_the_wire(broadcaster, "second")
    again = BroadcastMessage.objects.get(pk=hung.pk)
    again.processing_worker_id = other.processing_worker_id
    again.lead_device = None  # type: ignore[attr-defined]
    BroadcastMessage.objects.filter(pk=hung.pk).update(
        processing_worker_id=other.processing_worker_id
    )
    broadcaster._on_wire.add((again.pk, again.processing_worker_id))

    for result in (Sent(hung, Accepted("3EB1")), Sent(other, Accepted("3EB2"))):
        broadcaster._inbox.put(result)
    broadcaster._collect()
    assert BroadcastMessage.objects.get(pk=hung.pk).status == "queued"
    assert BroadcastMessage.objects.get(pk=other.pk).status == "sent"

    broadcaster._inbox.put(Sent(again, Accepted("3EB3")))
    broadcaster._collect()
    assert BroadcastMessage.objects.get(pk=hung.pk).provider_message_id == "3EB3"
    assert not broadcaster._on_wire
