"""What a benchmark says must not look better than what it measured."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from benchmarks import drain, idle
from benchmarks.__main__ import names


def test_the_share_of_a_server_that_cannot_be_measured_is_not_known() -> None:
    known, unknown = idle.shares(0.01, 0.002), idle.shares(0.01, None)

    assert known["together %"] == pytest.approx(1.2)
    assert (unknown["server %"], unknown["together %"]) == (None, None)


@pytest.mark.django_db
def test_a_drain_shows_what_it_is_held_to(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"what": name, "messages": 10, "seconds": 1.0, "rate": 10.0}
        for name in (drain.ENGINE, drain.SENDING_NOTHING, *drain.GOALS)
    ]

    drain.show(rows, {"devices": 1, "messages": 10})

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    if connection.vendor == "sqlite":
        assert said["goal"] == ">= 3,000 messages/s"
    else:
        assert [row["goal"] for row in said["rows"]] == [None, None, *drain.GOALS.values()]


def test_every_benchmark_says_what_it_measures() -> None:
    assert {"drain", "edges", "growth", "idle", "pace"} <= names().keys()
    assert all(names().values())
