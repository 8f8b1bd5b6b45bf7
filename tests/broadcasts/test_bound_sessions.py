"""Devices whose sessions are files of one host: only its broadcasters open them."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from broadcasts import leases
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.outcomes import settle_unknown
from broadcasts.sharing import Kind, Reach
from devices import queryset, transports
from devices.models import Device
from devices.transports import transport
from devices.transports.base import NotSent
from devices.transports.simulator import SimulatorTransport
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db(transaction=True)


class BoundTransport(SimulatorTransport):
    """The simulator, if its accounts had files."""

    files: Set[str] = frozenset()
    opened: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.opened = []

    def open(self, device: Device, report: Any) -> Any:
        self.opened.append(device.session)
        return super().open(device, report)

    def sessions_here(self) -> Set[str]:
        return self.files


@pytest.fixture
def host(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> BoundTransport:
    """This host: its transport, with the files that it has."""
    path = f"{BoundTransport.__module__}.{BoundTransport.__name__}"
    settings.TRANSPORTS = settings.TRANSPORTS | {"bound": path}
    for seconds in ("LOOK_AROUND_SECONDS", "REFRESH_SECONDS"):
        monkeypatch.setattr(leases, seconds, 0.0)
    transport.cache_clear()
    transports._look_of.cache_clear()
    found = transport("bound")
    assert isinstance(found, BoundTransport)
    return found


@pytest.fixture
def broadcaster() -> Any:
    started = Leases("worker", capacity=10, report=lambda *_: None)
    yield started
    started.give_back(list(started.held))


def test_only_devices_whose_session_is_on_this_host_are_opened(
    host: BoundTransport, broadcaster: Leases
) -> None:
    host.files = {"here"}
    here = DeviceFactory(transport="bound", session="here")
    elsewhere = DeviceFactory(transport="bound", session="elsewhere")
    DeviceFactory(transport="bound")
    free = DeviceFactory()

    broadcaster.keep()

    assert broadcaster.held.keys() == {here.pk, free.pk}
    assert host.opened == ["here"]
    elsewhere.refresh_from_db()
    assert (elsewhere.status_reason, elsewhere.lease_epoch) == ("", 0)

    host.files = {"here", "elsewhere"}  # it was moved here
    broadcaster.keep()
    assert elsewhere.pk in broadcaster.held


def test_a_session_that_is_gone_is_given_back_and_one_that_cannot_be_looked_for_is_not(
    host: BoundTransport, broadcaster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files = {"one", "two"}
    one = DeviceFactory(transport="bound", session="one")
    two = DeviceFactory(transport="bound", session="two")
    broadcaster.keep()

    host.files = {"two"}
    broadcaster.keep()
    assert broadcaster.held.keys() == {two.pk}
    assert not Device.objects.leased().filter(pk=one.pk).exists()

    def fail(_: object) -> Set[str]:
        raise PermissionError

    monkeypatch.setattr(BoundTransport, "sessions_here", fail)
    broadcaster.keep()
    assert broadcaster.held.keys() == {two.pk}


def test_a_host_without_any_file_asks_the_database_nothing_more(
    host: BoundTransport, django_assert_num_queries: Any
) -> None:
    DeviceFactory()
    with django_assert_num_queries(1):
        assert Reach.now().bound == 0

    DeviceFactory(transport="bound", session="elsewhere")
    with django_assert_num_queries(1):
        assert Reach.now().bound == 1


def test_a_device_that_is_paired_anew_is_opened_anew(
    host: BoundTransport, broadcaster: Leases
) -> None:
    host.files = {"first", "second"}
    device = DeviceFactory(transport="bound", session="first")
    broadcaster.keep()

    Device.objects.filter(pk=device.pk).pair("second")
    broadcaster.keep()

    assert host.opened == ["first", "second"]


def test_a_device_that_is_logged_out_while_it_sends_does_not_come_back(
    host: BoundTransport, broadcaster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the wire is finished first; until then it is held, and must not look connected."""
    monkeypatch.setattr(queryset, "PAIRED", {"bound"})
    host.files = {"first"}
    device = DeviceFactory(transport="bound", session="first")
    broadcaster.keep()
    monkeypatch.setattr(leases, "REFRESH_SECONDS", 1000.0)  # it has not read that of the device yet
    lease = broadcaster.held[device.pk]
    lease.connected = True
    lease.hand_over(claimed_of(BroadcastMessageFactory(device=device)), lease.slot)
    Device.objects.update(status="online")

    user = User.objects.create_user("siti")
    assert Device.objects.get().log_out(user)
    for _ in range(2):
        broadcaster.keep()
        assert Device.objects.get().status == "offline"

    lease.in_flight = None
    broadcaster.keep()
    assert not broadcaster.held


def test_a_session_does_not_say_not_sent_of_what_an_earlier_one_was_given() -> None:
    """Its file begins with the pairing: that there is no trace of a message proves nothing."""
    device = DeviceFactory(lease_epoch=4)
    Device.objects.filter(pk=device.pk).pair("second")
    lost = {"device": device, "status": "unknown", "error_code": "interrupted"}
    before = BroadcastMessageFactory(**lost, lease_epoch=4)
    since = BroadcastMessageFactory(**lost, lease_epoch=5)

    class Session:
        def recall(self, key: str) -> NotSent:
            return NotSent()

    settle_unknown([before.pk, since.pk], {device.pk: Session()})  # type: ignore[dict-item]

    statuses = BroadcastMessage.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["unknown", "pending"]


@pytest.mark.parametrize(
    ("anywhere", "bound", "bound_here", "expected"),
    [
        # Beside this broadcaster there are one more on this host and two on another, of 10 each.
        (8, 0, 0, (0, 2)),
        (0, 8, 8, (4, 0)),  # nobody but the two can hold them
        (0, 8, 0, (0, 0)),
        (20, 20, 20, (10, 0)),  # what is free goes where there is room
        (20, 20, 0, (0, 10)),
        (20, 10, 10, (5, 4)),
        (40, 40, 40, (7, 3)),  # more than all may hold: nothing is left out for good
    ],
)
def test_who_can_hold_a_device_shares_it(
    anywhere: int, bound: int, bound_here: int, expected: tuple[int, int]
) -> None:
    for number in range(4):
        Worker.objects.register(f"worker-{number}", capacity=10)
    Worker.objects.filter(pk__in=["worker-2", "worker-3"]).update(hostname="another")

    shares = Reach({}, anywhere, bound, bound_here).shares(10)

    assert (shares[Kind.BOUND], shares[Kind.FREE]) == expected
