"""Small files of each type, as they begin in earnest."""

from __future__ import annotations

import io
import struct
import zipfile

from tests.factories import PNG

# Cameras put one into what they write down, with an end of its own.
SMALL_ONE = b"\xff\xd8" + bytes(20) + b"\xff\xd9"


def jpeg(width: int = 640, height: int = 480) -> bytes:
    camera = b"\xff\xe1" + struct.pack(">H", 2 + 30) + b"Exif\0\0" + SMALL_ONE
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    drawn = b"\xff\xda" + struct.pack(">H", 8) + bytes(6) + b"drawn, with \xff\0 in it"
    return b"\xff\xd8" + camera + frame + drawn + b"\xff\xd9"


def box(brand: bytes) -> bytes:
    kind = struct.pack(">I", 20) + b"ftyp" + brand + bytes(8)
    drawn = struct.pack(">IQ", 1, 32).replace(b"\1", b"\1mdat", 1) + bytes(16)
    return kind + drawn + struct.pack(">I", 108) + b"moov" + bytes(100)


def archive(*names: str, mimetype: str = "") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        if mimetype:
            file.writestr("mimetype", mimetype)
        for name in names:
            file.writestr(name, "<x/>")
    return content.getvalue()


OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
PDF = b"%PDF-1.7\n1 0 obj\n%%EOF\n"
MP4 = box(b"isom")
__all__ = ["MP4", "OLD_OFFICE", "PDF", "PNG", "archive", "box", "jpeg"]
