"""An uploaded list between its two steps: looked through first, imported when confirmed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError

from leads.import_results import Options, Report
from leads.importing import LeadImport
from leads.spreadsheets import UnreadableFile, read_layout, read_records
from leads.tags import split_tags

# About 50,000 rows. The request waits for the import; longer lists are for `import_leads`.
MAX_BYTES = 3 * 1024 * 1024
KEPT_SECONDS = 24 * 3600
_SESSION_KEY = "lead_upload"


class ImportStopped(Exception):
    """An import that broke off: `rows` were imported before and stay; its cause says why."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"stopped after {rows} rows")
        self.rows = rows


@dataclass(frozen=True)
class Upload:
    """A file kept under a random name that only the session of who uploaded it knows."""

    token: str
    filename: str
    niches: str = ""
    status: str = ""
    consent: str = ""

    @classmethod
    def of(cls, session: SessionBase) -> Upload | None:
        """Returns the session's upload, or None if there is none or its file is gone."""
        if not (stored := session.get(_SESSION_KEY)):
            return None
        try:
            upload = cls(**stored)
        except TypeError:
            return None  # stored by another version of Siaran, with other fields
        return upload if upload.path.exists() else None

    @classmethod
    def keep(cls, session: SessionBase, file: UploadedFile[bytes], **says: Any) -> Upload:
        """Stores the file in place of the session's former one; `says` is the form's other data."""
        sweep()
        if former := cls.of(session):
            former.discard(session)
        upload = cls(token=secrets.token_urlsafe(24), filename=Path(file.name or "").name, **says)
        upload.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(upload.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as kept:
            kept.writelines(file.chunks())
        session[_SESSION_KEY] = asdict(upload)
        return upload

    @property
    def mark(self) -> str:
        """By which a page says of which upload it speaks. The token stays with us."""
        return hashlib.sha256(self.token.encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        return _folder() / f"{self.token}.csv"

    def options(self, *, dry_run: bool) -> Options:
        return Options(
            region=settings.PHONE_REGION,
            niches=tuple(split_tags(self.niches)),
            status=self.status,
            consent=self.consent,
            dry_run=dry_run,
        )

    def read_through(self) -> None:
        """Reads the file to its end and takes nothing from it. Raises UnreadableFile."""
        with self.path.open("rb") as file:
            for _record in read_records(file, read_layout(file)):
                pass

    def dry_run(self) -> Report:
        """Returns what importing would do. Raises UnreadableFile."""
        with self.path.open("rb") as file:
            return LeadImport(file, self.options(dry_run=True)).run()

    @property
    def imported(self) -> dict[str, Any] | None:
        """What became of the import: sums by outcome, the first rows that were not used or changed
        a lead, new niches, ignored columns; empty while it runs, None before it."""
        if not self._sums.exists():
            return None
        return {**json.loads(self._sums.read_text() or "{}")}

    def import_leads(self) -> bool:
        """Imports the file; returns False if that was done or begun before.

        The file of the sums is made first and by one request only, so that a double click does not
        import twice and then say that nothing was new. Raises UnreadableFile, and nothing is
        stored then; ImportStopped, where it broke off on the way.
        """
        try:
            os.close(os.open(self._sums, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        try:
            self.read_through()
            report = self._import()
        except BaseException:
            self._sums.unlink()  # what was imported stays; importing again leaves the same
            raise
        sums = {
            **report.counts,
            "rows": report.rows,
            "without_consent": report.without_consent,
            "denied": report.denied,
            "unsaid": report.unsaid,
            "ignored": report.unused_headings,
            "further": report.further_headings,
            "new_niches": report.new_niches,
            "not_used": report.not_used,
            "problems": [result.shown for result in report.problems],
            "updates": [result.shown for result in report.updates],
        }
        self._sums.write_text(json.dumps(sums))
        return True

    def _import(self) -> Report:
        with self.path.open("rb") as file:
            lead_import = LeadImport(file, self.options(dry_run=False))
            try:
                return lead_import.run()
            except (DatabaseError, OSError, UnreadableFile) as error:
                raise ImportStopped(lead_import.report.usable) from error

    @property
    def _sums(self) -> Path:
        return self.path.with_suffix(".json")

    def discard(self, session: SessionBase) -> None:
        self.path.unlink(missing_ok=True)
        self._sums.unlink(missing_ok=True)
        session.pop(_SESSION_KEY, None)


def _folder() -> Path:
    return Path(settings.BASE_DIR) / "var" / "uploads"


def sweep() -> int:
    """Removes files that nobody came back for; returns how many."""
    removed = 0
    for path in _folder().glob("*.*"):
        try:
            if path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # another request removed it meanwhile
    return removed
