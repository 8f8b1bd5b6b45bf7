"""A process with one real client: the unmodified wheel, told what to do by client.py over a pipe.

    python -m tests.whatsapp.client_process STORE FD

It is a process of its own because Go reads the environment at its start, because a client that
waits for a scan cannot be stopped, and because Go may end the process.
"""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from neonize import events
from neonize.client import NewClient
from neonize.utils.enum import ReceiptType
from neonize.utils.jid import build_jid

# The library opens "file:NAME?_foreign_keys=on". Nobody cuts the power in a test, and hundreds of
# keys are made while a client is linked, each a transaction.
FAST = "?_foreign_keys=on&_journal_mode=MEMORY&_synchronous=OFF&_ignored="

EVENTS = [
    events.PairStatusEv,
    events.ConnectedEv,
    events.DisconnectedEv,
    events.LoggedOutEv,
    events.StreamReplacedEv,
    events.StreamErrorEv,
    events.TemporaryBanEv,
    events.ConnectFailureEv,
    events.ClientOutdatedEv,
    events.UndecryptableMessageEv,
    events.MessageEv,
    events.ReceiptEv,
]


class Host:
    """Runs the client; each call in a thread of its own, because a send may hang for 75 seconds."""

    def __init__(self, store: Path, pipe: Connection) -> None:
        self._pipe, self._writing = pipe, threading.Lock()
        self._messages: dict[str, Any] = {}  # as they came, by id
        self._client = NewClient(f"{store}{FAST}", uuid=f"{store.stem}:{os.getpid()}")
        self._client.event.qr(lambda _, text: self._tell("QR", text=text.decode()))
        for event in EVENTS:
            self._client.event(event)(self._handle)

    def serve(self) -> None:
        while True:
            try:
                number, verb, arguments = self._pipe.recv()
            except EOFError:
                os._exit(0)
            threading.Thread(target=self._call, args=(number, verb, arguments)).start()

    def _call(self, number: int, verb: str, arguments: dict[str, Any]) -> None:
        try:
            answer, error = getattr(self, verb)(**arguments), ""
        except Exception as raised:  # noqa: BLE001 (raised again where it was called)
            answer, error = None, f"{type(raised).__name__}: {raised}"
        self._write(("answer", number, answer, error))

    def _handle(self, _: NewClient, event: Any) -> None:
        name = type(event).__name__
        if name == "Message":
            self._messages[event.Info.ID] = event
        self._tell(name, **MessageToDict(event, preserving_proto_field_name=True))

    def _tell(self, name: str, **fields: Any) -> None:
        self._write(("event", name, fields))

    def _write(self, line: tuple[Any, ...]) -> None:
        with self._writing:
            self._pipe.send(line)

    # What client.py calls

    def connect(self) -> None:
        """Returns when the client has ended, which for some ends is never."""
        self._client.connect()

    def stop(self) -> None:
        self._client.stop()

    def logout(self) -> None:
        self._client.logout()

    def pair_phone(self, number: str) -> str:
        return str(self._client.PairPhone(number, True))

    def send_text(self, to: str, text: str) -> str:
        return str(self._client.send_message(build_jid(to), text).ID)

    def send_image(self, to: str, image: bytes, caption: str) -> str:
        return str(self._client.send_image(build_jid(to), image, caption=caption).ID)

    def send_document(self, to: str, content: bytes, name: str) -> str:
        sent = self._client.send_document(build_jid(to), content, filename=name, caption=name)
        return str(sent.ID)

    def upload(self, content: bytes) -> int:
        from neonize.utils.enum import MediaType

        return int(self._client.upload(content, MediaType.MediaDocument).FileLength)

    def is_on_whatsapp(self, numbers: list[str]) -> dict[str, bool]:
        found = self._client.is_on_whatsapp(*[f"+{number}" for number in numbers])
        return {answer.JID.User: answer.IsIn for answer in found}

    def download(self, message_id: str) -> bytes:
        return bytes(self._client.download_any(self._messages[message_id].Message))

    def mark_read(self, message_id: str) -> None:
        source = self._messages[message_id].Info.MessageSource
        self._client.mark_read(
            message_id, chat=source.Chat, sender=source.Sender, receipt=ReceiptType.READ
        )


if __name__ == "__main__":
    Host(Path(sys.argv[1]), Connection(int(sys.argv[2]))).serve()
