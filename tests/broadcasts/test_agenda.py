from __future__ import annotations

import math

from broadcasts.agenda import Agenda


def due(agenda: Agenda, now: float, limit: int = 10) -> list[int]:
    return list(agenda.due(now, limit=limit))


def test_the_longest_waiting_comes_first_and_comes_once() -> None:
    agenda = Agenda()
    for pk, at in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 9.0)]:
        agenda.put(pk, at)

    assert due(agenda, 5) == [2, 3, 1]
    assert due(agenda, 5) == []
    assert 4 in agenda
    assert 1 not in agenda


def test_a_device_stands_in_it_once_at_the_time_it_was_last_put_down_for() -> None:
    agenda = Agenda()
    agenda.put(1, 1.0)
    agenda.put(1, 4.0)
    assert due(agenda, 2) == []

    agenda.put(1, 2.0)
    agenda.put(1, 2.0)

    assert due(agenda, 9) == [1]
    assert due(agenda, 9) == []


def test_who_was_dropped_does_not_come_up() -> None:
    agenda = Agenda()
    agenda.put(1, 1.0)
    agenda.put(2, 2.0)

    agenda.drop([1, 3])

    assert agenda.next_at() == 2.0
    assert due(agenda, 9) == [2]
    assert agenda.next_at() == math.inf


def test_no_more_come_up_at_once_than_one_turn_serves() -> None:
    agenda = Agenda()
    for pk in range(5):
        agenda.put(pk, float(pk))

    assert due(agenda, 9, limit=2) == [0, 1]
    assert due(agenda, 9, limit=9) == [2, 3, 4]
