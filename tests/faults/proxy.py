"""A TCP proxy before the database that loses or delays the answer to a commit.

What the client asked for is passed on and done; the client does not learn so, or too late. The
MySQL protocol carries statements as text, so the proxy can see which packet commits what.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

QUERY = 3  # the protocol's COM_QUERY
COMMITS = {"processing": "claim", "queued": "hand-over", "sent": "outcome", "": "next"}


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with one answer: lose it and cut the connection, or hold it for so long.

    `to` says the answer to what: committing a hand-over ("queued"), a claim ("processing"), an
    outcome ("sent"), or the next commit whatever it is ("").
    """

    to: str = ""
    hold_seconds: float = 0.0

    @property
    def kind(self) -> str:
        verb = "hold" if self.hold_seconds else "lose"
        return f"{verb} the answer to a {COMMITS[self.to]} commit"


class Proxy:
    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._server = (where.hostname or "127.0.0.1", where.port or 3306)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        user = where.netloc.rpartition("@")[0]
        self.url = where._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()
        self._lock = threading.Lock()
        self._orders: list[Order] = []
        self.carried_out: Counter[str] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def order(self, order: Order) -> bool:
        """Carried out once, at the first opportunity; False if one like it still waits for that."""
        with self._lock:
            if order in self._orders:
                return False
            self._orders.append(order)
            return True

    def take_order(self, committing: str) -> Order | None:
        with self._lock:
            for order in self._orders:
                if order.to in ("", committing):
                    self._orders.remove(order)
                    return order
            return None

    def note(self, order: Order) -> None:
        with self._lock:
            self.carried_out[order.kind] += 1

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(self._server, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            Link(self, client, server)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self._order: Order | None = None
        self._in_transaction = False
        self._writes = ""
        for pump in (self._to_server, self._to_client):
            threading.Thread(target=pump, daemon=True).start()

    def _to_server(self) -> None:
        try:
            while data := self.client.recv(65536):
                if len(data) > 5 and data[4] == QUERY and (to := self._committing(data[5:])):
                    # Before it is passed on: the answer must not slip through.
                    self._order = self.proxy.take_order(to)
                self.server.sendall(data)
        except OSError:
            pass
        self._close()

    def _to_client(self) -> None:
        try:
            while data := self.server.recv(65536):
                if order := self._order:
                    self._order = None
                    self.proxy.note(order)
                    if not order.hold_seconds:
                        break
                    time.sleep(order.hold_seconds)
                self.client.sendall(data)
        except OSError:
            pass
        self._close()

    def _committing(self, statement: bytes) -> str:
        """Returns what this statement commits, "" if it commits nothing."""
        text = statement[:65536].decode("utf-8", "replace").strip()
        if "autocommit" in text[:40].lower():
            self._in_transaction = text.rstrip().endswith("0")
            return ""
        if text.upper().startswith("UPDATE"):
            values = text.partition("WHERE")[0]
            found = [to for to in ("queued", "processing", "sent") if f"'{to}'" in values]
            self._writes = found[0] if found else self._writes or "other"
        elif text.upper() != "COMMIT":
            return ""
        if self._in_transaction and text.upper() != "COMMIT":
            return ""
        writes, self._writes = self._writes, ""
        return writes

    def _close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
