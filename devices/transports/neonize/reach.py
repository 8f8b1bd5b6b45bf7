"""Whether WhatsApp can be reached, found out without neonize: each of its attempts leaks a file."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlsplit
from urllib.request import getproxies

WHATSAPP = ("web.whatsapp.com", 443)
TIMEOUT_SECONDS = 5.0
FRESH_SECONDS = 5.0  # thousands ask at once


class Reach:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at, self._problem = -FRESH_SECONDS, ""

    def problem(self) -> str:
        """Returns why it cannot be reached, '' if it can."""
        with self._lock:
            if time.monotonic() >= self._asked_at + FRESH_SECONDS:
                self._problem = self._ask()
                self._asked_at = time.monotonic()
            return self._problem

    def _ask(self) -> str:
        try:
            socket.create_connection(_first_hop(), TIMEOUT_SECONDS).close()
        except OSError as error:
            return error.strerror or str(error)
        return ""


def _first_hop() -> tuple[str, int]:
    proxy = urlsplit(getproxies().get("https", ""))  # as Go does
    if proxy.hostname:
        return proxy.hostname, proxy.port or {"https": 443, "socks5": 1080}.get(proxy.scheme, 80)
    return WHATSAPP


reach = Reach()
