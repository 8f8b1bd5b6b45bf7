"""What a file is, by what is in it. Its name decides only between types that begin alike.

Few types, each known by a documented signature, rather than a library that knows a thousand: what
is let in here is shown in the operators' browsers and opened on strangers' phones.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO, Literal

from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from attachments.wholeness import is_whole

Kind = Literal["image", "video", "document"]

MIB = 1024 * 1024
# WhatsApp's own for images and videos. It takes documents of up to 100 MB; ours go to thousands
# of phones, and a broadcaster holds some of them in memory.
MOST_BYTES: dict[str, int] = {"image": 5 * MIB, "video": 16 * MIB, "document": 16 * MIB}
TOO_LARGE = {
    "image": gettext_noop("This picture has %(size)s; WhatsApp takes up to %(most)s."),
    "video": gettext_noop("This video has %(size)s; WhatsApp takes up to %(most)s."),
    "document": gettext_noop("This document has %(size)s; the largest that is sent has %(most)s."),
}
HEAD_BYTES = 64 * 1024  # looked at to tell; a picture's size stands behind its camera's notes
# Of what a zip file says is in it: thousands of names. No Office document has as many.
LIST_BYTES = 1 * MIB

OPEN_XML = "application/vnd.openxmlformats-officedocument"
OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
# The folder in a zip file that only this type has.
OFFICE = {
    "word/": (f"{OPEN_XML}.wordprocessingml.document", ".docx"),
    "xl/": (f"{OPEN_XML}.spreadsheetml.sheet", ".xlsx"),
    "ppt/": (f"{OPEN_XML}.presentationml.presentation", ".pptx"),
}
OPEN_OFFICE = {
    f"{OPEN_DOCUMENT}.text": ".odt",
    f"{OPEN_DOCUMENT}.spreadsheet": ".ods",
    f"{OPEN_DOCUMENT}.presentation": ".odp",
}
# What Office wrote before 2007 all begins alike, as installers do.
OLD_OFFICE = {
    ".doc": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
}
TEXT = {".txt": "text/plain", ".csv": "text/csv", ".vcf": "text/vcard"}
# The brands of "ftyp" boxes that are video as phones play it; audio and Apple's are not among them.
VIDEO_BRANDS = {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ",
                b"MSNV", b"dash"}  # fmt: skip
# What zipfile raises of a file that is not what it says.
DAMAGED = (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, OSError, OverflowError,
           RuntimeError, ValueError)  # fmt: skip
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


class NotTaken(ValueError):
    """A file that WhatsApp would not show as a picture, video or document. Says why."""

    def __init__(self, reason: str | Promise) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Recognised:
    kind: Kind
    content_type: str
    suffix: str  # that its name should end with
    width: int = 0
    height: int = 0


def recognise(file: BinaryIO, name: str) -> Recognised:
    """Returns what this file is. Raises NotTaken, also for one that is too large for its kind, or
    whose end is missing."""
    found = _look_into(file, name)
    _check_size(file, found.kind)
    if not is_whole(file, found.content_type):
        raise NotTaken(_("This file is cut off: its end is missing. Copy or save it anew, and "
                         "choose that."))  # fmt: skip
    return found


def _check_size(file: BinaryIO, kind: Kind) -> None:
    size, most = file.seek(0, 2), MOST_BYTES[kind]
    if size > most:
        sizes = {"size": filesizeformat(size), "most": filesizeformat(most)}
        raise NotTaken(gettext(TOO_LARGE[kind]) % sizes)


def _look_into(file: BinaryIO, name: str) -> Recognised:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    suffix = PurePath(name).suffix.lower()
    if head.startswith(b"\xff\xd8\xff"):
        return Recognised("image", "image/jpeg", ".jpg", *_jpeg_size(head))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Recognised("image", "image/png", ".png", *_png_size(head))
    if head[4:8] == b"ftyp":
        return _by_brand(head[8:12])
    if head.startswith(b"%PDF-"):
        return Recognised("document", "application/pdf", ".pdf")
    if head.startswith(b"PK\x03\x04"):
        _check_size(file, "document")  # before its list is read
        return _in_zip(file)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") and suffix in OLD_OFFICE:
        return Recognised("document", OLD_OFFICE[suffix], suffix)
    if suffix in TEXT and _is_text(head):
        return Recognised("document", TEXT[suffix], suffix)
    raise NotTaken(_told_apart(head))


def _told_apart(head: bytes) -> str | Promise:
    if head.startswith((b"GIF8", b"RIFF")):
        return _("WhatsApp shows GIF and WebP as stickers at best. Save it as JPEG, PNG or MP4.")
    return _(
        "This is none of the files that WhatsApp shows: JPEG or PNG pictures, MP4 videos, and PDF, "
        "Word, Excel, PowerPoint, OpenDocument, zip, text and CSV documents."
    )


def _by_brand(brand: bytes) -> Recognised:
    if brand in VIDEO_BRANDS:
        return Recognised("video", "video/mp4", ".mp4")
    if brand.startswith(b"3gp"):
        return Recognised("video", "video/3gpp", ".3gp")
    if brand in (b"heic", b"heix", b"mif1", b"msf1", b"avif"):
        raise NotTaken(_("Phones of other makes cannot show this picture. Save it as JPEG."))
    raise NotTaken(_("Many phones cannot play this. Save it as an MP4 video."))


class _LongList(Exception):
    pass


class _Sparing:
    """A zip file of which no more is read at once: how long its list is, it says itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > LIST_BYTES:
            raise _LongList
        return self._file.read(LIST_BYTES if size < 0 else size)


def _in_zip(file: BinaryIO) -> Recognised:
    """Looks at the list of what is in it, and at the few bytes with which OpenDocument names its
    type: those are stored as they are, so nothing is unpacked."""
    try:
        with zipfile.ZipFile(_Sparing(file)) as archive:
            names = archive.namelist()
            if "mimetype" in names:
                named = archive.getinfo("mimetype")
                if named.compress_type == zipfile.ZIP_STORED and named.file_size < 100:
                    content_type = archive.read(named).decode("ascii", "replace").strip()
                    if content_type in OPEN_OFFICE:
                        return Recognised("document", content_type, OPEN_OFFICE[content_type])
    except _LongList:
        return Recognised("document", "application/zip", ".zip")
    except DAMAGED as error:
        raise NotTaken(_("This zip file is damaged.")) from error
    if "[Content_Types].xml" in names:
        for folder, (content_type, suffix) in OFFICE.items():
            if any(name.startswith(folder) for name in names):
                return Recognised("document", content_type, suffix)
    return Recognised("document", "application/zip", ".zip")


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.end >= HEAD_BYTES - 3  # the look ended within a character
    return True


def _png_size(head: bytes) -> tuple[int, int]:
    if head[12:16] != b"IHDR" or len(head) < 24:
        raise NotTaken(_("This picture is damaged."))
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def _jpeg_size(head: bytes) -> tuple[int, int]:
    """Returns width and height, 0 where they are not within what was looked at."""
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if marker in START_OF_FRAME:
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height
        at += 2 + max(length, 2)
    return 0, 0
