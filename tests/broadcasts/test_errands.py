"""Who does pairings and unlinkings: what really happens is in tests/whatsapp/test_pairing.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from broadcasts.errands import Errands
from broadcasts.models import Worker
from devices.pairing import Pairing, Unlinking
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_(settings: LazySettings, tmp_path: Path) -> Pairing:
    settings.SESSION_DIR = tmp_path / "sessions"
    device = DeviceFactory(transport="neonize", phone=None)
    return Pairing.start(device, "qr", "", User.objects.create_user("siti"))


def test_a_host_without_whatsapp_support_takes_nothing_up(
    request_: Pairing, tmp_path: Path
) -> None:
    errands = Errands("worker")  # the tests' own process has not begun with what neonize needs
    errands.look_around()
    errands.stop()
    request_.refresh_from_db()
    assert request_.state == "requested"
    assert not (tmp_path / "sessions").exists()
    assert not Worker.objects.register("worker").can_pair


def test_of_the_broadcasters_of_a_host_one_looks(request_: Pairing) -> None:
    first, second = Errands("first"), Errands("second")
    assert first._is_ours()
    assert not second._is_ours()
    first.stop()
    assert second._is_ours()
    second.stop()


def test_a_session_that_is_on_another_host_is_left_to_that(request_: Pairing) -> None:
    DeviceFactory(transport="neonize", session="elsewhere").log_out(User.objects.get())
    request_.cancel()
    errands = Errands("worker")
    errands.can_pair = True  # as where neonize is installed: nothing of it is needed for this
    errands.look_around()
    errands.stop()
    assert Unlinking.objects.get().state == "requested"
