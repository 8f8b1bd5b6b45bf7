"""Bringing leads in from a file: streamed, in batches that are committed whole, and idempotent.

What a file says is added, never taken away: an empty cell changes nothing, niches and triggers
are joined to those a lead has, and no import touches an opt-out or consent that is on record.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from contextlib import nullcontext
from typing import BinaryIO

from django.db import transaction
from django.utils.translation import gettext as _

from leads.consent import Consent, read_consent
from leads.import_batches import Batch, Row
from leads.import_results import COLUMNS, Options, Outcome, Report, Result
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
    file again leaves the same leads.
    """

    def __init__(self, file: BinaryIO, options: Options) -> None:
        self.options = options
        self.layout = read_layout(file)
        says_consent = [self.layout.heading(name) for name in ("consent", "consent_source")]
        self.report = Report(
            self.layout.headings, self.layout.unused, [each for each in says_consent if each]
        )
        self._file = file
        # Row by number, to name the first of two. Integers: a million of them fit in memory.
        self._first_rows: dict[int, int] = {}

    def run(self) -> Report:
        """Imports everything; returns the report."""
        for _result in self.results():
            pass
        return self.report

    def results(self) -> Iterator[Result]:
        """Yields what became of each row, in the file's order, once its batch is committed."""
        records = read_records(self._file, self.layout)
        while batch := list(itertools.islice(records, BATCH_ROWS)):
            read = [self._read(record) for record in batch]
            rows = {int(row.result.phone): row for row in read if isinstance(row, Row)}
            # A dry run changes nothing, so it need not hold up those who do.
            with nullcontext() if self.options.dry_run else transaction.atomic():
                Batch(rows, self.options).apply()
            for row in read:
                result = row.result if isinstance(row, Row) else row
                self.report.add(result)
                yield result

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
                consent=self._consent(record),
            )
        except InvalidPhone as error:
            return Result(record, Outcome.REFUSED, reason=str(error))
        except _TooLong as error:
            return Result(record, Outcome.REFUSED, phone, reason=str(error))
        word = cell(record, "status")
        if word and word.casefold() not in STATUS_WORDS:
            row.result.remarks.append(
                _("Status “%(word)s” is not known: read as if the cell were empty.")
                % {"word": word[:40]}
            )
        if row.consent.remark:
            row.result.remarks.append(row.consent.remark)
        first = self._first_rows.setdefault(int(phone), record.row)
        if first != record.row:
            reason = _("Same number as row %(row)s, which was used.") % {"row": first}
            return Result(record, Outcome.DUPLICATE, phone, reason=reason)
        return row

    def _consent(self, record: Record) -> Consent:
        read = read_consent(
            self.layout.heading("consent"),
            self._cell(record, "consent"),
            self._cell(record, "consent_source"),
            self.options.consent,
        )
        _fitting(read.source, "consent_source")
        return read

    def _raw(self, record: Record, field: str) -> str:
        index = self.layout.columns.get(field)
        return record.cells[index] if index is not None and index < len(record.cells) else ""

    def _cell(self, record: Record, field: str) -> str:
        """The cell on one line, without control characters and spaces around it."""
        text = unicodedata.normalize("NFC", _CONTROL.sub(" ", self._raw(record, field)))
        return plain_cell(" ".join(text.split()))

    def _tags(self, record: Record, field: str) -> list[str]:
        return split_tags(plain_cell(self._raw(record, field).strip()))


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
