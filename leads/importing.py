"""Bringing leads in from a file: streamed, in batches that are committed whole, and idempotent.

What a file says is added, never taken away: an empty cell changes nothing, niches and triggers
are joined to those a lead has, and no import touches an opt-out or consent that is on record.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import BinaryIO

from django.db import transaction
from django.utils.translation import gettext as _

from leads.consent import Consent, read_consent
from leads.import_batches import Batch, Row
from leads.import_results import COLUMNS, Options, Outcome, Report, Result, further_columns
from leads.models import Lead
from leads.phones import InvalidPhone, normalise_phone
from leads.spreadsheets import Record, plain_cell, read_layout, read_records
from leads.tags import split_tags

BATCH_ROWS = 1000
STATUS_WORDS = {
    "prospect": Lead.Status.PROSPECT,
    "prospek": Lead.Status.PROSPECT,
    "customer": Lead.Status.CUSTOMER,
    "pelanggan": Lead.Status.CUSTOMER,
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class LeadImport:
    """One pass over a file. Make it, then go through `results()`, which does the work.

    Raises UnreadableFile when made (nothing is imported then) or, where the file breaks off, out
    of `results()`: the batches before it are committed and in `report`, and importing the mended
    file again leaves the same leads. A file that says itself who agreed is read to its end before:
    where that one breaks off, nothing is imported.
    """

    def __init__(self, file: BinaryIO, options: Options) -> None:
        self.options = options
        self.layout = read_layout(file)
        self._answers = self.layout.every("consent")
        self._places = self.layout.every("consent_source")
        headings = self.layout.headings
        says_consent = [headings[index] for index in (*self._answers, *self._places)]
        further = list(further_columns(self.layout))
        self.report = Report(headings, self.layout.unused, says_consent, further)
        self._file = file
        # Row by number, to name the first of two, and the one that says no to consent. Integers: a
        # million of them fit in memory.
        self._first_rows: dict[int, int] = {}
        self._denying_rows: dict[int, int] = {}

    def run(self) -> Report:
        """Imports everything; returns the report."""
        for _result in self.results():
            pass
        return self.report

    def results(self) -> Iterator[Result]:
        """Yields what became of each row, in the file's order, once its batch is committed."""
        self._find_denials()
        records = read_records(self._file, self.layout)
        while batch := list(itertools.islice(records, BATCH_ROWS)):
            read = [self._read(record) for record in batch]
            rows = {int(row.result.phone): row for row in read if isinstance(row, Row)}
            # A dry run changes nothing, so it need not hold up those who do.
            with nullcontext() if self.options.dry_run else transaction.atomic():
                applied = Batch(rows, self.options)
                applied.apply()
            if not self.options.dry_run:
                Lead.objects.mark_duplicates(row.result.phone for row in rows.values())
            self.report.niches |= applied.new_niches
            for row in read:
                result = row.result if isinstance(row, Row) else row
                self.report.add(result)
                yield result

    def _find_denials(self) -> None:
        """Notes the numbers that a row says no for, since that may come long after a yes.

        A row that is not used for another reason counts as well, if its number can be read. The
        limit is the file: a no in one list is not known to the import of the next.
        """
        if not (self._answers or self._places):
            return
        for record in read_records(self._file, self.layout):
            if self._says(record).denied:
                with suppress(InvalidPhone):
                    phone = normalise_phone(self._cell(record, "phone"), self.options.region)
                    self._denying_rows.setdefault(int(phone), record.row)
        self._file.seek(0)

    def _read(self, record: Record) -> Row | Result:
        if record.problem:
            return Result(record, Outcome.REFUSED, reason=record.problem)
        cell = self._cell
        try:
            phone = normalise_phone(cell(record, "phone"), self.options.region)
            row = Row(
                Result(record, Outcome.UNCHANGED, phone),
                name=_fitting(cell(record, "name"), "name"),
                status=STATUS_WORDS.get(cell(record, "status").casefold(), self.options.status),
                source=_fitting(cell(record, "source"), "source"),
                niches=_fitting_tags([*self.options.niches, *self._tags(record, "niche")]),
                triggers=_fitting_tags(self._tags(record, "trigger")),
                consent=self._consent(record, phone),
            )
        except InvalidPhone as error:
            return Result(record, Outcome.REFUSED, reason=str(error))
        except _TooLong as error:
            return Result(record, Outcome.REFUSED, phone, reason=str(error))
        row.result.denied = row.consent.denied
        if row.consent.remark:
            row.result.remarks.append(row.consent.remark)
        if first := self._earlier_row(record, phone):
            reason = self._duplicate_reason(first, phone)
            return Result(record, Outcome.DUPLICATE, phone, reason, remarks=row.result.remarks)
        word = cell(record, "status")
        if word and word.casefold() not in STATUS_WORDS:
            row.result.remarks.append(
                _("Status “%(word)s” is not known: read as if the cell were empty.")
                % {"word": word[:40]}
            )
        return row

    def _earlier_row(self, record: Record, phone: str) -> int | None:
        first = self._first_rows.setdefault(int(phone), record.row)
        return first if first != record.row else None

    def _duplicate_reason(self, first: int, phone: str) -> str:
        reason = _("Same number as row %(row)s, which is used instead.") % {"row": first}
        if denying := self._denying_rows.get(int(phone)):
            reason += " " + _("Row %(row)s says no to consent: that counts for all of them.") % {
                "row": denying
            }
        return reason

    def _consent(self, record: Record, phone: str) -> Consent:
        says = self._says(record)
        if not says.denied and int(phone) in self._denying_rows:
            remark = _("Another row of the same number says no to consent, which counts here too.")
            return Consent("", denied=True, remark=remark)
        _fitting(says.source, "consent_source")
        return says

    def _says(self, record: Record) -> Consent:
        """What the row itself says, and where it says nothing the operator."""
        answers, places = (
            [(self.layout.headings[index], _line(_at(record, index))) for index in columns]
            for columns in (self._answers, self._places)
        )
        return read_consent(answers, places, self.options.consent)

    def _cell(self, record: Record, field: str) -> str:
        return _line(_at(record, self.layout.columns.get(field)))

    def _tags(self, record: Record, field: str) -> list[str]:
        return split_tags(plain_cell(_at(record, self.layout.columns.get(field)).strip()))


def _at(record: Record, index: int | None) -> str:
    return record.cells[index] if index is not None and index < len(record.cells) else ""


def _line(cell: str) -> str:
    """The cell on one line, without control characters and spaces around it."""
    text = unicodedata.normalize("NFC", _CONTROL.sub(" ", cell))
    return plain_cell(" ".join(text.split()))


class _TooLong(ValueError):
    pass


def _fitting(text: str, name: str) -> str:
    """Returns the text if the lead's column holds it; a cut name would be a wrong name."""
    column = COLUMNS[name]
    if len(text) > (column.max_length or 0):
        raise _TooLong(
            _("The %(field)s is longer than %(limit)s characters.")
            % {"field": column.verbose_name, "limit": column.max_length}
        )
    return text


def _fitting_tags(tags: list[str]) -> list[str]:
    if any(len(tag) > 100 for tag in tags):
        raise _TooLong(_("A niche or trigger is longer than 100 characters."))
    return list(dict.fromkeys(tags))
