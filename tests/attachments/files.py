"""Small files of each type, as they begin in earnest."""

from __future__ import annotations

import io
import struct
import zipfile

from tests.factories import PNG


def jpeg(width: int = 640, height: int = 480) -> bytes:
    camera = b"\xff\xe1" + struct.pack(">H", 2 + 30) + b"Exif\0\0" + bytes(24)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + camera + frame + b"\xff\xd9"


def box(brand: bytes) -> bytes:
    return struct.pack(">I", 20) + b"ftyp" + brand + bytes(8) + bytes(100)


def archive(*names: str, mimetype: str = "") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        if mimetype:
            file.writestr("mimetype", mimetype)
        for name in names:
            file.writestr(name, "<x/>")
    return content.getvalue()


OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
PDF = b"%PDF-1.7\n1 0 obj\n"
MP4 = box(b"isom")
__all__ = ["MP4", "OLD_OFFICE", "PDF", "PNG", "archive", "box", "jpeg"]
