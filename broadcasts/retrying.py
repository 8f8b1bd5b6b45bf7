from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# Another transaction was in the way, and this one was rolled back whole: MySQL's lock wait
# time-out and deadlock, MariaDB's "record has changed since last read" (innodb_snapshot_isolation).
CONFLICTS = frozenset({1205, 1213, 1020})
# The answer was lost. What asked may have been committed.
LOST = frozenset({2006, 2013, 2055, 1047, 1053})
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
            except OperationalError as error:
                if attempt == ATTEMPTS or not _is_passing(error) or connection.in_atomic_block:
                    raise
                logger.info("%s: trying again after %s", function.__name__, error)
                connection.close_if_unusable_or_obsolete()
                time.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("unreachable")

    return wrapper


def _is_passing(error: OperationalError) -> bool:
    code = error.args[0] if error.args else None
    return code in CONFLICTS | LOST or "database is locked" in str(error)
