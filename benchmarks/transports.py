"""Transports that a benchmark puts in the simulator's place, by `settings.py` beside this."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from devices.transports.base import Accepted, Connected, Outcome, OutgoingMessage
from devices.transports.simulator import (
    CONNECT_SECONDS,
    SimulatorSession,
    SimulatorTransport,
    World,
    timers,
)

if TYPE_CHECKING:
    from devices.models import Device
    from devices.transports.base import Report


def _plain(value: Any) -> Any:
    """A choice as its value: whoever replays it knows no models."""
    return value.value if isinstance(value, Enum) else value


class Instant(SimulatorTransport):
    """A world without distance, trouble or answers. What arrives is recorded as ever."""

    def __init__(self) -> None:
        super().__init__(
            World(
                latency_seconds=(0, 0), not_on_whatsapp=0, media_host_down=0,
                delivered=0, read=0, replies=0, opts_out=0,
            )
        )  # fmt: skip


class NothingSession:
    """Says that it has sent, and keeps no record: what the baselines' tasks do."""

    def send(self, message: OutgoingMessage) -> Outcome:
        return Accepted(message.key)

    def recall(self, key: str) -> None:
        return None

    def close(self) -> None:
        pass


class Nothing:
    def open(self, device: Device, report: Report) -> NothingSession:
        timers.after(CONNECT_SECONDS, partial(report, Connected()))
        return NothingSession()


class Recording(Instant):
    """Also writes down every statement of the broadcaster, for `baselines/ceiling.py` to replay.

    A broadcaster makes its transport in the thread that talks to the database, so the statements
    of the transport itself, which come from other threads, are not among them.
    """

    def __init__(self) -> None:
        super().__init__()
        folder = Path(os.environ["BENCHMARK_RECORDING"])
        self._file = (folder / f"{os.getpid()}.pickle").open("wb")
        self._in_transaction = False
        connection.execute_wrappers.append(self._record)

    def open(self, device: Device, report: Report) -> SimulatorSession:
        self._write("owner", (device.pk, device.worker_id, device.lease_epoch))
        return super().open(device, report)

    def _record(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if connection.in_atomic_block and not self._in_transaction:
            self._in_transaction = True
            self._write("BEGIN", None)
            transaction.on_commit(self._committed)
        result = execute(sql, params, many, context)
        self._write(sql, None if params is None else tuple(map(_plain, params)))
        return result

    def _committed(self) -> None:
        self._in_transaction = False
        self._write("COMMIT", None)

    def _write(self, sql: str, params: tuple[Any, ...] | None) -> None:
        pickle.dump((sql, params), self._file)
        self._file.flush()
