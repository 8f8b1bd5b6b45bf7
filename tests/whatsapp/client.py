"""A handle on a process with a real client, for tests: calls its verbs, waits for its events."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.processes import ROOT
from tests.whatsapp.double import PhoneOf

SECONDS = 30


class ClientError(Exception):
    """What the client raised; its text is all that neonize tells."""


class Event(NamedTuple):
    name: str  # "Connected", "Receipt" ...: neonize's name without Ev, and "QR"
    fields: dict[str, Any]


Matches = Callable[[dict[str, Any]], object]


class Client:
    MODULE = f"{__name__}_process"  # what its process runs

    def __init__(self, process: subprocess.Popen[bytes], pipe: Any, log: Path) -> None:
        self.process, self.log = process, log
        self.events: list[Event] = []
        self._pipe, self._calls, self._connecting = pipe, 0, 0
        self._answers: dict[int, tuple[Any, str]] = {}

    @classmethod
    @contextmanager
    def start(cls, store: Path, environment: Mapping[str, str]) -> Iterator[Self]:
        """Starts a process with a client whose keys are in `store`, a file that need not exist."""
        ours, theirs = multiprocessing.Pipe()
        log = store.with_suffix(".log")
        with theirs, log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", cls.MODULE, str(store), str(theirs.fileno())],
                cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        try:
            yield cls(process, ours, log)
        finally:
            process.kill()
            process.wait()
            sys.stdout.write(log.read_text(errors="replace"))  # pytest shows it on failure

    def connect(self) -> None:
        """Begins to connect: a call that ends when the client has come to an end."""
        self._connecting = self.begin("connect")

    def has_ended(self) -> bool:
        return self.is_done(self._connecting)

    def end(self) -> None:
        """Waits until the client has come to an end; raises why, if neonize does."""
        self.result(self._connecting)

    def link(self, phone: PhoneOf) -> Self:
        """Connects for the first time, and is linked by the phone's scan."""
        self.connect()
        phone.scan(self.wait_for("QR")["text"])
        self.wait_for("Connected")
        return self

    def call(self, verb: str, **arguments: Any) -> Any:
        """Calls one of client_process.py's, and waits for its answer."""
        return self.result(self.begin(verb, **arguments))

    def begin(self, verb: str, **arguments: Any) -> int:
        self._calls += 1
        self._pipe.send((self._calls, verb, arguments))
        return self._calls

    def result(self, call: int) -> Any:
        self._wait_until(lambda: call in self._answers, f"the answer to call {call}")
        answer, error = self._answers[call]
        if error:
            raise ClientError(error)
        return answer

    def is_done(self, call: int) -> bool:
        self._read(0)
        return call in self._answers

    def wait_for(
        self, name: str, matches: Matches | None = None, *, after: int = 0
    ) -> dict[str, Any]:
        """Returns the fields of the first such event, of those from number `after` on."""
        self._wait_until(lambda: self._found(name, matches, after), name)
        return self._found(name, matches, after)[0]

    def mark(self) -> int:
        """Returns how many events there have been: where to look for later ones."""
        return len(self.names())

    def wait_for_receipt(self, message_id: str, kind: str) -> None:
        """Waits until somebody has got it ("DELIVERED") or read it ("READ")."""
        self.wait_for(
            "Receipt",
            lambda event: message_id in event["MessageIDs"] and kind in str(event["Type"]),
        )

    def names(self) -> list[str]:
        self._read(0)
        return [event.name for event in self.events]

    def _found(self, name: str, matches: Matches | None, after: int) -> list[dict[str, Any]]:
        fields = [event.fields for event in self.events[after:] if event.name == name]
        return [each for each in fields if matches is None or matches(each)]

    def _wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain for {what}; the last were {self.events[-5:]}"
            self._read(left)

    def _read(self, seconds: float) -> None:
        """Takes in what the process has written; waits so long for the first of it."""
        try:
            while self._pipe.poll(seconds):
                kind, *rest = self._pipe.recv()
                if kind == "event":
                    self.events.append(Event(*rest))
                else:
                    number, *answer = rest
                    self._answers[number] = (answer[0], answer[1])
                seconds = 0
        except (EOFError, ConnectionResetError):
            raise AssertionError(f"the client has ended: {self.log.read_text()[-2000:]}") from None
