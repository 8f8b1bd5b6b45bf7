"""What takes its time between the hand-over of a message and the moment it leaves."""

from __future__ import annotations

import pytest
from django.conf import LazySettings

from broadcasts import leases
from devices.models import Device
from devices.transports.base import NotSent, OutgoingMessage
from devices.transports.simulator import SimulatorSession
from tests.broadcasts.test_leases import fast, started, turn_until
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["fast"]  # a fixture


def test_a_session_that_prepares_something_may_ask_again_whether_its_lease_is_fresh(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, broadcaster = DeviceFactory(), started()
    turn_until(broadcaster, lambda: Device.objects.get().status == "online")
    lease, said = broadcaster._leases.held[device.pk], []
    moment = leases.clock() + settings.LEASE_SECONDS * 0.7

    def send(session: SimulatorSession, message: OutgoingMessage) -> NotSent:
        said.append(message.may_leave())
        monkeypatch.setattr(leases, "clock", lambda: moment)  # an upload took its time
        said.append(message.may_leave())
        return NotSent()

    monkeypatch.setattr(SimulatorSession, "send", send)
    broadcaster._send(lease, claimed_of(BroadcastMessageFactory(device=device)), began_at=0.0)

    assert said == [True, False]
    broadcaster._finish()
