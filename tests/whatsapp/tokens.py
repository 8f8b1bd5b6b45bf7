"""The words that the binary XML has numbers for, read out of the installed library's memory.

There are about 1,260, in one table that a byte indexes and four that two bytes do. They are
WhatsApp's, and change with its version: instead of a copy of ours, the client's own tables are
used. In Go, a table of strings is an array of (address, length); so each is found by its first
words: where their text is, and who points there.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tests.whatsapp.memory import Region, places, regions

HEADER = struct.Struct("<QQ")
LONGEST_WORD = 200
# How each table begins, after any empty word, and which of these words is rare in the library.
SINGLE = (["xmlstreamstart", "xmlstreamend", "s.whatsapp.net", "type"], 0)
DOUBLE = [
    (["read-self", "active", "fbns"], 0),
    (["reject", "dirty", "announcement"], 2),
    (["64", "ptt_playback_speed_enabled"], 1),
    (["1724", "profile_picture"], 1),
]
SINGLE_WORDS, DOUBLE_WORDS = 235, 256


class Tables(NamedTuple):
    single: list[str]
    double: list[list[str]]


class Library:
    def __init__(self) -> None:
        self._parts: list[tuple[Region, bytes]] = [(part, part.read()) for part in regions()]
        self._start = min(part.start for part, _ in self._parts)
        self._end = max(part.end for part, _ in self._parts)

    def table(self, first: list[str], rare: int, length: int) -> list[str]:
        """Returns the table of this length that begins with `first`."""
        text = first[rare].encode()
        for address in self._find(text):
            for header in self._find(HEADER.pack(address, len(text))):
                start = header - rare * HEADER.size
                if self._words(start, len(first)) == first:
                    words = self._words(start, length)
                    if words is not None:
                        return words
        raise LookupError(f"this build of neonize has no table that begins with {first}")

    def _find(self, wanted: bytes) -> Iterator[int]:
        for part, data in self._parts:
            yield from (part.start + place for place in places(data, wanted))

    def _words(self, start: int, count: int) -> list[str] | None:
        """Returns the words of a table at this address, None if there is no table."""
        words = []
        for number in range(count):
            address, length = HEADER.unpack(
                ctypes.string_at(start + number * HEADER.size, HEADER.size)
            )
            if length and not (self._start <= address < self._end and length <= LONGEST_WORD):
                return None
            word = ctypes.string_at(address, length) if length else b""
            if not word.isascii():
                return None
            words.append(word.decode())
        return words


def read_tables() -> Tables:
    library = Library()
    single = library.table(*SINGLE, SINGLE_WORDS)
    return Tables(["", *single], [library.table(*begin, DOUBLE_WORDS) for begin in DOUBLE])
