"""A handle on the double, for tests: starts it, tells it what to do, asks what it saw.

It needs none of what the double itself needs, and works from any process:

    with Double.start(folder) as whatsapp:
        ali = whatsapp.register("60111111111")
        subprocess.Popen(…, env=os.environ | whatsapp.environment)  # uses neonize, as it is
        whatsapp.answer_sends_with(463)
        assert ali.received() == []

    Double.at(folder)  # in another process
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from tests.processes import ROOT, wait_until

SECONDS = 30  # the longest that any verb may take


class DoubleError(Exception):
    """The double could not do it; the text says why."""


class Send(NamedTuple):
    """A message as it came to the server, which sees who writes to whom and not what."""

    id: str
    sender: str
    recipient: str
    tags: list[str]
    outcome: str  # "accepted", "lost", or the code it was refused with


class Received(NamedTuple):
    """A message as its recipient sees it: once. `copies` is how often it came."""

    id: str
    sender: str
    text: str
    media: bytes
    file: dict[str, Any]
    copies: int


class Names(NamedTuple):
    """What a client of an account is called, as its file has it."""

    jid: str
    lid: str
    lid_user: str


class Double:
    def __init__(self, folder: Path, address: dict[str, Any]) -> None:
        self.folder = folder
        self._control: int = address["control"]
        self.pid: int = address["pid"]
        # For whoever is to take the double for WhatsApp: to be set before that process starts,
        # because Go reads the environment that a process began with.
        site = str(Path(__file__).with_name("site"))  # puts the key in place
        self.environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")])),
            "SSL_CERT_FILE": address["authority"],
            "HTTPS_PROXY": f"http://127.0.0.1:{address['proxy']}",
            "NEONIZE_BOT_TAG": "off",
            "WHATSAPP_DOUBLE_ROOT_KEY": address["root_key"],
        }

    @classmethod
    @contextmanager
    def start(cls, folder: Path) -> Iterator[Self]:
        with (folder / "double.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.whatsapp.server", str(folder)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        ready = folder / "double.json"
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None)
            assert ready.exists(), (folder / "double.log").read_text()
            yield cls.at(folder)
        finally:
            process.kill()
            process.communicate()

    @classmethod
    def at(cls, folder: Path) -> Self:
        return cls(folder, json.loads((folder / "double.json").read_text()))

    # People and their phones

    def phone(self, number: str) -> PhoneOf:
        return PhoneOf(self, number)

    def register(self, *numbers: str) -> PhoneOf:
        """Has these numbers be on WhatsApp; returns the phone of the first. All others are not."""
        self.ask("register", numbers=numbers)
        return self.phone(numbers[0])

    def copy_client(self, number: str, to: str) -> Names:
        """Has the client of the one account be a client of the other too; see paired.py."""
        return Names(**self.ask("copy_client", number=number, to=to))

    # What the server does wrong, until it is told otherwise

    def answer_sends_with(self, code: int | None) -> None:
        """Refuses messages with this code: 463 (may not write to strangers), 479, 429 ..."""
        self.ask("answer_sends_with", code=code)

    def withhold_acks(self) -> None:
        """Passes messages on and does not tell who sent them."""
        self.ask("withhold_acks")

    def release_acks(self) -> None:
        """Tells them now, and from now on."""
        self.ask("release_acks")

    def cut_next_send(self, when: Literal["before it arrives", "after it arrived"]) -> None:
        """Cuts the connection that the next message comes over, instead of answering it."""
        self.ask("cut_next_send", when=when)

    def cut(self, number: str) -> None:
        """Drops the connections of this account's clients. They may come again."""
        self.ask("cut", number=number)

    def replace(self, number: str) -> None:
        """Ends them as if each client had logged in elsewhere."""
        self.ask("replace", number=number)

    def log_out(self, number: str) -> None:
        """Unlinks this account's clients, as one does on the phone."""
        self.ask("log_out", number=number)

    def refuse_logins(self, reason: int, number: str | None = None, **more: int) -> None:
        """Answers whoever logs in or is to be linked (or this account's clients) with a failure of
        this reason.

        Clients that are connected stay so: cut them. 401 and 403 are logged out, 406 is banned,
        405 too old a client, 503 a server that is not well.
        """
        attributes = {name: str(value) for name, value in more.items()}
        self.ask("refuse_logins", number=number, reason=str(reason), **attributes)

    def ban(self, number: str, *, code: int, seconds: int) -> None:
        """Bans an account for so long; code is why: 101 for too many messages to strangers."""
        self.refuse_logins(402, number, code=code, expire=seconds)

    def withhold_media(self) -> None:
        """Leaves uploads without an answer, until it behaves."""
        self.ask("withhold_media")

    def uploads(self) -> int:
        """Returns how many files were uploaded."""
        count: int = self.ask("uploads")
        return count

    def refuse_media(self, status: int) -> None:
        """Answers uploads with this status of HTTP."""
        self.ask("refuse_media", status=status)

    def go_away(self) -> None:
        """Drops all connections and lets none through."""
        self.ask("go_away")

    def come_back(self) -> None:
        self.ask("come_back")

    def behave(self) -> None:
        """Takes back everything above (who was logged out stays so)."""
        self.ask("behave")

    # What it has seen

    def sends(self, recipient: str | None = None) -> list[Send]:
        """Returns each arrival of a message at the server; the same one twice if it came twice."""
        return [Send(**send) for send in self.ask("sends", recipient=recipient)]

    def logins(self, number: str) -> int:
        """Returns how often this account's clients have tried to log in."""
        return int(self.ask("logins", number=number))

    def online(self, number: str) -> int:
        """Returns how many of this account's clients are connected."""
        return int(self.ask("online", number=number))

    def clients(self, number: str) -> int:
        """Returns how many clients are linked to this account, connected or not."""
        return int(self.ask("clients", number=number))

    def complaints(self) -> list[str]:
        """Returns what the double itself stumbled over since this was last asked."""
        return list(self.ask("complaints"))

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Calls one of verbs.py's."""
        with socket.create_connection(("127.0.0.1", self._control), SECONDS) as connection:
            request = {"verb": verb, "arguments": arguments}
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        if "error" in answer:
            raise DoubleError(answer["error"])
        return answer["answer"]


