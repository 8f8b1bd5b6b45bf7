"""Reading the CSV files that spreadsheets write, a row at a time."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from django.utils.translation import gettext as _

DELIMITERS = ",;\t|"
_SAMPLE_BYTES = 64 * 1024
# A row of more lines than this is not an address with line breaks but a quotation mark that was
# never closed: it would swallow the rows after it.
_MAX_LINES = 50
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

# Headings as files name them, folded by `_fold`: English and Malay. The first of a field wins.
ALIASES: dict[str, tuple[str, ...]] = {
    "phone": (
        "phone", "phonenumber", "phoneno", "mobile", "mobilenumber", "mobileno", "mobilephone",
        "handphone", "hp", "hpno", "nohp", "whatsapp", "whatsappnumber", "whatsappno", "wa", "nowa",
        "notel", "notelefon", "nomortelefon", "nombortelefon", "notelbimbit", "telefon", "tel",
        "telno", "telephone", "telephonenumber", "contactnumber", "contactno", "msisdn",
    ),
    "name": (
        "name", "fullname", "customername", "leadname", "contactname", "firstname",
        "nama", "namapenuh", "namapelanggan",
    ),
    "niche": ("niche", "niches", "segment", "segmen", "tag", "tags", "produk", "product"),
    "status": ("targetstatus", "status", "leadstatus", "statuspelanggan"),
    "trigger": ("trigger", "triggers", "keyword", "katakunci", "pencetus"),
    "source": ("source", "leadsource", "sumber", "punca"),
    # Two fields, since "no" under the first is no place where somebody agreed. All columns of
    # these are read, not the first alone: a no in any of them counts.
    "consent": (
        "consent", "consented", "consentgiven", "hasconsent", "optedin", "optin", "agreed",
        "whatsappconsent", "whatsappoptin", "persetujuan", "setuju",
    ),
    "consent_source": (
        "consentsource", "sourceofconsent", "consentfrom", "wheretheyconsented", "wheretheyagreed",
        "optinsource", "sumberpersetujuan",
    ),
}  # fmt: skip
# Long enough that no other word ends so.
_NUMBERS = tuple(alias for alias in ALIASES["phone"] if len(alias) > 4)


class UnreadableFile(ValueError):
    """A file that cannot be imported as a whole; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the file. `row` counts as a spreadsheet does: the headings are row 1."""

    row: int
    cells: list[str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the file's head says: how cells are parted, and which column holds which field."""

    encoding: str
    delimiter: str
    headings: list[str]
    columns: dict[str, int]

    def every(self, field: str) -> list[int]:
        """All columns that are named like the field, beginning with the one in `columns`."""
        aliases = ALIASES[field]
        named = {i: name for i, h in enumerate(self.headings) if (name := _fold(h)) in aliases}
        return sorted(named, key=lambda index: aliases.index(named[index]))

    @property
    def unused(self) -> list[str]:
        """Headings that say nothing to us."""
        return self._ignored.get("", [])

    @property
    def further(self) -> dict[str, list[str]]:
        """Headings of columns like one that a field is read from already, by field: a lead has one
        number, so the second column of numbers is ignored, known or not."""
        return {field: headings for field, headings in self._ignored.items() if field}

    @property
    def _ignored(self) -> dict[str, list[str]]:
        used = {*self.columns.values(), *self.every("consent"), *self.every("consent_source")}
        # Of consent all columns are read that are known as such.
        read_once = self.columns.keys() - {"consent", "consent_source"}
        ignored: dict[str, list[str]] = {}
        for index, heading in enumerate(self.headings):
            if heading and index not in used:
                field = _field_of(heading)
                ignored.setdefault(field if field in read_once else "", []).append(heading)
        return ignored


def read_layout(file: BinaryIO) -> Layout:
    """Looks through a seekable file before anything is taken from it, and rewinds it.

    Raises UnreadableFile: not text, not UTF-8, or no column of phone numbers. The whole file is
    decoded here, in pieces, so that a file in another encoding is refused before its first row is
    imported. There is no fallback to cp1252: it would decode anything, and store "José" as
    "JosÃ©" or a Chinese name as noise that a customer would read.
    """
    encoding = _checked_encoding(file)
    file.seek(0)
    text = codecs.getincrementaldecoder(encoding)().decode(file.read(_SAMPLE_BYTES))
    file.seek(0)
    guesses = [_guess(text, encoding, delimiter) for delimiter in DELIMITERS]
    layout = max(guesses, key=lambda guess: (len(guess.columns), len(guess.headings)))
    if not any(map(str.isalnum, "".join(layout.headings))):
        raise UnreadableFile(_("The file is empty: its first row must hold the headings."))
    if "phone" not in layout.columns:
        raise UnreadableFile(
            _("No column holds phone numbers. Name one of the headings Phone: %(headings)s.")
            % {"headings": ", ".join(h or "?" for h in layout.headings[:20])}
        )
    return layout


