from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.db.models import Model
from phonenumbers import SUPPORTED_REGIONS
from tqdm import tqdm

from leads.import_results import Options, Outcome, Report, Result, report_lines
from leads.importing import LeadImport
from leads.models import Lead
from leads.spreadsheets import UnreadableFile
from leads.tags import split_tags

SHOWN = 10  # of each kind of row


class Command(BaseCommand):
    help = """Imports leads from a CSV file (UTF-8; commas, semicolons or tabs).

The first row names the columns: Phone, Name, Niche, Status, Trigger, Source, Consent (yes or no),
Consent source, in English or Malay; other columns are ignored, and named at the end.
Numbers are normalised, each number is imported once, and a lead that is there already is updated.
An opt-out is never cleared. Importing the same file again changes nothing.

exit codes:
  0  the file was read through; rows that could not be used are in the summary (see --report)
  1  the file, or an option, could not be used; it says how many rows were imported before
  2  wrong usage
  3  with --strict: rows were refused"""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=_KeepLines, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--niche", default="", help="Add these niches to every lead.")
        parser.add_argument(
            "--status",
            default="",
            choices=Lead.Status.values,
            help="Status of rows that state none.",
        )
        parser.add_argument("--device", help="Name of the device for leads that have none.")
        parser.add_argument(
            "--region", default=settings.PHONE_REGION,
            help="Country of numbers without a country code (%(default)s).",
        )  # fmt: skip
        parser.add_argument(
            "--consent", default="",
            help="Where these people agreed to be messaged, as far as their rows do not say "
            "otherwise. Without consent campaigns pass them over.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Say what would happen.")
        parser.add_argument(
            "--report", type=Path, help="Write the rows that were not used, with reasons, to a CSV."
        )
        parser.add_argument("--strict", action="store_true", help="Exit 3 if rows were refused.")

    def handle(self, *args: Any, **options: Any) -> None:
        report = Report([], [])
        try:
            with options["file"].open("rb") as file:
                lead_import = LeadImport(file, self._options(options))
                report = lead_import.report
                results = self._with_progress(lead_import.results(), file, options["file"])
                self._drain(results, report, options["report"])
        except (UnreadableFile, OSError, DatabaseError) as error:
            raise CommandError(_said(error, report.rows)) from error
        self._summarise(report, options)
        if options["strict"] and report.counts[Outcome.REFUSED]:
            raise CommandError("Rows were refused.", returncode=3)

    def _options(self, options: dict[str, Any]) -> Options:
        region = options["region"].upper()
        if region not in SUPPORTED_REGIONS:
            raise CommandError(f"{region} is not a country. Write it like MY.")
        if len(options["consent"]) > 255:
            raise CommandError("--consent is longer than 255 characters.")
        return Options(
            region=region,
            niches=tuple(split_tags(options["niche"])),
            status=options["status"],
            device_id=_device(options["device"]).pk if options["device"] else None,
            consent=options["consent"].strip(),
            dry_run=options["dry_run"],
        )

    def _with_progress(
        self, results: Iterator[Result], file: BinaryIO, path: Path
    ) -> Iterator[Result]:
        with tqdm(
            total=path.stat().st_size, unit="B", unit_scale=True, disable=not sys.stderr.isatty()
        ) as bar:
            for result in results:
                bar.update(file.tell() - bar.n)
                yield result

    def _drain(self, results: Iterator[Result], report: Report, path: Path | None) -> None:
        with ExitStack() as stack:
            if path is None:
                for _ in results:
                    pass
            else:
                target = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
                target.writelines(report_lines(report.headings, results))

    def _summarise(self, report: Report, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            self.stdout.write(self.style.WARNING("Dry run: nothing was changed."))
        for outcome in Outcome:
            self.stdout.write(f"{report.counts[outcome]:>9,}  {outcome.label}")
        self.stdout.write(f"{report.rows:>9,}  rows in all")
        for remark, count in report.top_remarks:
            self.stdout.write(f"{count:>9,}  {remark}")
        if report.unused_headings:
            self.stdout.write(
                f"Columns not known, and ignored: {', '.join(report.unused_headings)}"
            )
        for said in report.further_headings:
            self.stdout.write(said)
        if report.niches:
            verb = "that would be made" if options["dry_run"] else "that were made"
            self.stdout.write(
                f"{len(report.niches):>9,}  niches {verb}: {_first(report.new_niches)}"
            )
        if report.without_consent:
            self.stdout.write(
                self.style.WARNING(
                    f"{report.without_consent:,} of these leads have no consent on record: "
                    "campaigns will pass them over."
                )
            )
        if report.denied:
            self.stdout.write(f"{report.denied:>9,}  of them: the list itself says no")
        if report.unsaid:
            self.stdout.write(
                f"{report.unsaid:>9,}  of them: nobody said; say where they agreed with --consent"
            )
        for update in report.updates[:SHOWN]:
            self.stdout.write(f"row {update.row}: {'; '.join(update.changes)}")
        if (more := report.counts[Outcome.UPDATED] - SHOWN) > 0:
            self.stdout.write(f"... and {more:,} more that change a lead.")
        for problem in report.problems[:SHOWN]:
            self.stdout.write(f"row {problem.row}: {problem.reason}")
        if report.not_used > SHOWN and options["report"] is None:
            more = report.not_used - SHOWN
            self.stdout.write(
                f"... and {more:,} more that are not used. --report FILE has them all."
            )


def _first(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _said(error: Exception, rows: int) -> str:
    """What went wrong, in words for whoever typed the command, and what had happened by then."""
    said = str(error)
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}."
    return (
        f"{said}\n{rows} rows were dealt with before." if rows else f"{said} Nothing was imported."
    )


class _KeepLines(RawDescriptionHelpFormatter):
    """Keeps the lines of the description as they are written."""


def _device(name: str) -> Model:
    """The device of this name, by way of the lead's own column: leads know nobody."""
    devices = Lead._meta.get_field("device").related_model
    assert isinstance(devices, type)
    assert issubclass(devices, Model)
    try:
        # One that was deleted stays for its messages' sake.
        return devices._default_manager.get(name=name, deleted_at__isnull=True)
    except ObjectDoesNotExist:
        raise CommandError(f"There is no device called {name}.") from None
