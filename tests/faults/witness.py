"""A transport whose record is a file: the fault suite's witness, outside the system under test.

    EXTRA_TRANSPORTS=witness=tests.faults.witness.WitnessTransport  WITNESS=FOLDER

Every send is one line appended to FOLDER/log by a single write, so that processes may be killed
anywhere. Two kinds of accounts, by the device's number, because transports come in both:

- even: an account with a memory. A newer session replaces the older one, checked under the same
  lock as the append, so `recall` can be sure and a message that did not leave is sent again.
- odd: an account that cannot tell. `recall` answers None, and a session that was stopped in
  mid-send appends when it wakes, however late: what is sent again blindly shows up here.

A file FOLDER/kill-entry (or stop-entry, kill-appended, stop-appended) makes whichever process
comes first kill or stop itself at that point: after the hand-over and before the append, or after
the append and before the outcome.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devices.transports.base import (
    Accepted,
    Connected,
    NotSent,
    Outcome,
    OutgoingMessage,
    Refused,
    Report,
)

if TYPE_CHECKING:
    from devices.models import Device

# Fixed, not random: all that varies between two sends of a device is then the engine's doing.
BEFORE_SECONDS = AFTER_SECONDS = 0.06
POINTS = ("entry", "appended")
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def clock() -> float:
    """Seconds since the host started: one clock for all its processes, wrong wall clocks or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_refused(phone: str) -> bool:
    """Whether this number is one that the witness never sends to."""
    return phone.endswith("77")


def remembers(device_id: int) -> bool:
    return device_id % 2 == 0


class Log:
    """The file. One instance a process; it reads only what is new since it last looked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = os.open(folder / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._reading = threading.Lock()
        self._read_up_to = 0
        self._ids: dict[str, str] = {}

    def append(self, **line: Any) -> None:
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

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
    def __init__(self, device: Device, report: Report, log: Log) -> None:
        self.device_id = device.pk
        self.token = secrets.token_hex(4)
        self._log = log
        with self._gate() as gate:
            os.pwrite(gate, self.token.encode(), 0)  # the older session, if any, is replaced now
            self._note("open")
        self._connecting = threading.Timer(0.02, report, [Connected()])
        self._connecting.daemon = True
        self._connecting.start()

    def send(self, message: OutgoingMessage) -> Outcome:
        entered_at = clock()
        self._trip("entry")
        time.sleep(BEFORE_SECONDS)
        if is_refused(message.phone):
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
        self._trip("appended")
        time.sleep(AFTER_SECONDS)
        return Accepted(sent["id"])

    def recall(self, key: str) -> Accepted | NotSent | None:
        if not remembers(self.device_id):
            return None
        with self._gate() as gate:
            # A session that was itself replaced does not know what the newer one is doing.
            if not self._is_current(gate):
                return None
            found = self._log.sent(key)
        return Accepted(found) if found else NotSent()

    def close(self) -> None:
        self._connecting.cancel()

    @contextmanager
    def _gate(self) -> Iterator[int]:
        """The account's lock, which the kernel lets go of when its holder dies."""
        path = self._log.folder / f"device-{self.device_id}"
        gate = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield gate
        finally:
            os.close(gate)

    def _is_current(self, gate: int) -> bool:
        return os.pread(gate, 64, 0).decode() == self.token

    def _note(self, what: str, **facts: Any) -> None:
        self._log.append(
            what=what, at=clock(), device=self.device_id, session=self.token, pid=os.getpid(),
            **facts,
        )  # fmt: skip

    def _trip(self, point: str) -> None:
        """Falls over here if the driver asked for it; of several processes exactly one does."""
        for verb, number in SIGNALS.items():
            order = self._log.folder / f"{verb}-{point}"
            try:
                order.rename(self._log.folder / f"{verb}-{point}.{os.getpid()}")
            except FileNotFoundError:
                continue
            os.kill(os.getpid(), number)


class WitnessTransport:
    def __init__(self) -> None:
        self.log = Log(Path(os.environ["WITNESS"]))

    def open(self, device: Device, report: Report) -> WitnessSession:
        return WitnessSession(device, report, self.log)
