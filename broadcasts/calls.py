from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from broadcasts import claiming
from devices.models import Device


class Call(NamedTuple):
    """A device that a broadcaster has to act on."""

    pk: int
    transport: str
    session: str
    usable: bool
    free: bool
    over: bool  # it is held here, and its block may be over


class Calls:
    """What calls for this broadcaster; see `DeviceQuerySet.calling`.

    Every broadcaster listens every few seconds, however little there is to do. So the statement is
    worked out once: that takes Django ten times as long as the database to answer it.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id

    def heard(self) -> list[Call]:
        rows = claiming.ask(*self._statement)
        return [Call(*columns, *map(bool, (usable, free, over)))
                for *columns, usable, free, over in rows]  # fmt: skip

    @cached_property
    def _statement(self) -> tuple[str, tuple[Any, ...]]:
        calling = Device.objects.calling(self._worker_id)
        return calling.order_by().values_list(*Call._fields).query.sql_with_params()
