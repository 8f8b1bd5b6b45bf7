"""What becomes of the rows of an import: one by one, in sums, and as a file to mend."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from django.db.models import CharField, TextChoices
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from leads.models import Lead
from leads.phones import display_phone
from leads.spreadsheets import Layout, Record, safe_cell

SHOWN_PROBLEMS = 50
SHOWN_UPDATES = 20
SHOWN_REMARKS = 8


# The columns that a row's text goes into, with their names and lengths.
COLUMNS: dict[str, CharField[str, str]] = {
    name: Lead._meta.get_field(name)  # type: ignore[misc]
    for name in ("name", "status", "source", "consent_source")
}


# What a column may hold, in words, but for consent: all columns of that are read.
FIELDS = {
    "phone": gettext_lazy("phone number"),
    "name": gettext_lazy("name"),
    "niche": gettext_lazy("niche"),
    "status": gettext_lazy("status"),
    "trigger": gettext_lazy("trigger"),
    "source": gettext_lazy("source"),
}


class Outcome(TextChoices):
    CREATED = "created", gettext_lazy("new")
    UPDATED = "updated", gettext_lazy("updated")
    UNCHANGED = "unchanged", gettext_lazy("unchanged")
    DUPLICATE = "duplicate", gettext_lazy("same number as an earlier row")
    REFUSED = "refused", gettext_lazy("refused")


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator says of all the rows.

    `niches` are added to every lead; `status` is of rows that state none; `device_id` is of leads
    that no device has written to; `consent` says where these people agreed to be messaged, as far
    as their rows do not say otherwise. Without any they are stored but campaigns pass over them.
    """

    region: str
    niches: tuple[str, ...] = ()
    status: str = ""
    device_id: int | None = None
    consent: str = ""
    dry_run: bool = False


@dataclass(slots=True)
class Result:
    """What became of one row: `reason` where it was not used, `changes` where a lead changed."""

    record: Record
    outcome: Outcome
    phone: str = ""
    reason: str = ""
    changes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    lacks_consent: bool = False
    denied: bool = False  # the list itself says so

    @property
    def row(self) -> int:
        return self.record.row

    @property
    def text(self) -> str:
        """The row as it stands in the file, on one line."""
        return " · ".join(cell.strip() for cell in self.record.cells if cell.strip())

    @property
    def display_phone(self) -> str:
        return display_phone(self.phone)

    @property
    def shown(self) -> dict[str, object]:
        """What pages show of it, to be kept."""
        names = ("row", "reason", "text", "display_phone", "changes")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Report:
    """The sums of an import, and the first rows that need a person's eye or say what changes."""

    headings: list[str]
    unused_headings: list[str]
    consent_headings: list[str] = field(default_factory=list)
    further_headings: list[str] = field(default_factory=list)  # a sentence for each field
    counts: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    without_consent: int = 0
    denied: int = 0  # of those without
    problems: list[Result] = field(default_factory=list)
    updates: list[Result] = field(default_factory=list)
    niches: set[str] = field(default_factory=set)  # that there were not before

    @property
    def rows(self) -> int:
        return self.counts.total()

    @property
    def unsaid(self) -> int:
        """How many lack consent only because nobody said where they agreed."""
        return self.without_consent - self.denied

    @property
    def not_used(self) -> int:
        return self.counts[Outcome.DUPLICATE] + self.counts[Outcome.REFUSED]

    @property
    def new_niches(self) -> list[str]:
        return sorted(self.niches)

    @property
    def top_remarks(self) -> list[tuple[str, int]]:
        return self.remarks.most_common(SHOWN_REMARKS)

    @property
    def top_refusals(self) -> list[tuple[str, int]]:
        return self.refusals.most_common(SHOWN_REMARKS)

    @property
    def other_refusals(self) -> int:
        """Rows that are refused for other reasons than the top ones."""
        return self.refusals.total() - sum(count for _, count in self.top_refusals)

    @property
    def usable(self) -> int:
        return self.rows - self.not_used

    @property
    def effect(self) -> str:
        """What importing does, in the words of its button; empty where it changes nothing."""
        new, updated = self.counts[Outcome.CREATED], self.counts[Outcome.UPDATED]
        text = ""
        if new and updated:
            text = ngettext(
                "Import %(new)s new lead, update %(updated)s",
                "Import %(new)s new leads, update %(updated)s",
                new,
            )
        elif new:
            text = ngettext("Import %(new)s new lead", "Import %(new)s new leads", new)
        elif updated:
            text = ngettext("Update %(updated)s lead", "Update %(updated)s leads", updated)
        return text % {"new": f"{new:,}", "updated": f"{updated:,}"}

    def add(self, result: Result) -> None:
        self.counts[result.outcome] += 1
        if result.outcome == Outcome.REFUSED:
            self.refusals[result.reason] += 1
        self.remarks.update(result.remarks)
        self.without_consent += result.lacks_consent
        self.denied += result.lacks_consent and result.denied
        if result.reason and len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(result)
        if result.outcome == Outcome.UPDATED and len(self.updates) < SHOWN_UPDATES:
            self.updates.append(result)


def further_columns(layout: Layout) -> Iterator[str]:
    """Says, by field, which columns are ignored because the field is read from another one."""
    for name, ignored in layout.further.items():
        values = {
            "field": FIELDS[name],
            "used": layout.headings[layout.columns[name]],
            "ignored": ", ".join(ignored),
        }
        if name == "phone":
            text = _(
                "A lead has one number: it is read from “%(used)s”, and these numbers are ignored: "
                "%(ignored)s. If they are the right ones, name that column Phone, and “%(used)s” "
                "something else."
            )
        else:
            text = _("The %(field)s is read from “%(used)s”; ignored beside it: %(ignored)s.")
        yield text % values


def report_lines(headings: list[str], results: Iterable[Result]) -> Iterator[str]:
    """Yields the lines of a CSV file of the rows that were not used, with the reason first.

    The other columns are the file's own, so that it can be mended and imported again.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)

    def line(cells: Iterable[object]) -> str:
        writer.writerow([safe_cell(str(cell)) for cell in cells])
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text

    yield "\ufeff" + line([_("Row"), _("Outcome"), _("Reason"), *headings])
    for result in results:
        if result.reason:
            yield line([result.row, result.outcome.label, result.reason, *result.record.cells])
