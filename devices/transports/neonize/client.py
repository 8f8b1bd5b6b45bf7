"""One connection's life in neonize. The only file that imports it.

Its Go side keeps its clients in maps without a lock; a call that reads one while another writes it
ends the process ("fatal error: concurrent map read and map write"). So whoever writes, in starting
and stopping a client, is alone in the library for as long as that takes, and nothing is polled.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from devices.transports.base import OutgoingMessage

Tell = Callable[[str, dict[str, Any]], None]

# Until a call that was let in has read the map. It needs the interpreter for that, which the other
# threads may have before it: this is for ten that keep it as long as they can, 5 ms each.
ENTER_SECONDS = 0.05
START_SECONDS = 0.1  # until a new client is in the map; 0.05 was enough 8 times out of 8
STOP_SECONDS = 1.0
STDOUT = 1
USER_SERVER = "s.whatsapp.net"  # of names that are numbers
BETWEEN_SECONDS = 0.005  # lets those through who wait to send

EVENTS = (
    "Connected", "Disconnected", "LoggedOut", "StreamReplaced", "TemporaryBan", "ConnectFailure",
    "ClientOutdated", "Message", "Receipt", "PairStatus",
)  # fmt: skip


class ClientError(Exception):
    """What the library raised. It has no kinds of errors: the text is all there is."""


class Gate:
    """Who may call into the library."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered_at = -math.inf

    def enter(self) -> None:
        """Waits until nobody is alone in there."""
        with self._lock:
            self._entered_at = time.monotonic()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._lock:
            # Where nobody calls, as at the end when all sessions are closed, nobody is waited for.
            time.sleep(max(self._entered_at + ENTER_SECONDS - time.monotonic(), 0))
            yield
        time.sleep(BETWEEN_SECONDS)


gate = Gate()


def _silence() -> None:
    """Leaves standard output to Python: Go prints there, and whose number a message was for.

    What ends the process it says on standard error, which stays.
    """
    with suppress(AttributeError, OSError):  # Python's may be none, or no file
        sys.stdout.flush()
        if sys.stdout.fileno() == STDOUT:
            sys.stdout = os.fdopen(os.dup(STDOUT), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDOUT)
    os.close(nowhere)


