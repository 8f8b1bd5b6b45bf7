"""Ends sessions of one broadcaster, many at a time: each may take a second to disconnect, and
nothing is sent meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from devices.transports.base import Session

logger = logging.getLogger(__name__)

AT_ONCE = 50


def close(sessions: Mapping[int, Session]) -> None:
    """Closes these {device id: session}; returns when all are, whatever they raise."""
    ends = [partial(_close, pk, session) for pk, session in sessions.items()]
    if len(ends) < 2:  # the most frequent by far, and not worth a thread
        for end in ends:
            end()
        return
    with ThreadPoolExecutor(AT_ONCE, "close") as threads:
        for end in ends:
            threads.submit(end)


def _close(pk: int, session: Session) -> None:
    try:
        session.close()
    except Exception:  # one account's trouble must not end the others' sessions
        logger.exception("Device %s: the session could not be closed", pk)
