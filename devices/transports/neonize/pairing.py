"""Links a session to a phone, or logs one out: in a process of its own, which ends with it.

A client that shows QR codes cannot be stopped (`connect` never returns then), so whoever calls
this has to end its process hard, with os._exit, as broadcasts' run_errand does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from django.db import DatabaseError, connection

from devices.pairing import Pairing, Unlinking
from devices.transports.neonize.answers import masked
from devices.transports.neonize.client import Client, ClientError
from devices.transports.neonize.reach import reach
from devices.transports.neonize.store import Store

logger = logging.getLogger(__name__)

# WhatsApp gives six QR codes one after the other, and ends it with the last.
FIRST_CODE_SECONDS, NEXT_CODE_SECONDS, CODES = 60.0, 20.0, 6
WITHIN_SECONDS = FIRST_CODE_SECONDS + (CODES - 1) * NEXT_CODE_SECONDS
# From the scan until the account's keys are where they belong; then hands are off the process.
FINISH_SECONDS = 60.0
# Until the broadcaster that has the session has let go of it, and until WhatsApp has been told.
LET_GO_SECONDS, LOG_OUT_SECONDS = 120.0, 45.0
BEAT_SECONDS = 1.0

Reason = Pairing.Reason
Said = tuple[str, Mapping[str, Any]]


def verdict(name: str, fields: Mapping[str, Any]) -> str:
    """Returns why the linking has failed when the client says this, '' if it has not."""
    match name, fields.get("status") or fields.get("Status"):
        case "Login", "passkey-request":
            return Reason.PASSKEY.value
        case ("Login", "err-client-outdated") | ("ClientOutdated", _):
            return Reason.OUTDATED.value
        case "Login", "timeout":
            return Reason.TIMED_OUT.value
        case ("Login", "error" | "err-unexpected-state") | ("PairStatus", "ERROR"):
            return Reason.REFUSED.value
        case (("LoggedOut" | "TemporaryBan" | "ConnectFailure"), _):
            return Reason.REFUSED.value
        case "Ended", _:
            return _why_ended(str(fields.get("error", "")))
    return ""


def _why_ended(error: str) -> str:
    if any(each in error for each in ("no such host", "connection refused", "dial", "timeout")):
        return Reason.UNREACHABLE.value
    if "outdated" in error or "405" in error:
        return Reason.OUTDATED.value
    return Reason.REFUSED.value


def why_no_code(error: str) -> str:
    """Returns why WhatsApp gave no code of 8 characters, by the library's error text."""
    if "429" in error or "rate-overlimit" in error:
        return Reason.TOO_OFTEN.value
    if "websocket" in error or "client is nil" in error:
        return Reason.UNREACHABLE.value
    return Reason.BAD_NUMBER.value


class Linking:
    """A client that offers itself to a phone, or that is linked already and logs in."""

    def __init__(self, session: str, device_id: int, is_wanted: Callable[[], bool]) -> None:
        self.store = Store(session, device_id)
        self._is_wanted = is_wanted
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._client: Client | None = None

    def start(self) -> None:
        self._client = Client(
            self.store.name, str(self.store.device_id), lambda *said: self._said.put(said)
        )
        self._client.start(lambda error: self._said.put(("Ended", {"error": error})))

    @property
    def client(self) -> Client:
        assert self._client, "it has not been started"
        return self._client

    @contextmanager
    def at_it(self) -> Iterator[None]:
        """Goes on saying that the process lives during one call of the library: it may take a
        minute, and who says nothing for so long is taken for dead."""
        over = threading.Event()
        beats = threading.Thread(target=self._beat, args=[over], name="beat", daemon=True)
        beats.start()
        try:
            yield
        finally:
            over.set()
            beats.join()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(BEAT_SECONDS):
            try:
                self._is_wanted()
            except DatabaseError:  # whoever called finds out by itself
                logger.exception("Device %s: could not say that it goes on", self.store.device_id)
        connection.close()  # this thread's

    def hear(self, until: float) -> Said | None:
        """Returns what the client says next: "Time" with nothing when it is time to give up, None
        when nobody wants it any more."""
        while self._is_wanted():
            left = until - time.monotonic()
            if left <= 0:
                return "Time", {}
            try:
                return self._said.get(timeout=min(left, BEAT_SECONDS))
            except Empty:
                continue
        return None

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for the condition; returns whether it came about while somebody wanted it."""
        until = time.monotonic() + seconds
        while self._is_wanted():
            if condition():
                return True
            if time.monotonic() > until:
                return False
            time.sleep(BEAT_SECONDS)
        return False


def pair(pairing: Pairing, within: float = WITHIN_SECONDS) -> None:
    """Links the pairing's new session to a phone, and tells the row all the way."""
    linking = Linking(pairing.session, pairing.device_id, pairing.is_wanted)
    linking.store.protect()
    linking.store.hold()
    if reach.problem():
        pairing.fail(Reason.UNREACHABLE)
        return
    linking.start()
    try:
        reason = _follow(pairing, linking, within)
    finally:
        if pairing.state == Pairing.State.FINISHING:  # else it cannot be stopped
            linking.client.stop()
    if reason:
        pairing.fail(reason)
    elif pairing.state == Pairing.State.FINISHING:
        pairing.succeed(_number(linking.store.account()))


