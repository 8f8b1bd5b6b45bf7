"""What tests/devices/test_transport_contract.py needs to hold our transport against the double."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devices.models import Device
from tests.factories import DeviceFactory
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.paired import Original

VARIABLE = "WHATSAPP_DOUBLE"  # where the double is that this process was started for


@dataclass
class Accounts:
    """Linked accounts, and what those got to whom they write."""

    whatsapp: Double
    original: Original
    sessions: Path

    def register(self, *numbers: str) -> None:
        self.whatsapp.register(*numbers)

    def device(self) -> Device:
        """Makes a device whose account is linked."""
        device: Device = DeviceFactory(transport="neonize")
        device.session = f"device-{device.pk}"
        device.save(update_fields=["session"])
        phone = self.whatsapp.register(str(device.phone))
        self.original.copy(phone, self.sessions / f"{device.session}.db")
        return device

    def received(self, device: Device, phone: str) -> list[str]:
        messages = PhoneOf(self.whatsapp, phone).received()
        assert all(message.copies == 1 for message in messages)
        return [message.text for message in messages if message.sender == device.phone]

    def files(self, device: Device, phone: str) -> list[str]:
        return [
            hashlib.sha256(message.media).hexdigest()
            for message in PhoneOf(self.whatsapp, phone).received()
            if message.sender == device.phone and message.media
        ]


def accounts_here(sessions: Path) -> Accounts | None:
    """Returns accounts with their files in this folder; None where there is no double."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    whatsapp = Double.at(Path(folder))
    return Accounts(whatsapp, _original(whatsapp.folder), sessions)


@cache
def _original(folder: Path) -> Original:
    whatsapp = Double.at(folder)
    return Original(whatsapp, whatsapp.register("601990000001"), folder / "original.db")
