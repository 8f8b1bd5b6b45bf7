"""Whether a file is all there: a copy or a download that broke off begins like a whole one.

Only where its type says plainly where it ends. What is doubtful passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

# Pieces into which files are divided; no real one has as many.
MOST_PIECES = 10_000
PIECE_BYTES = 1024 * 1024
BOXES = frozenset(
    b"ftyp styp moov moof mfra mdat sidx meta udta uuid free skip wide pdin pnot".split()
)
START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"


def is_whole(file: BinaryIO, content_type: str) -> bool:
    """Returns False for a file of that type whose end is missing."""
    look = LOOKS.get(content_type)
    return look(file) if look else True


def _jpeg(file: BinaryIO) -> bool:
    """The mark of the end, behind the head: a small picture in there has one of its own. In what
    is drawn it cannot occur by chance."""
    at = 2
    for _ in range(MOST_PIECES):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            return False
        if head[0] != 0xFF or head[1] == START_OF_SCAN:
            break
        filling = head[1] == 0xFF
        at += 1 if filling else 2 + max(int.from_bytes(head[2:4]), 2)
    return _contains(file, END_OF_IMAGE, at)


def _png(file: BinaryIO) -> bool:
    size, at = file.seek(0, 2), 8
    for _ in range(MOST_PIECES):
        file.seek(at)
        head = file.read(8)
        at += 12 + int.from_bytes(head[:4])
        if len(head) < 8 or at > size:
            return False
        if head[4:] == b"IEND":
            return True
    return True


def _video(file: BinaryIO) -> bool:
    """Each box says how long it is, and without one of them ("moov") nothing is played."""
    size, at, has_index = file.seek(0, 2), 0, False
    for _ in range(MOST_PIECES):
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4]), head[4:8]
        if len(head) < 8 or name not in BOXES:
            break  # the end, or what somebody has put behind it
        if length == 1:
            length = int.from_bytes(head[8:16])
        elif length == 0:  # up to the end
            length = size - at
        has_index |= name == b"moov"
        if length < 8 or at + length > size:
            return False
        at += length
    return has_index


def _pdf(file: BinaryIO) -> bool:
    return _contains(file, b"%%EOF", 0)


def _contains(file: BinaryIO, mark: bytes, start: int) -> bool:
    file.seek(start)
    last = b""
    while piece := file.read(PIECE_BYTES):
        if mark in last + piece:
            return True
        last = piece[1 - len(mark) :]
    return False


LOOKS: dict[str, Callable[[BinaryIO], bool]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "video/mp4": _video,
    "video/3gpp": _video,
    "application/pdf": _pdf,
}
