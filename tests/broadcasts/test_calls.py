from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broadcasts.calls import Call, Calls
from devices.models import Device
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db


def test_what_calls_is_heard_anew_each_time() -> None:
    """The statement is worked out once, and goes by the database's clock and columns."""
    now = timezone.now()
    DeviceFactory(online=True)
    held = DeviceFactory(
        online=True, status="restricted", restricted_until=now + timedelta(hours=1)
    )
    calls = Calls("worker")
    assert calls.heard() == []

    Device.objects.filter(pk=held.pk).update(restricted_until=now - timedelta(seconds=1))
    free = DeviceFactory()

    assert sorted(calls.heard()) == [
        Call(held.pk, "simulator", "", usable=True, free=False, over=True),
        Call(free.pk, "simulator", "", usable=True, free=True, over=False),
    ]
