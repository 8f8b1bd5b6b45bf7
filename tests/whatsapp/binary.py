"""WhatsApp's binary XML: nodes with attributes, and children or bytes, as the wheel reads it.

Reading needs everything the client writes: numbered words, packed digits, three sorts of JIDs.
Writing does without the words: spelling them out is longer, and as valid.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from tests.whatsapp.tokens import read_tables

USER_SERVER, LID_SERVER = "s.whatsapp.net", "lid"
# The first byte of a value: what sort it is. Others are the number of a word.
EMPTY, DOUBLE, DEVICE_JID, LIST_8, LIST_16, PLAIN_JID = 0, range(236, 240), 247, 248, 249, 250
HEX, BYTES_8, BYTES_20, BYTES_32, NIBBLES = 251, 252, 253, 254, 255
DIGITS = {HEX: "0123456789ABCDEF", NIBBLES: "0123456789-.    "}
DOMAINS = {0: USER_SERVER, 1: LID_SERVER}  # the second byte of a device's JID
COMPRESSED = 2  # in the byte before a stanza


class JID(NamedTuple):
    """Whose: a user (by number or LID), one of the user's devices, or with no user a server."""

    user: str
    server: str
    device: int = 0

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}" if self.user else self.server


SERVER = JID("", USER_SERVER)

Value = str | int | JID | None


@dataclass
class Node:
    tag: str
    attrs: dict[str, Value] = field(default_factory=dict)
    content: list[Node] | bytes | None = None

    @property
    def children(self) -> list[Node]:
        return self.content if isinstance(self.content, list) else []

    @property
    def data(self) -> bytes:
        assert isinstance(self.content, bytes), f"{self.tag} holds no bytes"
        return self.content

    def child(self, *path: str) -> Node | None:
        """Returns the first child of this tag, or the first one's first child and so on."""
        node: Node | None = self
        for tag in path:
            node = next((child for child in node.children if child.tag == tag), None)
            if node is None:
                return None
        return node

    def at(self, *path: str) -> Node:
        """Returns a descendant that must be there."""
        node = self.child(*path)
        assert node is not None, f"{self.tag} has no {'/'.join(path)}"
        return node

    def jid(self, name: str) -> JID:
        value = self.attrs.get(name)
        assert isinstance(value, JID), f"{self.tag} has no JID {name}"
        return value

    def text(self, name: str) -> str:
        return str(self.attrs.get(name) or "")


def encode(node: Node) -> bytes:
    return b"\0" + _write_node(node)


def decode(data: bytes) -> Node:
    stanza = zlib.decompress(data[1:]) if data[0] & COMPRESSED else data[1:]
    return _Reader(stanza).node()


def _write_node(node: Node) -> bytes:
    attrs = {name: value for name, value in node.attrs.items() if value not in (None, "")}
    has_content = node.content is not None
    out = _write_list(1 + 2 * len(attrs) + has_content) + _write(node.tag)
    for name, value in attrs.items():
        out += _write(name) + _write(value)
    if isinstance(node.content, list):
        out += _write_list(len(node.content)) + b"".join(map(_write_node, node.content))
    elif has_content:
        out += _write(node.content)
    return out


def _write_list(length: int) -> bytes:
    if length == 0:
        return bytes([EMPTY])
    return bytes([LIST_8, length]) if length < 256 else bytes([LIST_16]) + length.to_bytes(2, "big")


def _write(value: Value | bytes) -> bytes:
    if isinstance(value, JID):
        if value.device:
            domain = 1 if value.server == LID_SERVER else 0
            return bytes([DEVICE_JID, domain, value.device]) + _write(value.user)
        user = _write(value.user) if value.user else bytes([EMPTY])
        return bytes([PLAIN_JID]) + user + _write(value.server)
    data = value if isinstance(value, bytes) else str(value).encode()
    if len(data) < 256:
        return bytes([BYTES_8, len(data)]) + data
    return bytes([BYTES_32]) + len(data).to_bytes(4, "big") + data


@cache
def _tables() -> tuple[list[str], list[list[str]]]:
    return read_tables()


def warm_up() -> None:
    """Reads the words now instead of with the first stanza; it takes half a second."""
    _tables()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0
        self._single, self._double = _tables()

    def node(self) -> Node:
        size = self._size(self._number(1))
        tag = self._value()
        attrs: dict[str, Value] = {}
        for _ in range((size - 1) // 2):
            name = self._value()
            attrs[str(name)] = self._value()
        return Node(str(tag), attrs, None if size % 2 else self._content())

    def _content(self) -> list[Node] | bytes | None:
        kind = self._number(1)
        if kind in (LIST_8, LIST_16):
            return [self.node() for _ in range(self._size(kind))]
        if kind in (BYTES_8, BYTES_20, BYTES_32):
            return self._bytes(kind)
        self._place -= 1
        value = self._value()
        return None if value is None else str(value).encode()

    def _value(self) -> Value:
        kind = self._number(1)
        if kind == EMPTY:
            return None
        if kind in DOUBLE:
            return self._double[kind - DOUBLE.start][self._number(1)]
        if kind == PLAIN_JID:
            user = self._value()
            return JID(str(user or ""), str(self._value()))
        if kind == DEVICE_JID:
            domain, device = self._number(1), self._number(1)
            return JID(str(self._value()), DOMAINS[domain], device)
        if kind in DIGITS:
            return self._packed(DIGITS[kind])
        if kind in (BYTES_8, BYTES_20, BYTES_32):
            return self._bytes(kind).decode()
        return self._single[kind]

    def _packed(self, digits: str) -> str:
        """Two characters a byte; the topmost bit of the length says that the last is padding."""
        length = self._number(1)
        text = ""
        for byte in self._take(length & 127):
            text += digits[byte >> 4] + digits[byte & 15]
        return text[:-1] if length & 128 else text

    def _bytes(self, kind: int) -> bytes:
        if kind == BYTES_20:
            return self._take(self._number(3) & 0xFFFFF)
        return self._take(self._number(1 if kind == BYTES_8 else 4))

    def _size(self, kind: int) -> int:
        if kind == EMPTY:
            return 0
        return self._number(1 if kind == LIST_8 else 2)

    def _number(self, length: int) -> int:
        return int.from_bytes(self._take(length), "big")

    def _take(self, length: int) -> bytes:
        self._place += length
        return self._data[self._place - length : self._place]