@cache
def _library() -> Any:
    _silence()
    import neonize.client

    # It logs through ours. Numbers and texts are in what it says, and its own words help nobody.
    for name in ("neonize", "whatsmeow", "Whatsmeow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    class Quiet(neonize.client.NewClient):  # type: ignore[misc]  # not typed
        tell: Tell | None = None

        def _NewClient__onLoginStatus(self, _: object, status: int) -> None:
            """Prints nothing: who makes a client is told."""
            if self.tell:
                self.tell("Login", {"status": ctypes.string_at(status).decode(errors="replace")})

    return Quiet


def _our_name() -> Any:
    """How the account's phone lists us under its linked devices, and that we want no old chats."""
    from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps

    history = DeviceProps.HistorySyncConfig(fullSyncDaysLimit=1, recentSyncDaysLimit=1)
    return DeviceProps(
        os="Siaran",
        platformType=DeviceProps.PlatformType.DESKTOP,
        requireFullSync=False,
        historySyncConfig=history,
    )


class Client:
    """Begins when it is run, and ends once; then another is made."""

    def __init__(self, name: str, label: str, tell: Tell) -> None:
        self.ended = threading.Event()
        self._name, self._tell = name, tell
        # New each time: the library stops whoever has the name of one that was thrown away.
        self._uuid = f"{label}:{uuid.uuid4()}"
        self._client: Any = None

    def start(self, ended: Callable[[str], None]) -> None:
        """Begins to connect. `ended` is called when it is over, with the reason if there is one."""
        self._client = self._make()
        thread = threading.Thread(target=self._run, args=[ended], daemon=True, name=self._uuid)
        with gate.alone():
            thread.start()
            self.ended.wait(START_SECONDS)

    def _make(self) -> Any:
        library = _library()  # before all else of it
        from google.protobuf.json_format import MessageToDict
        from neonize import events

        def handle(_: object, event: Any) -> None:
            fields = MessageToDict(event, preserving_proto_field_name=True)
            self._tell(type(event).__name__, fields)

        client = library(self._name, uuid=self._uuid, props=_our_name())
        # When it is thrown away, it would be stopped once more, and not by the gate.
        client._stop_finalizer.detach()
        for name in EVENTS:
            client.event(getattr(events, f"{name}Ev"))(handle)
        client.event.qr(lambda _, text: self._tell("QR", {"text": text.decode()}))
        client.tell = self._tell
        return client

    def _run(self, ended: Callable[[str], None]) -> None:
        error = ""
        try:
            self._client.connect()
        except Exception as raised:  # noqa: BLE001 (whatever it is, this client has ended)
            error = str(raised) or type(raised).__name__
        self.ended.set()
        try:  # what is left of it may still be connected, hear nothing, and send
            with gate.alone():
                self._client.stop()
        finally:
            ended(error)

    def stop(self) -> None:
        with gate.alone():
            is_running = self._client and not self.ended.is_set()
            if is_running:
                self._client.stop()
        # Go has changed its maps by now, so nobody else has to wait until the line is closed too.
        if is_running:
            self.ended.wait(STOP_SECONDS)

    def upload(self, kind: str, content: bytes) -> Any:
        """Returns what `send` needs to know of a file that is uploaded; raises ClientError."""
        from neonize.utils.enum import MediaType

        gate.enter()
        try:
            return self._client.upload(content, MediaType[f"Media{kind.capitalize()}"])
        except Exception as error:
            raise ClientError(str(error) or type(error).__name__) from error

    def pair_phone(self, phone: str) -> str:
        """Returns the code to be typed on this phone; for a client that shows QR codes. Raises
        ClientError."""
        from neonize.utils.enum import ClientType

        gate.enter()
        try:
            # WhatsApp takes the names of browsers only.
            return str(self._client.PairPhone(phone, True, client_type=ClientType.CHROME))
        except Exception as error:
            raise ClientError(str(error) or type(error).__name__) from error

    def log_out(self) -> None:
        """Unlinks the account; for a client that is connected. Raises ClientError."""
        gate.enter()
        try:
            self._client.logout()
        except Exception as error:
            raise ClientError(str(error) or type(error).__name__) from error

    def check(self, phones: Sequence[str]) -> dict[str, str]:
        """Returns the number by which WhatsApp knows each of these, '' for those that it does not
        know; raises ClientError."""
        gate.enter()
        try:
            answers = self._client.is_on_whatsapp(*(f"+{phone}" for phone in phones))
        except Exception as error:
            raise ClientError(str(error) or type(error).__name__) from error
        found = {}
        for answer in answers:
            phone = answer.Query.lstrip("+")  # empty where WhatsApp had no answer for it
            by_number = answer.JID.Server == USER_SERVER
            found[phone] = (answer.JID.User if by_number else phone) if answer.IsIn else ""
        return found

    def send(self, message: OutgoingMessage, file: Any, token: bytes) -> str:
        """Returns the id that the message got, '' where it may not leave any more; raises
        ClientError. `file` is what its media was uploaded as."""
        from neonize.utils.jid import build_jid

        written = _written(message, file, token)
        gate.enter()
        if not message.may_leave():  # the last thing that is asked: much may have taken its time
            return ""
        try:
            return str(self._client.send_message(build_jid(message.phone), written).ID)
        except Exception as error:
            raise ClientError(str(error) or type(error).__name__) from error


def _written(message: OutgoingMessage, file: Any, token: bytes) -> Any:
    """Returns the message as WhatsApp writes one.

    Made here. Of a plain string neonize looks for @mentions in it; of a file its own functions
    decode pictures and start ffprobe, on our hosts and in the middle of a send.
    """
    from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as whatsapp

    secret = whatsapp.MessageContextInfo(messageSecret=token)
    if not (media := message.media):
        return whatsapp.Message(conversation=message.body, messageContextInfo=secret)
    about = {
        "URL": file.url, "directPath": file.DirectPath, "mediaKey": file.MediaKey,
        "fileEncSHA256": file.FileEncSHA256, "fileSHA256": file.FileSHA256,
        "fileLength": file.FileLength, "mimetype": media.content_type,
        "caption": message.body or None,  # none rather than an empty one
    }  # fmt: skip
    match media.kind:
        case "image":
            size = {"width": media.width, "height": media.height} if media.width else {}
            part: dict[str, Any] = {"imageMessage": whatsapp.ImageMessage(**about, **size)}
        case "video":
            part = {"videoMessage": whatsapp.VideoMessage(**about)}
        case _:
            named = {"fileName": media.name, "title": media.name}
            part = {"documentMessage": whatsapp.DocumentMessage(**about, **named)}
    return whatsapp.Message(messageContextInfo=secret, **part)
