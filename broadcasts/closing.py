"""Ends sessions of one broadcaster, many at a time: each may take a second to disconnect, and
nothing is sent meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from threading import Thread

from devices.transports.base import Session

logger = logging.getLogger(__name__)

AT_ONCE = 50
# Who has not ended by then is left to itself: it can send nothing any more, and the leases of all
# others must not run out for it.
PATIENCE_SECONDS = 10.0


def close(sessions: Mapping[int, Session]) -> None:
    """Closes these {device id: session}; returns when all are, whatever they raise, or their time
    is over."""
    waiting = list(sessions.items())
    while waiting:
        now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        threads = {pk: _start(pk, session) for pk, session in now}
        deadline = time.monotonic() + PATIENCE_SECONDS
        for pk, thread in threads.items():
            if thread:
                thread.join(max(deadline - time.monotonic(), 0))
                if thread.is_alive():
                    logger.error("Device %s: its session does not end", pk)


def _start(pk: int, session: Session) -> Thread | None:
    # A daemon, so that a session that hangs for ever does not keep the process.
    thread = Thread(target=_close, args=(pk, session), name="close", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system gives no more: then one after the other
        _close(pk, session)
        return None
    return thread


def _close(pk: int, session: Session) -> None:
    try:
        session.close()
    except Exception:  # one account's trouble must not end the others' sessions
        logger.exception("Device %s: the session could not be closed", pk)
