from __future__ import annotations

import io
import random
import zipfile
from contextlib import suppress

import pytest

from attachments.kinds import LIST_BYTES, MOST_BYTES, NotTaken, Recognised, recognise
from attachments.models import clean_name
from attachments.wholeness import PIECE_BYTES
from tests.attachments.files import MP4, OLD_OFFICE, PDF, PNG, archive, box, jpeg

ODT = archive(mimetype="application/vnd.oasis.opendocument.text")
DOCX = archive("[Content_Types].xml", "word/document.xml")
OPEN_XML = "application/vnd.openxmlformats-officedocument"


def packed(how: int) -> bytes:
    """With a type that is packed, which OpenDocument's never is; and damaged."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.text")
    damaged = bytearray(content.getvalue())
    damaged[38:50] = b"\xff" * 12
    return bytes(damaged)


@pytest.mark.parametrize(
    ("content", "name", "kind", "content_type"),
    [
        (PNG, "a.png", "image", "image/png"),
        (jpeg(), "a.jpg", "image", "image/jpeg"),
        (jpeg(), "holiday.pdf", "image", "image/jpeg"),  # its name is wrong, its content is not
        (MP4, "a.mp4", "video", "video/mp4"),
        (box(b"3gp5"), "a.3gp", "video", "video/3gpp"),
        (PDF, "a", "document", "application/pdf"),
        (DOCX, "a.docx", "document", f"{OPEN_XML}.wordprocessingml.document"),
        (archive("[Content_Types].xml", "xl/workbook.xml"), "a", "document",
         f"{OPEN_XML}.spreadsheetml.sheet"),
        (archive("[Content_Types].xml", "ppt/presentation.xml"), "a", "document",
         f"{OPEN_XML}.presentationml.presentation"),
        (archive(mimetype="application/vnd.oasis.opendocument.text"), "a", "document",
         "application/vnd.oasis.opendocument.text"),
        (packed(zipfile.ZIP_DEFLATED), "a.odt", "document", "application/zip"),
        (packed(zipfile.ZIP_LZMA), "a.odt", "document", "application/zip"),
        (archive("a/word/b"), "a.docx", "document", "application/zip"),
        (OLD_OFFICE, "a.XLS", "document", "application/vnd.ms-excel"),
        ("Harga,RM 8\n✓".encode(), "a.csv", "document", "text/csv"),
        (b"x" * (64 * 1024 - 1) + "é".encode(), "a.txt", "document", "text/plain"),
    ],
)  # fmt: skip
def test_a_file_is_what_is_in_it(content: bytes, name: str, kind: str, content_type: str) -> None:
    found = recognise(io.BytesIO(content), name)
    assert (found.kind, found.content_type) == (kind, content_type)


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (b"GIF89a" + bytes(20), "a.png", "stickers"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a.jpg", "stickers"),
        (box(b"qt  "), "a.mp4", "MP4"),
        (box(b"M4A "), "a.mp4", "MP4"),
        (box(b"heic"), "a.jpg", "Save it as JPEG"),
        (b"MZ\x90\0" + bytes(60), "a.pdf", "none of the files"),
        (b"<html><script>alert(1)</script>", "a.html", "none of the files"),
        (b"<svg xmlns='...'/>", "a.svg", "none of the files"),
        (b"\0\1\2", "a.txt", "none of the files"),
        (b"\xff\xfe\xff", "a.csv", "none of the files"),
        (OLD_OFFICE, "setup.msi", "none of the files"),
        (b"PK\x03\x04" + bytes(50), "a.docx", "damaged"),
        (PNG[:20], "a.png", "damaged"),
        (PNG[:12], "a.png", "damaged"),
        (ODT[:-100] + ODT[-80:], "a.odt", "damaged"),
    ],
)
def test_what_whatsapp_would_not_show_is_refused_with_what_to_do(
    content: bytes, name: str, reason: str
) -> None:
    with pytest.raises(NotTaken, match=reason):
        recognise(io.BytesIO(content), name)


@pytest.mark.parametrize(
    ("content", "kind"), [(jpeg(), "image"), (MP4, "video"), (PDF, "document")]
)
def test_each_kind_has_its_largest(content: bytes, kind: str) -> None:
    fits = content + bytes(MOST_BYTES[kind] - len(content))
    assert recognise(io.BytesIO(fits), "a").kind == kind
    with pytest.raises(NotTaken, match=r"(up to|sent has) (5|16)\.0"):
        recognise(io.BytesIO(fits + b"x"), "a")


def test_a_zip_file_is_measured_before_its_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(NotTaken, match="sent has 16"):
        recognise(io.BytesIO(DOCX + bytes(MOST_BYTES["document"])), "a.docx")


def test_a_zip_file_with_very_many_names_is_a_zip_file_whatever_they_are() -> None:
    many = archive("[Content_Types].xml", *(f"word/{n:060}" for n in range(LIST_BYTES // 100)))
    assert recognise(io.BytesIO(many), "a.docx").content_type == "application/zip"


@pytest.mark.parametrize("whole", [jpeg(), PNG, MP4, box(b"3gp5"), PDF])
def test_a_file_whose_end_is_missing_is_refused(whole: bytes) -> None:
    for missing in (2, 3, len(whole) // 3, len(whole) // 2):
        with pytest.raises(NotTaken, match=r"its end is missing|damaged"):
            recognise(io.BytesIO(whole[:-missing]), "a")


@pytest.mark.parametrize("whole", [jpeg(), PNG, MP4, box(b"3gp5"), PDF])
@pytest.mark.parametrize("behind", [bytes(5_000), b"\n", b"SEFTandWhateverAPhoneWritesThere"])
def test_what_stands_behind_the_end_does_no_harm(whole: bytes, behind: bytes) -> None:
    recognise(io.BytesIO(whole + behind), "a")


def test_an_end_is_found_wherever_it_is_read_in_two() -> None:
    for filled in range(PIECE_BYTES - 20, PIECE_BYTES + 20):
        recognise(io.BytesIO(b"%PDF-1.7\n" + b"x" * filled + b"%%EOF"), "a.pdf")


def test_a_picture_s_size_is_read_behind_what_its_camera_wrote() -> None:
    found = recognise(io.BytesIO(jpeg(4000, 3000)), "a.jpg")
    assert (found.width, found.height) == (4000, 3000)


@pytest.mark.parametrize(
    "head", [b"\xff\xd8\xff\xda\0\2", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xff\xe0\0\2"]
)
def test_a_picture_whose_size_cannot_be_found_has_none(head: bytes) -> None:
    content = head + b"drawn" + b"\xff\xd9"
    assert recognise(io.BytesIO(content), "a.jpg").width == 0


@pytest.mark.parametrize(
    ("name", "found", "cleaned"),
    [
        ("October.PDF", Recognised("document", "application/pdf", ".pdf"), "October.PDF"),
        ("photo.jpeg", Recognised("image", "image/jpeg", ".jpg"), "photo.jpeg"),
        ("invoice.exe", Recognised("document", "application/pdf", ".pdf"), "invoice.pdf"),
        ("../../etc/passwd", Recognised("document", "text/plain", ".txt"), "passwd.txt"),
        ("C:\\new\\Harga ✓.png", Recognised("image", "image/png", ".png"), "Harga ✓.png"),
        ("gpj.\u202eexe.pdf", Recognised("document", "application/pdf", ".pdf"), "gpj.exe.pdf"),
        ("", Recognised("image", "image/png", ".png"), "file.png"),
        ("...", Recognised("image", "image/png", ".png"), "file.png"),
        ("x" * 300 + ".pdf", Recognised("document", "application/pdf", ".pdf"), "x" * 116 + ".pdf"),
    ],
)  # fmt: skip
def test_a_name_ends_as_what_it_is_and_says_no_more_than_a_name(
    name: str, found: Recognised, cleaned: str
) -> None:
    assert clean_name(name, found) == cleaned


@pytest.mark.parametrize("whole", [PNG, jpeg(), MP4, PDF, ODT, DOCX, OLD_OFFICE])
def test_however_a_file_is_damaged_it_is_taken_or_refused(whole: bytes) -> None:
    dice = random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole[: dice.randint(1, len(whole))] if dice.random() < 0.5 else whole)
        for _ in range(dice.randint(0, 8)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with suppress(NotTaken):
            recognise(io.BytesIO(damaged), "a.doc")
