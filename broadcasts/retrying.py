from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# The numbers are the servers' own: "Server Error Message Reference" in MySQL's manual, "MariaDB
# Error Code Reference", and the client's CR_ errors.
#
# Another transaction was in the way. 1213, a deadlock, and on Galera a conflict that shows only at
# the commit (also 1180, or 1317 for the statement that gave way), have rolled everything back, as
# have 3100 and 3101, by which MySQL's group replication says the same; 1020 is MariaDB's "record
# has changed since last read". 1205, the lock wait time-out, takes back only the statement
# (innodb_rollback_on_timeout is off): what leaves `atomic` rolls back the rest.
CONFLICTS = frozenset({1205, 1213, 1020, 1180, 1317, 3100, 3101})
# The answer was lost, or nobody was there. What was asked may have been committed.
LOST = frozenset({2002, 2003, 2006, 2013, 2055, 1047, 1053, 1927, 4031})
# This server became a replica while it was connected to: the next connection finds another.
READ_ONLY = frozenset({1290, 1836})
ATTEMPTS = 6


def survive_conflicts(function: Callable[P, R]) -> Callable[P, R]:
    """Repeats a short transaction that met a conflict or a lost connection, with jitter.

    Only for compare-and-set work: if the first try was committed although its answer was lost,
    the second finds nothing left to change. Not to be used inside a transaction.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return function(*args, **kwargs)
            # The driver says InterfaceError of a connection that it knows to be closed.
            except (OperationalError, InterfaceError) as error:
                if attempt == ATTEMPTS or not _is_passing(error) or connection.in_atomic_block:
                    raise
                logger.info("%s: trying again after %s", function.__name__, error)
                if _code(error) in READ_ONLY:
                    connection.close()  # it works, so Django would keep it
                connection.close_if_unusable_or_obsolete()
                time.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("unreachable")

    return wrapper


def notice_silence(seconds: int) -> None:
    """Makes a database that says nothing for so long, to anybody in this process, an error.

    A host that died, or a network that drops what it carries, tells nobody: TCP waits for hours,
    with the sessions open that others have opened since.
    """
    if connection.vendor == "mysql":
        timeouts = {"read_timeout": seconds, "write_timeout": seconds}
        connection.settings_dict["OPTIONS"].update(timeouts)


def _code(error: Exception) -> object:
    return error.args[0] if error.args else None


def _is_passing(error: OperationalError | InterfaceError) -> bool:
    return (
        isinstance(error, InterfaceError)
        or _code(error) in CONFLICTS | LOST | READ_ONLY
        or "database is locked" in str(error)
    )
