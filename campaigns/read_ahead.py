"""Reading what comes next while the database writes what was read before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import OperationalError, connection, connections

logger = logging.getLogger(__name__)

Page = TypeVar("Page")


def read_ahead(
    pages: Iterator[Page], *, is_up_to_date: Callable[[], bool]
) -> Generator[Page, None, None]:
    """Yields the same, each while the next one is read: in a thread, on a connection, of its own.

    That may lead to another node of a cluster, which has not heard of the latest yet: where
    `is_up_to_date`, asked there, says so, the pages are read in line.

    Close it, so that the thread ends. Inside of a transaction it reads in line: another connection
    would not see what that has written. On SQLite as well: who waits there to write only looks now
    and then whether it can, and gets in while a page is read.
    """
    if connection.in_atomic_block or connection.vendor == "sqlite":
        yield from pages
        return
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        yield from _read(thread, pages) if _may_read(thread, is_up_to_date) else pages


def _may_read(thread: ThreadPoolExecutor, is_up_to_date: Callable[[], bool]) -> bool:
    in_line = "A campaign's pages are read one after the other: %s"
    try:
        look = thread.submit(_look, is_up_to_date)
    except RuntimeError as error:  # the system gives no more threads
        logger.warning(in_line, error)
        return False
    try:
        may_read = look.result()
    except OperationalError as error:  # the server gives no more connections
        logger.warning(in_line, error)
        return False
    if not may_read:
        logger.info(in_line, "the node that would read has not heard of its audience yet")
    return may_read


def _look(is_up_to_date: Callable[[], bool]) -> bool:
    """Runs in the thread, whose connection stays for the pages."""
    may_read = False
    try:
        may_read = is_up_to_date()
    finally:
        if not may_read:
            connections.close_all()
    return may_read


def _read(thread: ThreadPoolExecutor, pages: Iterator[Page]) -> Generator[Page, None, None]:
    try:
        reading = thread.submit(next, pages, None)
        while (page := reading.result()) is not None:
            reading = thread.submit(next, pages, None)
            yield page
    finally:
        thread.submit(connections.close_all).result()  # the thread's own
