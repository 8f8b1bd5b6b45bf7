"""Sessions that end for good: replaced by somebody's, of a library that is too old, or banned."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts import leases
from broadcasts.inbound import REPLACED, Reports, Said
from broadcasts.leases import Leases
from broadcasts.templatetags.reasons import reason
from devices.models import Device
from devices.transports.base import Blocked, Connected, Event, Outdated, Replaced
from tests.broadcasts.test_fences import lease_of
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db

ELSEWHERE = Replaced("The session was opened elsewhere.")
TOO_OLD = Outdated("Update Siaran.")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)


def broadcaster(name: str, *devices: Device) -> Leases:
    held = Leases(name, capacity=9, report=lambda *_: None)
    held.held = {device.pk: lease_of(device) for device in devices}
    held.renew_in_time()
    return held


def hear(held: Leases, device: Device, *events: Event) -> None:
    reports = Reports(held)
    for event in events:
        reports.add(Said(device.pk, 1, event))
    list(reports.act())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who opened a session, instead of really opening it."""
    opened: list[str] = []

    def note(held: Leases, device: Device, epoch: int) -> None:
        opened.append(f"{held.worker_id} opens {device}")

    monkeypatch.setattr(Leases, "_open", note)
    return opened


def test_who_was_replaced_gives_the_device_up_and_nobody_takes_it_for_a_while(
    opened: list[str],
) -> None:
    device = DeviceFactory(name="Sales 01", online=True)
    mine, other = broadcaster("worker", device), broadcaster("other")
    session: Any = mine.held[device.pk].session

    hear(mine, device, ELSEWHERE)
    for each in (mine, other):
        each.keep()

    device.refresh_from_db()
    assert (device.state, device.status_reason) == ("offline", ELSEWHERE.reason)
    assert device.worker_id == ""
    session.close.assert_called_once()
    assert opened == []
    assert device.restricted_until
    assert abs(device.restricted_until - timezone.now() - REPLACED) < timedelta(seconds=10)

    Device.objects.update(restricted_until=timezone.now() - timedelta(seconds=1))
    other.keep()
    assert opened == ["other opens Sales 01"]


def test_a_device_that_is_also_blocked_is_not_fought_for_either(opened: list[str]) -> None:
    """It goes on saying that it is restricted; who gave it up leaves it alone all the same."""
    device = DeviceFactory(online=True, status="restricted", status_reason="Too many.")
    mine = broadcaster("worker", device)

    hear(mine, device, ELSEWHERE)
    mine.keep()

    device.refresh_from_db()
    assert (device.state, device.worker_id) == ("restricted", "")
    assert opened == []


def test_two_that_look_at_once_do_not_take_it_either() -> None:
    """What was free when one looked may have been given up since: the lease itself refuses."""
    device = DeviceFactory(restricted_until=timezone.now() + timedelta(minutes=5))
    assert Device.objects.take_leases([device.pk], "worker") == {}

    assert Device.objects.work_again() == 1

    assert Device.objects.take_leases([device.pk], "worker") == {device.pk: 1}


def test_what_is_on_the_wire_is_finished_first_and_nothing_lets_it_send_again() -> None:
    device = DeviceFactory(online=True)
    mine = broadcaster("worker", device)
    lease = mine.held[device.pk]
    lease.hand_over(claimed_of(BroadcastMessageFactory(device=device)), lease.slot)

    hear(mine, device, ELSEWHERE, Connected())
    mine.keep()
    assert mine.held[device.pk] is lease
    assert not lease.connected

    lease.in_flight = None
    mine.keep()
    assert mine.held == {}


def test_an_outdated_library_opens_no_more_of_its_transport_s_devices(opened: list[str]) -> None:
    old, still_connected = DeviceFactory.create_batch(2, online=True)
    mine = broadcaster("worker", old, still_connected)

    hear(mine, old, TOO_OLD)
    DeviceFactory(name="Another")
    mine.keep()

    assert mine.held.keys() == {still_connected.pk}
    assert opened == []
    old.refresh_from_db()
    assert (old.state, old.status_reason, old.restricted_until) == (
        "offline", TOO_OLD.reason, None,
    )  # fmt: skip
    # A host with a newer one may have it at once.
    broadcaster("newer").keep()
    assert f"newer opens {old}" in opened


@pytest.mark.parametrize("state", ["banned", "logged_out"])
def test_who_says_at_once_that_it_works_again_gets_a_new_session(
    opened: list[str], state: Any
) -> None:
    """The one that was blocked connects no more, so it must not be kept."""
    device = DeviceFactory(name="Sales 01", online=True)
    mine = broadcaster("worker", device)
    session: Any = mine.held[device.pk].session

    hear(mine, device, Blocked(state, "Too many."))
    assert Device.objects.work_again() == 1
    for _look in range(2):
        mine.keep()

    session.close.assert_called_once()
    assert opened == ["worker opens Sales 01"]


def test_after_a_while_it_is_tried_again(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = DeviceFactory(name="Sales 01", online=True)
    mine = broadcaster("worker", device)
    monkeypatch.setattr(leases, "OUTDATED_SECONDS", 0.0)

    hear(mine, device, TOO_OLD)
    mine.keep()

    assert opened == ["worker opens Sales 01"]


def test_the_pages_say_until_when_a_device_is_left_alone(operator_client: Client) -> None:
    device = DeviceFactory(
        name="Sales 01", status_reason=ELSEWHERE.reason,
        restricted_until=timezone.now() + timedelta(minutes=5),
    )  # fmt: skip
    message = BroadcastMessageFactory(device=device)
    url = reverse("devices:detail", args=[device.pk])

    page = operator_client.get(url).content.decode()

    assert ELSEWHERE.reason in page
    assert "It is left alone until" in page
    assert reason(message).startswith("Sales 01 is offline. Sales 01 goes on")

    operator_client.post(reverse("devices:works_again", args=[device.pk]))
    page = operator_client.get(url).content.decode()
    assert "It is left alone" not in page
    assert ELSEWHERE.reason not in page


def test_who_was_stopped_while_it_opened_what_it_took_opens_no_more_of_it(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    """Whoever has the others since would be thrown out by a second session of the account."""

    def open_it(held: Leases, device: Device, epoch: int) -> None:
        held.held[device.pk] = lease_of(device, epoch=epoch)

    DeviceFactory.create_batch(3)
    mine, now = broadcaster("worker"), leases.clock()
    stopped_seconds = settings.LEASE_SECONDS
    monkeypatch.setattr(Leases, "_open", open_it)
    monkeypatch.setattr(
        leases, "clock", lambda: now + (stopped_seconds if len(mine.held) == 2 else 0)
    )

    mine.keep()

    assert len(mine.held) == 2
    assert Device.objects.filter(worker_id="").count() == 1, "another may have it at once"
