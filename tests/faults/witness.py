"""A transport whose record is a file: the fault suite's witness, outside the system under test.

    EXTRA_TRANSPORTS=witness=tests.faults.witness.WitnessTransport  WITNESS=FOLDER

Every send is two lines appended to FOLDER/log by single writes, so that processes may be killed
anywhere: its entry, before anything else, and that it was sent. Two kinds of accounts, by the
device's number, because transports come in both:

- even: an account with a memory. A newer session replaces the older one, checked under the same
  lock as the append, so `recall` can be sure and a message that did not leave is sent again. The
  older session reports that it was replaced as soon as it notices, as WhatsApp has it.
- odd: an account that cannot tell. `recall` answers None, and a session that was stopped in
  mid-send appends when it wakes, however late: what is sent again blindly shows up here.

Some numbers it refuses, for ever or only the first time that something is to be sent to them, so
that a retry by hand has something to bring to an end. Every third account, of both kinds, answers
by a future that another thread settles. A moment after a send its session reports that the message
was delivered, and of some that it was read. Of what it sent to some numbers it says only that it
cannot tell: an account with a memory under the id that the message would have, so that a receipt
settles it; the others without, so that only a person can.

Orders (see trips.py) make a process fall over "before the send", after its entry, or "after the
send", before its outcome.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devices.transports.base import (
    Accepted,
    Answer,
    Connected,
    Disconnected,
    Event,
    NotSent,
    Outcome,
    OutgoingMessage,
    Receipt,
    Refused,
    Report,
    Unknown,
)
from tests.faults.trips import Trips, clock

if TYPE_CHECKING:
    from devices.models import Device

# Fixed, not random: all that varies between two sends of a device is then the engine's doing.
BEFORE_SECONDS = AFTER_SECONDS = 0.06
WATCH_SECONDS = 0.05
NO_ANSWER = "no_answer"
RECEIPT_SECONDS = 0.4  # from the answer to the receipt
THREADS = 64  # more than there are accounts: one whose lock another process holds must hold up none
MOVED_SECONDS = 60  # the process may be stopped between reading two clocks


def is_refused(phone: str) -> bool:
    """Whether this number is one that the witness never sends to."""
    return phone.endswith("77")


def is_refused_once(phone: str) -> bool:
    """Whether the first try of each text to this number is refused, and no other."""
    return phone.endswith("48")


def is_unsure(phone: str) -> bool:
    """Whether the witness sends to this number, and says that it cannot tell."""
    return phone.endswith("36")


def remembers(device_id: int) -> bool:
    return device_id % 2 == 0


def answers_later(device_id: int) -> bool:
    """Whether this account answers by a future."""
    return device_id % 3 == 0


class Log:
    """The file. One instance a process; it reads only what is new since it last looked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = os.open(folder / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._reading = threading.Lock()
        self._read_up_to = 0
        self._ids: dict[str, str] = {}

    def note(self, what: str, **facts: Any) -> None:
        """Appends a line: with it, who wrote it, the true time, and what that host thinks it is."""
        line = {"what": what, "at": clock(), "host": time.time(), "pid": os.getpid()}
        line |= {"place": os.environ.get("PLACE", "")} | facts
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def is_first(self, what: str) -> bool:
        """Whether nobody has asked that before, in whichever process."""
        try:
            os.close(os.open(self.folder / f"first {what}", os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        return True

    def sent(self, key: str) -> str | None:
        """Returns under which id a message was appended, if it was."""
        with self._reading:
            size = os.fstat(self._file).st_size
            new = os.pread(self._file, size - self._read_up_to, self._read_up_to)
            new = new[: new.rfind(b"\n") + 1]
            self._read_up_to += len(new)
            for line in map(json.loads, new.splitlines()):
                if line["what"] == "send":
                    self._ids[line["key"]] = line["id"]
            return self._ids.get(key)


class WitnessSession:
    def __init__(
        self, device: Device, report: Report, log: Log, trips: Trips, threads: ThreadPoolExecutor
    ) -> None:
        self.device_id = device.pk
        self.token = secrets.token_hex(4)
        self._report, self._log, self._trips = report, log, trips
        self._threads = threads
        self._owed: deque[tuple[float, str, str]] = deque()  # receipts: when, key and id
        self._telling = threading.RLock()  # held while reporting, so that close() waits for it
        self.is_open = self.is_over = False
        # Not here: a process that was stopped may hold the account's lock, and its broadcaster has
        # one thread for all devices.
        connecting = threading.Timer(0.02, self._connect)
        connecting.daemon = True
        connecting.start()

    def send(self, message: OutgoingMessage) -> Answer:
        entered_at = clock()
        asked_at = getattr(message.may_leave, "asked_at", entered_at)  # the engine's last look
        self._note("entry", key=message.key, entered_at=entered_at, asked_at=asked_at)
        if answers_later(self.device_id):
            answer: Future[Outcome] = self._threads.submit(self._carry, message, entered_at)
            return answer
        return self._carry(message, entered_at)

    def recall(self, key: str) -> Accepted | NotSent | None:
        if not remembers(self.device_id):
            return None
        try:
            with self._gate(fcntl.LOCK_NB) as gate:
                # A session that was itself replaced does not know what the newer one is doing.
                if not self._is_current(gate):
                    return None
                found = self._log.sent(key)
        except BlockingIOError:  # who sends just now is asked again later: this must not wait
            return None
        return Accepted(found) if found else NotSent()

    def close(self) -> None:
        with self._telling:
            self.is_over = True

    def look(self) -> None:
        """Reports that a newer session took over, once it has, and what was delivered."""
        if self.is_over or not self.is_open:
            return
        self._tell_of_deliveries()
        if not remembers(self.device_id):
            return
        if self._path.read_text() != self.token:  # a single write, so a look needs no lock
            self._note("replaced")
            self._tell(Disconnected("replaced"))
            self.close()

    def _carry(self, message: OutgoingMessage, entered_at: float) -> Outcome:
        self._trips.at("before the send")
        time.sleep(BEFORE_SECONDS)
        if self._refuses(message):
            self._note("refusal", key=message.key)
            return Refused("no_such_number", "The witness does not know this number.")
        sent = {"key": message.key, "phone": message.phone, "body": message.body}
        sent |= {"id": f"W{secrets.token_hex(8)}", "entered_at": entered_at}
        if remembers(self.device_id):
            with self._gate() as gate:
                if not self._is_current(gate):
                    return NotSent()  # a newer session took over
                self._note("send", **sent)
        else:
            self._note("send", **sent)
        self._trips.at("after the send")
        time.sleep(AFTER_SECONDS)
        self._owed.append((clock() + RECEIPT_SECONDS, message.key, str(sent["id"])))
        if is_unsure(message.phone):
            name = str(sent["id"]) if remembers(self.device_id) else ""
            self._note("unsure", key=message.key)
            return Unknown(NO_ANSWER, "The witness does not say.", name)
        return Accepted(str(sent["id"]))

    def _refuses(self, message: OutgoingMessage) -> bool:
        text = message.body.partition(" ")[0]  # names the campaign or step
        return is_refused(message.phone) or (
            is_refused_once(message.phone) and self._log.is_first(f"{text} to {message.phone}")
        )

    def _tell_of_deliveries(self) -> None:
        while self._owed and self._owed[0][0] <= clock():
            _, key, name = self._owed.popleft()
            for kind in ("delivered", "read") if name[-1] in "02468" else ("delivered",):
                with self._telling:
                    if self.is_over:
                        return
                    self._note("receipt", key=key, id=name, kind=kind)
                    self._report(Receipt(name, kind, datetime.now(UTC)))

    def _connect(self) -> None:
        with self._gate() as gate:
            if self.is_over:
                return
            os.pwrite(gate, self.token.encode(), 0)  # the older session, if any, is replaced now
            self._note("open")
        self.is_open = True
        self._tell(Connected())

    def _tell(self, event: Event) -> None:
        with self._telling:
            if not self.is_over:
                self._report(event)

    @property
    def _path(self) -> Path:
        return self._log.folder / f"device-{self.device_id}"

    @contextmanager
    def _gate(self, how: int = 0) -> Iterator[int]:
        """The account's lock, which the kernel lets go of when its holder dies."""
        gate = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | how)
            yield gate
        finally:
            os.close(gate)

    def _is_current(self, gate: int) -> bool:
        return os.pread(gate, 64, 0).decode() == self.token

    def _note(self, what: str, **facts: Any) -> None:
        self._log.note(what, device=self.device_id, session=self.token, **facts)


class WitnessTransport:
    def __init__(self) -> None:
        folder = Path(os.environ["WITNESS"])
        self.log, self.trips = Log(folder), Trips(folder)
        self._threads = ThreadPoolExecutor(THREADS, "witness")
        self._sessions: list[WitnessSession] = []
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()

    def open(self, device: Device, report: Report) -> WitnessSession:
        session = WitnessSession(device, report, self.log, self.trips, self._threads)
        self._sessions.append(session)
        return session

    def _watch(self) -> None:
        """Notices that sessions are replaced, and that this host's clock moved."""
        ahead = math.inf
        while True:
            if abs(time.time() - clock() - ahead) > MOVED_SECONDS:
                ahead = time.time() - clock()
                self.log.note("clock")
            time.sleep(WATCH_SECONDS)
            for session in self._sessions.copy():
                if session.is_over:
                    self._sessions.remove(session)
                else:
                    session.look()
