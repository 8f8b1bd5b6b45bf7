"""Protocol buffers of numbers and bytes, which is all that Signal's two messages hold.

The wheel brings the definitions of WhatsApp's own messages, but not of these. Their fields are
numbered below 16, so that a field's key is one byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

NUMBER, BYTES = 0, 2


class Fields(dict[int, int | bytes]):
    def data(self, field: int) -> bytes:
        value = self[field]
        assert isinstance(value, bytes), f"field {field} is a number"
        return value

    def number(self, field: int) -> int:
        value = self.get(field, 0)
        assert isinstance(value, int), f"field {field} is no number"
        return value


def read_fields(data: bytes) -> Fields:
    fields, stream = Fields(), iter(data)
    for key in stream:
        number = _read_number(stream)
        is_bytes = key & 7 == BYTES
        fields[key >> 3] = bytes(next(stream) for _ in range(number)) if is_bytes else number
    return fields


def write_fields(fields: Mapping[int, int | bytes]) -> bytes:
    data = b""
    for field, value in fields.items():
        if isinstance(value, bytes):
            data += bytes([field << 3 | BYTES]) + _write_number(len(value)) + value
        else:
            data += bytes([field << 3 | NUMBER]) + _write_number(value)
    return data


def _read_number(stream: Iterator[int]) -> int:
    """Seven bits a byte, the lowest first; the topmost bit says that there are more."""
    number = shift = 0
    for byte in stream:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return number


def _write_number(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])
