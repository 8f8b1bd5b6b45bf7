"""One device's session: keeps a client connected, sends through it, and reports what it says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from django.utils.translation import gettext as _

from devices.transports.base import (
    Accepted,
    Blocked,
    Connected,
    Disconnected,
    Event,
    Memory,
    NotSent,
    Outcome,
    Outdated,
    OutgoingMessage,
    Replaced,
    Report,
    Unknown,
)
from devices.transports.neonize.answers import masked, outcome_of
from devices.transports.neonize.client import Client, ClientError
from devices.transports.neonize.events import THEN, Then, end_of, events_of
from devices.transports.neonize.reach import reach
from devices.transports.neonize.store import Store, StoreError, token_of
from devices.transports.neonize.uploads import Uploads
from devices.transports.timers import Timers

logger = logging.getLogger(__name__)

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0
# The library gives up after 75 s. A receipt that overtakes the answer is kept for a minute, so
# the id has to be known before that.
SEND_SECONDS = 50.0

timers = Timers()
# All sessions of a process share these: one begins at a time, one that said so ends at a time, and
# events are told in their order, without waiting for either.
starter = ThreadPoolExecutor(1, "neonize-start")
stopper = ThreadPoolExecutor(1, "neonize-stop")
teller = ThreadPoolExecutor(1, "neonize-tell")


class NeonizeSession:
    def __init__(self, store: Store, report: Report) -> None:
        self._store, self._report = store, report
        self._telling = threading.RLock()  # held while reporting, so that close() waits for it
        self._changing = threading.Lock()  # held while the fields below are changed together
        self._closed = threading.Event()
        self._client: Client | None = None
        self._connected = False
        self._breaks = 0  # how often the line broke, or was there again
        self._finished: Client | None = None  # being stopped: what it still says is not so
        self._over = False  # the account is to be left alone
        self._pause_seconds = SHORTEST_PAUSE_SECONDS
        self._sending: set[str] = set()
        self._late: dict[str, Accepted] = {}  # answers that came after we had given up
        self._uploads = Uploads(store.device_id)
        self._unsent: dict[str, set[str]] = {}  # by key: ids under which nothing left
        _submit(starter, self._begin)

    # Sending

    def send(self, message: OutgoingMessage) -> Outcome:
        with self._changing:
            client = self._client
            if self._closed.is_set() or not self._connected or not client:
                return NotSent()
        file = None
        if message.media:  # before it counts as being sent: until then nothing of it can leave
            file, refusal = self._uploads.of(message.media, client.upload)
            if refusal and self._connected:
                return refusal
        with self._changing:
            if self._closed.is_set() or not self._connected or client is not self._client:
                return NotSent()
            self._sending.add(message.key)
        answer: Future[Outcome] = Future()
        # Of its own: nothing can make the library give up earlier.
        work = partial(self._send, client, message, file, answer)
        threading.Thread(target=work, daemon=True, name="neonize-send").start()
        try:
            return answer.result(SEND_SECONDS)
        except TimeoutError:
            answer.add_done_callback(partial(self._note_late, message.key))
            # A second attempt of the library's own has no end, and nothing is sent beside it.
            _submit(teller, partial(self._give_up, client))
            reason = _("WhatsApp did not answer in time.")
            ids = self._ids(message.key) or [""]
            return Unknown("timed_out", reason, ids[-1])

    def _send(
        self, client: Client, message: OutgoingMessage, file: Any, answer: Future[Outcome]
    ) -> None:
        key, breaks = message.key, self._breaks
        try:
            sent = client.send(message, file, token_of(key))
            outcome: Outcome = Accepted(sent) if sent else NotSent()
        except ClientError as error:
            broke = self._breaks != breaks
            ids = partial(self._ids, key)
            outcome = outcome_of(str(error), ids, broke=broke)
            logger.info("Device %s: a send failed: %s", self._store.device_id, _kind(outcome))
            if not isinstance(outcome, Unknown) and (left := self._ids(key)):
                self._unsent.setdefault(key, set()).update(left)
        except Exception as error:  # noqa: BLE001 (somebody waits for this answer)
            answer.set_exception(error)
            return
        finally:
            with self._changing:
                self._sending.discard(key)
            self._release_if_over()
        answer.set_result(outcome)

    def _give_up(self, client: Client) -> None:
        if client is self._client:
            self._tell(Disconnected(_("WhatsApp did not answer. The connection is made anew.")))
            self._finish(client)

    def _finish(self, client: Client) -> None:
        self._finished = client
        _submit(stopper, client.stop)

    def _note_late(self, key: str, answer: Future[Outcome]) -> None:
        if not answer.exception() and isinstance(outcome := answer.result(), Accepted):
            self._late[key] = outcome

    def check(self, phones: Sequence[str]) -> dict[str, str]:
        client = self._client
        if not client or not self._connected:
            return {}
        try:
            return client.check(phones)
        except ClientError as error:
            raise ClientError(masked(str(error))) from None

    def recall(self, key: str) -> Memory:
        if late := self._late.get(key):
            return late
        # Looked at first: what another session still wrote before is seen below. While one has the
        # file, in whichever process, it may connect again and send what it was about to.
        with self._changing:
            mine = self._connected and not self._closed.is_set() and key not in self._sending
            alone = mine and self._store.hold()
        if ids := self._ids(key):
            return Unknown("interrupted", "", ids[-1])
        return NotSent() if alone and ids is not None else None

    def _ids(self, key: str) -> list[str] | None:
        """Returns the ids under which the message may have left, the newest last; None if the file
        cannot be read."""
        try:
            ids = self._store.ids_of(key)
        except StoreError as error:
            logger.error("Device %s: its session file: %s", self._store.device_id, error)
            return None
        return [each for each in ids if each not in self._unsent.get(key, ())]

    # Connecting

    def _begin(self) -> None:
        """Runs in the starter's thread, which may wait."""
        if self._closed.is_set() or self._over:
            return
        try:
            self._connect()
        except Exception as error:
            logger.exception("Device %s: no connection could be begun", self._store.device_id)
            _submit(teller, partial(self._tell, Disconnected(str(error))))
            self._begin_later()

    def _connect(self) -> None:
        if problem := reach.problem():
            reason = _("WhatsApp cannot be reached from this host: %s.") % problem
            _submit(teller, partial(self._tell, Disconnected(reason)))
            self._begin_later()
            return
        if not self._store.account():
            # Neonize would offer the account to be linked, and could not be stopped any more.
            self._over = True
            for event in events_of("QR", {}, self._phone_of):
                _submit(teller, partial(self._tell, event))
            return
        if self._store.hold():
            self._store.tidy()
        label = str(self._store.device_id)
        client = Client(self._store.name, label, lambda *said: self._said(client, *said))
        with self._changing:
            if self._closed.is_set():
                self._store.release()
                return
            self._client = client
        try:
            client.start(lambda error: self._ended(client, error))
        except Exception:
            self._client = None  # it will not end: it has not begun
            raise
        if self._closed.is_set():
            client.stop()  # it may not have been there yet to be stopped

    def _begin_later(self) -> None:
        seconds = self._pause_seconds
        self._pause_seconds = min(2 * seconds, LONGEST_PAUSE_SECONDS)
        timers.after(seconds, lambda: _submit(starter, self._begin))

    def _said(self, client: Client, name: str, fields: dict[str, Any]) -> None:
        """Called by the library's threads, which wait."""
        if name in ("Connected", "Disconnected"):  # at once: a send may have its answer next
            self._breaks += 1
        _submit(teller, partial(self._hear, client, name, fields))

    def _hear(self, client: Client, name: str, fields: dict[str, Any]) -> None:
        is_current = client is self._client and client is not self._finished
        if not is_current and name not in ("Receipt", "Message"):
            return
        for event in events_of(name, fields, self._phone_of):
            self._tell(event)
        then = THEN.get(name, Then.GO_ON)
        self._over |= then is Then.END
        if then is not Then.GO_ON:
            self._finish(client)

    def _phone_of(self, lid: str) -> str:
        try:
            return self._store.phone_of(lid)
        except StoreError as error:
            logger.error("Device %s: its session file: %s", self._store.device_id, error)
            return ""

    def _ended(self, client: Client, error: str) -> None:
        with self._changing:
            self._client, self._connected = None, False
        if not self._closed.is_set() and not self._over:
            _submit(teller, partial(self._tell_end, error))
        self._release_if_over()

    def _tell_end(self, error: str) -> None:
        events, then = end_of(error)
        if error:
            logger.warning("Device %s: its client ended: %s", self._store.device_id, masked(error))
        for event in events:
            self._tell(event)
        if then is Then.END:
            self._over = True
        else:
            self._begin_later()

    def close(self) -> None:
        with self._telling:
            self._closed.set()
        with self._changing:
            client, self._connected = self._client, False
        if client:
            client.stop()
        self._release_if_over()

    def _release_if_over(self) -> None:
        """Lets another session have the file for itself, once nothing of this one can leave."""
        with self._changing:
            if (self._closed.is_set() or self._over) and not self._client and not self._sending:
                self._store.release()

    def _tell(self, event: Event) -> None:
        with self._telling:
            if self._closed.is_set():
                return
            if isinstance(event, Connected):
                self._connected = True
                self._pause_seconds = SHORTEST_PAUSE_SECONDS
            elif isinstance(event, Disconnected | Blocked | Replaced | Outdated):
                self._connected = False
            self._report(event)


def _kind(outcome: Outcome) -> str:
    """The outcome without a word that might be somebody's number."""
    return f"{type(outcome).__name__} {getattr(outcome, 'code', '')}".strip()


def _submit(threads: ThreadPoolExecutor, call: Callable[[], None]) -> None:
    def survive() -> None:
        try:
            call()
        except Exception:  # one account's trouble must not end the others' sessions
            logger.exception("the transport failed")

    threads.submit(survive)