@dataclass
class PhoneOf:
    """The phone of a number that is on WhatsApp, in the hands of a test."""

    whatsapp: Double
    number: str

    def scan(self, qr_text: str) -> None:
        """Links the client that shows this QR code."""
        self.whatsapp.ask("scan", number=self.number, text=qr_text)

    def type_code(self, code: str) -> None:
        """Links the client that shows these eight characters."""
        self.whatsapp.ask("type_code", number=self.number, code=code)

    def received(self) -> list[Received]:
        """Returns all messages, the oldest first."""
        messages = self.whatsapp.ask("received", number=self.number)
        return [Received(**m | {"media": base64.b64decode(m["media"])}) for m in messages]

    def texts(self) -> list[str]:
        return [message.text for message in self.received()]

    def write(self, to: str, text: str) -> str:
        """Writes to the clients of another account; returns the message's id."""
        return str(self.whatsapp.ask("write", number=self.number, to=to, text=text))

    def read(self, message_id: str) -> None:
        """Opens a message, so that whoever wrote it sees that it was read."""
        self.confirm(message_id, "read")

    def confirm(self, message_id: str, kind: str) -> None:
        """Sends a receipt of this kind: "read", "played", "inactive", or one nobody knows."""
        self.whatsapp.ask("confirm", number=self.number, message_id=message_id, kind=kind)

    def switch_off(self) -> None:
        """What is sent waits from now on."""
        self.whatsapp.ask("switch_off", number=self.number)

    def switch_on(self) -> None:
        self.whatsapp.ask("switch_on", number=self.number)