def read_records(file: BinaryIO, layout: Layout) -> Iterator[Record]:
    """Yields the rows below the headings; empty ones are passed over.

    Raises UnreadableFile where the file breaks off; OSError of the file is let through.
    """
    lines = _Lines(io.TextIOWrapper(file, encoding=layout.encoding, newline=""))
    reader = csv.reader(lines, delimiter=layout.delimiter)
    row = 0
    seen_headings = False
    last_line = 0
    try:
        for cells in reader:
            row += 1
            height, last_line = reader.line_num - last_line, reader.line_num
            if not any(map(str.strip, cells)) or (row == 1 and _is_separator_hint(cells)):
                continue
            if not seen_headings:
                seen_headings = True
                continue
            yield Record(row, cells, _problem(cells, layout, height, lines.at_end))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnreadableFile(
            _("The file cannot be read after row %(row)s: %(error)s") % {"row": row, "error": error}
        ) from error
    finally:
        lines.text.detach()  # the file is the caller's to close


def safe_cell(text: str) -> str:
    """Returns the cell so that no spreadsheet runs it as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def plain_cell(text: str) -> str:
    """Takes back `safe_cell`, so that a downloaded report can be mended and imported again."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


class _Lines:
    """The lines of a text, which knows whether it was asked for one after the last."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text = text
        self.at_end = False

    def __iter__(self) -> Iterator[str]:
        # Not `yield from`: given up half-way, that would close the text as well.
        for line in self.text:  # noqa: UP028
            yield line
        self.at_end = True


def _problem(cells: list[str], layout: Layout, height: int, at_end: bool) -> str:
    # The reader asked for a line after the last one while this row was still open.
    if at_end or height > _MAX_LINES:
        return _(
            "A quotation mark in this row is not closed: the %(lines)s lines from here on were "
            "read as one cell. Close it and import the file again."
        ) % {"lines": height}
    if any(map(str.strip, cells[len(layout.headings) :])):
        return _("This row has more cells than there are headings: one may hold a stray comma.")
    return ""


def _checked_encoding(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(4)
    encoding = "utf-8-sig"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"  # what spreadsheets call "Unicode text"
    elif start.startswith(b"PK\x03\x04"):
        raise UnreadableFile(_("This is a spreadsheet, not a CSV file. Save it as CSV UTF-8."))
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    try:
        while piece := file.read(_SAMPLE_BYTES):
            lines += decoder.decode(piece).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        lines += bytes(error.object[: error.start]).count(b"\n")
        raise UnreadableFile(
            _("Line %(line)s is not UTF-8, so names would be stored garbled. Save the file as "
              "“CSV UTF-8” in your spreadsheet and import that.") % {"line": lines}
        ) from error  # fmt: skip
    return encoding


def _guess(text: str, encoding: str, delimiter: str) -> Layout:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    for cells in rows:
        if any(map(str.strip, cells)) and not _is_separator_hint(cells):
            headings = [" ".join(cell.split()) for cell in cells]
            return Layout(encoding, delimiter, headings, _columns(headings))
    return Layout(encoding, delimiter, [], {})


def _columns(headings: list[str]) -> dict[str, int]:
    folded = [_fold(heading) for heading in headings]
    columns = {}
    for field, aliases in ALIASES.items():
        for alias in aliases:
            if alias in folded:
                columns[field] = folded.index(alias)
                break
    return columns


def _field_of(heading: str) -> str:
    """Returns what a column that is not read would hold: Phone 2 and Home phone hold numbers; ''
    where its heading does not say."""
    name = _fold(heading).rstrip("0123456789")
    for field, aliases in ALIASES.items():
        if name in aliases:
            return field
    return "phone" if name.endswith(_NUMBERS) else ""


def _fold(heading: str) -> str:
    return _NOT_ALPHANUMERIC.sub("", unicodedata.normalize("NFKC", heading)).casefold()


def _is_separator_hint(cells: list[str]) -> bool:
    """`sep=;` in the first line is a note from one spreadsheet to another."""
    return cells[0].strip().lower().startswith("sep=")
