"""Session files: one SQLite file a pairing, with the account's keys. Who has it is the account.

neonize alone writes them, but for what is tidied. An older copy must never take a file's place: its
keys have moved on. A new pairing has a file of a new name, so what is left of an earlier one is
never opened again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from select import POLLIN, poll
from urllib.parse import quote

from django.conf import settings
from django.utils.translation import gettext as _

# A message's token is written before the message leaves, but when that fails, whatsmeow sends it
# all the same. So a write waits for another's as long as it takes (the default is 5 s).
BUSY_MILLISECONDS = 60_000
SUFFIX = ".db"
ANSWER_SECONDS = 5.0  # the process that reads waits for a lock for 0.5 s itself
PATIENT_SECONDS = 60.0  # whoever asks from a thread that may wait


class StoreError(Exception):
    """The file could not be read; the text says why."""


def token_of(key: str) -> bytes:
    """Returns what a message of this key carries unseen, and leaves in the file."""
    return hashlib.sha256(key.encode()).digest()


def stored() -> set[str]:
    """Returns the names of the sessions that this host has."""
    try:
        names = os.listdir(settings.SESSION_DIR)
    except FileNotFoundError:
        return set()  # nothing was paired here
    return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}


class Store:
    """The file of one session, and of a device: that is what logs call it."""

    def __init__(self, session: str, device_id: int) -> None:
        self.device_id = device_id
        self.path = Path(settings.SESSION_DIR) / f"{session}{SUFFIX}"
        self._lock: int | None = None

    @property
    def name(self) -> str:
        """The file as neonize is to open it: it takes the name into a URI, as it is."""
        options = f"_foreign_keys=on&_busy_timeout={BUSY_MILLISECONDS}"
        return f"{quote(str(self.path))}?{options}&_ignored="

    def protect(self) -> None:
        """Lets nobody else read the file. Raises LookupError if this host has none."""
        if not self.path.is_file():
            raise LookupError(
                _("This host has no session of this device. Link it to its phone, or run the "
                  "broadcaster where its session file is.")
            )  # fmt: skip
        self.path.parent.chmod(0o700)
        self.path.chmod(0o600)

    def create(self) -> None:
        """Makes the file, empty: nobody else's to read before anything is in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.parent.chmod(0o700)
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    def delete(self) -> None:
        """Deletes the keys, for good. For whoever holds the file."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}-*")):  # SQLite's journal
            path.unlink(missing_ok=True)
        self.path.with_suffix(".lock").unlink(missing_ok=True)
        self.release()

    def hold(self) -> bool:
        """Whether no other session uses the file, in whichever process: from then on it is ours.

        By a file beside it: to close one that SQLite has open would take its locks away.
        """
        if self._lock is not None:
            return True
        lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tidy(self) -> None:
        """Drops what nobody will ask about any more. Only of a file that is held, and that no
        client of ours has open."""
        reader.ask(self.path, "prune", within=PATIENT_SECONDS)

    def account(self) -> str:
        """Returns the account whose keys these are, '' if it was logged out or never linked."""
        return next(iter(reader.ask(self.path, "account")), "")

    def ids_of(self, key: str) -> list[str]:
        """Returns WhatsApp's ids of the messages with this key, the newest last: of those that were
        about to leave. What is not there has not left.

        Raises StoreError also once the account was logged out: its messages' ids went with it.
        """
        ids = reader.ask(self.path, "ids", token_of(key).hex())
        if not ids and not self.account():  # looked at last: where it is, the ids were
            raise StoreError("the account was logged out, and what it knew of its messages is gone")
        return ids

    def phone_of(self, lid: str) -> str:
        """Returns the number of somebody whom WhatsApp calls by another name, '' if not known. For
        a thread that may wait: without it what they wrote is lost."""
        return next(iter(reader.ask(self.path, "phone", lid, PATIENT_SECONDS)), "")


class Reader:
    """The process that looks into the files; see reader.py for why it is one."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(
        self, path: Path, question: str, argument: str | None = None, within: float | None = None
    ) -> list[str]:
        """Returns the answer; raises StoreError. Whoever asks waits for so long and no longer: the
        broadcaster's one thread does too."""
        request = json.dumps([str(path), question, argument])
        seconds = within or ANSWER_SECONDS
        if not self._asking.acquire(timeout=seconds):
            raise StoreError("the process that reads session files is busy")
        try:
            # It may have died since it was last asked.
            said = self._ask(request, seconds) or self._ask(request, seconds)
            if not said:
                raise StoreError("the process that reads session files does not answer")
            answer = json.loads(said)
        except (OSError, ValueError) as error:  # no process can be started; half an answer
            raise StoreError(str(error)) from error
        finally:
            self._asking.release()
        if "error" in answer:
            raise StoreError(answer["error"])
        return list(answer["answer"])

    def _ask(self, request: str, seconds: float) -> str:
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            # Not by select: it takes no file above the thousandth, and 200 sessions may have those.
            answer = poll()
            answer.register(self._process.stdout, POLLIN)
            if answer.poll(seconds * 1000):
                return self._process.stdout.readline()
        except BrokenPipeError:
            return ""
        self._process.kill()  # or the next question would get this one's answer
        self._process.wait()
        return ""

    def _start(self) -> subprocess.Popen[str]:
        # A session of its own: Ctrl-C is for the broadcaster, which asks until its end. It ends
        # with its standard input.
        return subprocess.Popen(  # noqa: S603  (our own)
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("reader.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip


reader = Reader()
