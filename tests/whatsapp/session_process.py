"""A process that opens our transport's sessions, as a broadcaster does; told what by session.py.

    python -m tests.whatsapp.session_process FILE FD

FILE is one of the session files; devices are named by their keys, as the files are.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import django

django.setup()

from devices.transports import transport  # noqa: E402
from devices.transports.base import Event, Media, OutgoingMessage, Report, Session  # noqa: E402

SECONDS = 20


def _open(device: int, report: Report) -> Session:
    return transport("neonize").open(SimpleNamespace(pk=device, session=str(device)), report)


class Host:
    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._writing = pipe, threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._reads = 0
        self._may_leave = True

    def serve(self) -> None:
        while True:
            try:
                number, verb, arguments = self._pipe.recv()
            except EOFError:
                return  # sessions are closed by who opened them: else this process hangs, rightly
            threading.Thread(target=self._call, args=(number, verb, arguments)).start()

    def _call(self, number: int, verb: str, arguments: dict[str, Any]) -> None:
        try:
            answer, error = getattr(self, verb)(**arguments), ""
        except Exception as raised:  # noqa: BLE001 (raised again where it was called)
            answer, error = None, f"{type(raised).__name__}: {raised}"
        self._write(("answer", number, answer, error))

    def _write(self, line: tuple[Any, ...]) -> None:
        with self._writing:
            self._pipe.send(line)

    # What session.py calls

    def open(self, device: int, name: str) -> None:
        def report(event: Event) -> None:
            self._write(("event", type(event).__name__, asdict(event) | {"session": name}))

        self._sessions[name] = _open(device, report)

    def send(self, name: str, key: str, phone: str, body: str, file: Any = None) -> Any:
        """`file` is the fields of a Media, with its content in place of `read`."""
        media = None
        if file:
            content = file.pop("content")
            media = Media(**file, read=lambda: self._read(content))
        return self._sessions[name].send(
            OutgoingMessage(key, phone, body, media, lambda: self._may_leave)
        )

    def _read(self, content: bytes) -> bytes:
        self._reads += 1
        return content

    def lose_the_lease(self) -> None:
        self._may_leave = False

    def reads(self) -> int:
        """Returns how often the content of a file was asked for."""
        return self._reads

    def check(self, name: str, phones: list[str]) -> Any:
        return self._sessions[name].check(phones)  # type: ignore[attr-defined]

    def recall(self, name: str, key: str) -> Any:
        return self._sessions[name].recall(key)

    def close(self, name: str) -> None:
        self._sessions[name].close()

    def give_up_after(self, seconds: float) -> None:
        from devices.transports.neonize import session

        session.SEND_SECONDS = seconds

    def wait_for_uploads(self, seconds: float) -> None:
        from devices.transports.neonize import uploads

        uploads.UPLOAD_SECONDS = seconds

    def close_in_a_report(self, device: int) -> bool:
        """Returns whether a session could be closed from inside of a report of its own."""
        closed, opened = threading.Event(), threading.Event()

        def report(event: Event) -> None:
            opened.wait(SECONDS)
            session.close()
            closed.set()

        session = _open(device, report)
        opened.set()
        return closed.wait(SECONDS)

    def close_during_a_report(self, device: int) -> bool:
        """Returns whether close() waited for a report that was under way."""
        reporting, go_on, over = threading.Event(), threading.Event(), threading.Event()

        def report(event: Event) -> None:
            reporting.set()
            go_on.wait(SECONDS)
            over.set()

        session = _open(device, report)
        reporting.wait(SECONDS)
        closing = threading.Thread(target=session.close)
        closing.start()
        closing.join(0.1)
        waited = closing.is_alive()
        go_on.set()
        closing.join(SECONDS)
        return waited and over.is_set() and not closing.is_alive()


if __name__ == "__main__":
    Host(Connection(int(sys.argv[2]))).serve()
