"""Making a page ready while the database writes the one before it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from django.db import OperationalError, connection, connections

logger = logging.getLogger(__name__)

Page = TypeVar("Page")

IN_LINE = "A campaign's pages are made ready and written one after the other: %s"


def pipeline(
    prepare: Callable[[], Page | None],
    write: Callable[[Page], bool],
    *,
    leads_here: Callable[[], bool],
) -> bool:
    """Prepares and writes page after page. Returns False as soon as `write` does, and True when
    there is no page more.

    By two threads that take turns, each with a connection of its own: while one writes its page,
    the other prepares the next. So a page is written where it was prepared, and may be staged
    there. They are prepared in their order, one at a time, and so are they written.

    All in line, on this connection, where threads or connections cannot be had, or lead to another
    node than this one, which may not have heard of the latest yet (`leads_here`, asked on each).
    Inside of a transaction as well: another connection would not see what that has written. And on
    SQLite: who waits there to write only looks now and then whether it can, and gets in while a
    page is read.
    """
    if not connection.in_atomic_block and connection.vendor != "sqlite":
        with ExitStack() as stack:
            if threads := _open(stack, leads_here):
                # This connection says nothing meanwhile, and may be gone by then: whoever uses it
                # next looks.
                stack.callback(connection.close_if_unusable_or_obsolete)
                return _in_turns(threads, prepare, write)
    return _in_line(prepare, write)


def _in_line(prepare: Callable[[], Page | None], write: Callable[[Page], bool]) -> bool:
    while (page := prepare()) is not None:
        if not write(page):
            return False
    return True


def _in_turns(
    threads: list[ThreadPoolExecutor],
    prepare: Callable[[], Page | None],
    write: Callable[[Page], bool],
) -> bool:
    this, other = threads
    ready = this.submit(prepare)
    while (page := ready.result()) is not None:
        ready = other.submit(prepare)
        if not this.submit(write, page).result():
            return False
        this, other = other, this
    return True


def _open(stack: ExitStack, leads_here: Callable[[], bool]) -> list[ThreadPoolExecutor]:
    """Returns two threads, each with a connection that leads here, or none. Both end with the
    stack."""
    threads = []
    for _ in range(2):
        thread = stack.enter_context(ThreadPoolExecutor(1, "pipeline"))
        try:
            look = thread.submit(leads_here)
        except RuntimeError as error:  # the system gives no more threads
            logger.warning(IN_LINE, error)
            return []
        stack.callback(_close, thread)
        try:
            if not look.result():
                logger.info(IN_LINE, "another connection leads to another node")
                return []
        except OperationalError as error:  # the server gives no more connections
            logger.warning(IN_LINE, error)
            return []
        threads.append(thread)
    return threads


def _close(thread: ThreadPoolExecutor) -> None:
    thread.submit(connections.close_all).result()  # the thread's own
