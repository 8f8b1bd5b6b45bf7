"""A device that is to send through another account."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.core.exceptions import ValidationError
from django.test import Client

from broadcasts.inbound import Reports, Said
from broadcasts.lease import Lease
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import settle_unknown
from devices.models import Device
from devices.transports.base import Connected, Disconnected, NotSent
from tests.broadcasts.test_fences import lease_of
from tests.devices.test_admin import saved_with
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db

OTHER = {"transport": "gone", "phone": "60199999999"}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize(
    ("status", "error_code", "refused"),
    [
        ("processing", "", True),
        ("queued", "", True),
        ("unknown", "interrupted", True),
        ("unknown", "timed_out", False),
        ("pending", "", False),
        ("sent", "", False),
    ],
)
def test_the_account_stays_while_it_may_be_asked_what_it_has_sent(
    name: str, status: str, error_code: str, refused: bool
) -> None:
    """Another would say that it was not sent, and send it a second time."""
    device = BroadcastMessageFactory(status=status, error_code=error_code).device
    setattr(device, name, OTHER[name])

    if refused:
        with pytest.raises(ValidationError, match="settle") as refusal:
            device.clean()
        assert list(refusal.value.message_dict) == [name]
    else:
        device.clean()


def test_everything_else_may_be_changed_while_it_sends() -> None:
    device = BroadcastMessageFactory(status="queued").device
    device.min_delay_seconds = 7
    device.clean()


@pytest.mark.parametrize(
    ("changed", "is_believed"),
    [
        ({"transport": "simulator", "phone": ""}, False),
        ({"phone": "60199999999"}, False),
        ({}, True),
    ],
    ids=["transport", "number", "name"],
)
def test_an_account_is_not_believed_about_what_left_through_the_former_one(
    changed: dict[str, str], is_believed: bool, admin_client: Client
) -> None:
    """Its broadcaster learns of it only after a while, and dies in mid-send: the new account says
    that it never sent that, which is true, and it would be sent a second time."""
    device = DeviceFactory(online=True, transport="neonize", lease_epoch=4)
    answer = saved_with(admin_client, device, name="Renamed", **changed)
    assert answer.status_code == 302
    lost = {"device": device, "status": "unknown", "error_code": "interrupted"}
    before = BroadcastMessageFactory(**lost, lease_epoch=4)
    since = BroadcastMessageFactory(**lost, lease_epoch=5)
    session = lease_of(device).session
    session.recall.return_value = NotSent()  # type: ignore[attr-defined]

    settle_unknown([before.pk, since.pk], {device.pk: session})

    statuses = BroadcastMessage.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["pending" if is_believed else "unknown", "pending"]


@pytest.fixture
def held(settings: LazySettings) -> tuple[Leases, Lease]:
    """A broadcaster with a simulated device at a thousand times its pace."""
    settings.SIMULATOR_SPEED = 1000
    lease = lease_of(DeviceFactory(online=True))
    leases = Leases("worker", capacity=1, report=lambda *_: None)
    leases.held[lease.device.pk] = lease
    return leases, lease


def test_a_session_of_the_former_transport_is_ended(held: tuple[Leases, Lease]) -> None:
    leases, lease = held
    Device.objects.update(transport="gone")

    leases.keep()

    lease.session.close.assert_called_once_with()  # type: ignore[attr-defined]
    assert not leases.held
    device = Device.objects.get()
    assert "gone" in device.status_reason, "it was not opened with the present transport"
    assert lease.pace.speed == 1000


def test_a_session_of_the_former_number_is_ended(held: tuple[Leases, Lease]) -> None:
    leases, lease = held
    Device.objects.update(phone=OTHER["phone"])

    leases.keep()

    lease.session.close.assert_called_once_with()  # type: ignore[attr-defined]
    leases.give_back(list(leases.held))


def test_what_is_on_the_wire_of_the_former_transport_is_finished(
    held: tuple[Leases, Lease],
) -> None:
    leases, lease = held
    message = BroadcastMessageFactory(device=lease.device, status="queued")
    lease.hand_over(claimed_of(message), lease.slot)
    Device.objects.update(transport="gone")

    leases.keep()

    lease.session.close.assert_not_called()  # type: ignore[attr-defined]
    assert not lease.connected, "it sends on"


def test_a_session_of_the_former_transport_that_connects_anew_sends_nothing_more(
    held: tuple[Leases, Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcasts.leases.LOOK_AROUND_SECONDS", 0.0)
    leases, lease = held
    message = BroadcastMessageFactory(device=lease.device, status="queued")
    lease.hand_over(claimed_of(message), lease.slot)
    Device.objects.update(transport="gone")
    leases.keep()

    reports = Reports(leases)
    for event in (Disconnected("The network."), Connected()):
        reports.add(Said(lease.device_id, lease.epoch, event))
    list(reports.act())

    assert not lease.connected, "it sends on"
    lease.in_flight = None
    leases.keep()
    assert not leases.held


def test_the_simulator_s_speed_is_not_another_transport_s(settings: LazySettings) -> None:
    settings.SIMULATOR_SPEED = 1000
    lease = lease_of(DeviceFactory(online=True, transport="gone"))
    leases = Leases("worker", capacity=1, report=lambda *_: None)
    leases.held[lease.device.pk] = lease
    message = BroadcastMessageFactory(device=lease.device, status="queued")
    lease.hand_over(claimed_of(message), lease.slot)
    Device.objects.update(transport="simulator")

    leases.keep()

    assert lease.pace.speed == 1


def test_a_restriction_that_an_operator_lifts_ends_while_the_session_lives(
    held: tuple[Leases, Lease],
) -> None:
    leases, lease = held
    Device.objects.update(status="restricted")

    assert Device.objects.work_again() == 1
    leases.keep()

    assert Device.objects.get().status == "online"
    assert leases.held == {lease.device.pk: lease}
