from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import models
from django.db.models.functions import Now

from broadcasts.retrying import survive_conflicts

if TYPE_CHECKING:
    from broadcasts.models import Pass

P = ParamSpec("P")
R = TypeVar("R")


class PassQuerySet(models.QuerySet["Pass"]):
    @survive_conflicts
    def note(self, task: str) -> None:
        """Writes down that this task of the scheduler has just ended well."""
        self.update_or_create(task=task, defaults={"ended_at": Now()})


def noted(task: Callable[P, R]) -> Callable[P, R]:
    """Notes each pass of a scheduler's task that ends well, under the task's dotted path.

    django-q2's own rows do not tell whether it runs: a schedule's next run moves on also where
    nobody carries out what was due, and a task's end is by the clock of its host.
    """

    @functools.wraps(task)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        from broadcasts.models import Pass  # it is made of the class above

        done = task(*args, **kwargs)
        Pass.objects.note(f"{task.__module__}.{task.__qualname__}")
        return done

    return wrapper
