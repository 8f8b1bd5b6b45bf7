"""A transport that is no part of Siaran, used by a real broadcaster; and one that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from devices.models import Device
from devices.transports import transport, transport_choices
from tests.devices.test_transport_contract import example_code
from tests.factories import BroadcastMessageFactory, DeviceFactory
from tests.processes import broadcaster, wait_until


@pytest.mark.django_db(transaction=True)
def test_a_broadcaster_sends_through_the_example_and_says_which_transport_is_gone(
    tmp_path: Path,
) -> None:
    """One process, so that the device that cannot be opened is beside one that can."""
    (tmp_path / "folder_transport.py").write_text(example_code())
    device = DeviceFactory(transport="folder")
    orphan = DeviceFactory(transport="gone")
    message = BroadcastMessageFactory(device=device)
    waiting = BroadcastMessageFactory(device=orphan)

    with broadcaster(
        PYTHONPATH=str(tmp_path),
        FOLDER_TRANSPORT=str(tmp_path),
        EXTRA_TRANSPORTS="folder=folder_transport.FolderTransport",
    ) as process:
        wait_until(lambda: type(message).objects.filter(pk=message.pk, status="sent").exists())
        wait_until(lambda: Device.objects.filter(pk=orphan.pk, status_reason__contains="gone"))
        process.terminate()
        assert process.wait(timeout=30) == 0

    sent = (tmp_path / str(device.pk) / message.key).read_text()
    assert sent == f"{message.recipient_phone}\n{message.body}"
    waiting.refresh_from_db()
    assert waiting.status == "pending"
    orphan.refresh_from_db()
    assert orphan.worker_id == ""


@pytest.mark.django_db
def test_the_pages_say_that_a_transport_is_gone(operator_client: Client) -> None:
    orphan = DeviceFactory(transport="gone")
    known = DeviceFactory()

    def page(device: Device) -> str:
        return operator_client.get(reverse("devices:detail", args=[device.pk])).content.decode()

    assert "There is no transport “gone”" in page(orphan)
    assert "There is no transport" not in page(known)
    cards = operator_client.get(reverse("devices:list")).content.decode()
    assert cards.count("There is no transport") == 1


def test_the_choices_hold_a_third_party_s_name_without_importing_it(
    settings: LazySettings,
) -> None:
    settings.TRANSPORTS = settings.TRANSPORTS | {"folder": "no.such.module.Class"}

    assert dict(transport_choices())["folder"] == "folder"


def test_a_name_that_is_not_configured_is_told_in_words() -> None:
    with pytest.raises(LookupError, match="EXTRA_TRANSPORTS may add it"):
        transport("gone")
