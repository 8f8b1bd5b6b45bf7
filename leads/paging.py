"""Pages of a long list, without counting it: `?before=` and `?after=` name the row at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from django.http import QueryDict

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Window(Generic[Row]):
    """Some rows, newest first. `older` and `newer` are the keys to go on from, None at an end."""

    rows: list[Row]
    older: int | None
    newer: int | None


def window(queryset: QuerySet[Row], params: QueryDict, size: int = 50) -> Window[Row]:
    """Returns the rows beside the key that the address names, or the newest ones.

    One row more than shown is read instead of counting a million, and a key is looked up in the
    index where an offset would be walked.
    """
    after, before = key_in(params, "after"), key_in(params, "before")
    if after is not None:
        rows = list(queryset.filter(pk__gt=after).order_by("pk")[: size + 1])
        more_newer = len(rows) > size
        rows = rows[:size][::-1]
        more_older = True
    else:
        older = queryset if before is None else queryset.filter(pk__lt=before)
        rows = list(older.order_by("-pk")[: size + 1])
        more_older = len(rows) > size
        rows = rows[:size]
        more_newer = before is not None
    if not rows:
        return Window([], None, None)
    return Window(
        rows,
        older=rows[-1].pk if more_older else None,
        newer=rows[0].pk if more_newer else None,
    )


def key_in(params: Mapping[str, Any], name: str) -> int | None:
    """Returns the key that an address names, or None: longer ones none has, and SQLite refuses to
    compare with them."""
    text = str(params.get(name, ""))
    return int(text) if text.isdecimal() and len(text) < 19 else None
