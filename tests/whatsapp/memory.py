"""What neonize's shared library holds in the memory of this process, to be read and, once, changed.

The library believes a server whose certificates lead to `WACertPubKey`, 32 bytes that are in no
file or setting of its own. `trust` puts the double's key in their place: in this process, nothing
on disk, and in tests only, because whoever holds that key is WhatsApp to the client from then on.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import neonize  # loads the library

# As in the wheel of neonize 0.5.2, from whatsmeow (socket/constants.go): a public key.
WHATSAPP_ROOT_KEY = bytes.fromhex(
    "142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b"
)
ROOT_KEY_VARIABLE = "WHATSAPP_DOUBLE_ROOT_KEY"


class Region(NamedTuple):
    start: int
    end: int
    is_writable: bool

    def read(self) -> bytes:
        return ctypes.string_at(self.start, self.end - self.start)


def regions() -> Iterator[Region]:
    """Yields where the library lies in the memory of this process."""
    folder = str(Path(neonize.__file__).resolve().parent)
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, *rest = line.split(maxsplit=5)
        path = rest[-1]
        if path.startswith(folder) and path.endswith(".so") and "r" in permissions:
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield Region(start, end, "w" in permissions)


def trust() -> None:
    """Makes every client of this process take the double for WhatsApp."""
    key = bytes.fromhex(os.environ[ROOT_KEY_VARIABLE])
    hits = [
        region.start + place
        for region in regions()
        if region.is_writable
        for place in places(region.read(), WHATSAPP_ROOT_KEY)
    ]
    if len(hits) != 1:
        raise LookupError(f"the root key is {len(hits)} times in this build of neonize, not once")
    ctypes.memmove(hits[0], key, len(key))


def places(data: bytes, wanted: bytes) -> Iterator[int]:
    """Yields every place of `wanted` in `data`."""
    place = data.find(wanted)
    while place >= 0:
        yield place
        place = data.find(wanted, place + 1)