def _follow(pairing: Pairing, linking: Linking, within: float) -> str:
    """Tells the row how far it is, until it is linked; returns why it is not."""
    until = time.monotonic() + within
    codes = 0
    while said := linking.hear(until):
        name, fields = said
        is_linked = pairing.state == Pairing.State.FINISHING
        if name == "Time":
            return Reason.ENDED if is_linked else Reason.TIMED_OUT
        if name == "QR":
            codes += 1
            if reason := _show(pairing, linking, fields["text"], codes, until):
                return reason
        elif reason := verdict(name, fields):
            logger.warning("Device %s was not linked: %s", pairing.device_id, _words(name, fields))
            return reason
        elif name == "PairStatus":
            until = time.monotonic() + FINISH_SECONDS
            phone = str(fields.get("ID", {}).get("User", ""))
            pairing.has_linked(phone)
            if reason := pairing.problem_with(phone):
                return reason
        elif name == "Connected":
            pairing.state = pairing.State.FINISHING
            return ""
    return ""


def _show(pairing: Pairing, linking: Linking, text: str, codes: int, until: float) -> str:
    """Shows the QR code, or once a code for the number; returns why it cannot."""
    if pairing.method == Pairing.Method.QR:
        pairing.show(text, FIRST_CODE_SECONDS if codes == 1 else NEXT_CODE_SECONDS)
        return ""
    if codes > 1:
        return ""
    try:
        with linking.at_it():
            code = linking.client.pair_phone(pairing.phone)
    except ClientError as error:
        logger.warning("Device %s got no code: %s", pairing.device_id, masked(str(error)))
        return why_no_code(str(error))
    pairing.show(code, max(until - time.monotonic(), 0))
    return ""


def unlink(unlinking: Unlinking) -> None:
    """Logs a session out where WhatsApp can be reached, and deletes its file in any case."""
    linking = Linking(unlinking.session, unlinking.device_id or 0, unlinking.is_wanted)
    store = linking.store
    # A broadcaster may have it open; that the device has it no more, it finds within seconds.
    if not linking.wait(store.hold, LET_GO_SECONDS):
        raise TimeoutError("the session is still in use")
    told = not store.account() or _log_out(linking)
    store.delete()
    unlinking.finish(told=told)


def _log_out(linking: Linking) -> bool:
    """Returns whether WhatsApp knows that the account is not linked here any more."""
    if reach.problem():
        return False
    linking.start()
    until = time.monotonic() + LOG_OUT_SECONDS
    while said := linking.hear(until):
        name, _fields = said
        if name in ("LoggedOut", "QR"):
            return True  # it was unlinked on the phone
        if name == "Connected":
            try:
                with linking.at_it():
                    linking.client.log_out()
            except ClientError as error:
                logger.warning("A session was not logged out: %s", masked(str(error)))
                return False
            return True
        if name in ("Time", "Ended", "TemporaryBan", "ClientOutdated", "ConnectFailure"):
            return False
    return False


def _number(account: str) -> str:
    """Returns the number of an account, which is written as number:device@server."""
    return account.partition("@")[0].partition(":")[0].partition(".")[0]


def _words(name: str, fields: Mapping[str, Any]) -> str:
    return masked(
        f"{name} {fields.get('status') or fields.get('Error') or fields.get('error', '')}"
    )
