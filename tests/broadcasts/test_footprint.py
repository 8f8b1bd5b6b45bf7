"""Broadcasters that hold too much of their host, and begin anew."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import LazySettings

from broadcasts.footprint import Footprint
from broadcasts.models import BroadcastMessage, Worker
from devices.models import SimulatedMessage
from tests.factories import BroadcastMessageFactory, DeviceFactory
from tests.processes import broadcaster, wait_until


@pytest.mark.parametrize(
    ("limits", "is_too_large"),
    [({}, False), ({"RECYCLE_FILES": 1}, True), ({"RECYCLE_MEGABYTES": 1}, True)],
    ids=["neither", "files", "memory"],
)
def test_a_process_knows_what_it_holds(
    settings: LazySettings, limits: dict[str, int], is_too_large: bool
) -> None:
    settings.RECYCLE_AFTER = timedelta(0)
    for name, value in limits.items():
        setattr(settings, name, value)

    assert Footprint().is_too_large() is is_too_large


def test_a_process_that_began_a_moment_ago_goes_on_whatever_it_holds(
    settings: LazySettings,
) -> None:
    """Else one whose limits are too low for its devices would do nothing but begin."""
    settings.RECYCLE_FILES = 1

    assert not Footprint().is_too_large()


@pytest.mark.django_db(transaction=True)
def test_a_worn_out_broadcaster_gives_back_and_begins_anew_as_the_same_process() -> None:
    device = DeviceFactory(min_delay_seconds=20, max_delay_seconds=20)
    messages = BroadcastMessageFactory.create_batch(30, device=device)
    # Some are not on WhatsApp; none is left, and of none it is unknown what became of it.
    done = BroadcastMessage.objects.filter(status__in=["sent", "skipped"])

    with broadcaster(
        "--devices-per-worker=7", RECYCLE_FILES="1", RECYCLE_AFTER_MINUTES="0.03"
    ) as process:
        wait_until(lambda: Worker.objects.count() >= 3 and done.count() == len(messages))
        process.terminate()
        assert process.wait(timeout=60) in (0, -15)  # -15: when it was just beginning

    assert set(Worker.objects.values_list("pid", "capacity")) == {(process.pid, 7)}
    device.refresh_from_db()
    assert device.lease_epoch >= 3, "it was given back each time, and taken anew"
    keys = SimulatedMessage.objects.filter(from_device=True).values_list("key", flat=True)
    assert len(set(keys)) == len(keys)
