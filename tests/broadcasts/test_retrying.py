"""Real conflicts on a real server, and the numbers of those that cannot be had on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from broadcasts.models import BroadcastMessage
from broadcasts.retrying import ATTEMPTS, survive_conflicts
from tests.factories import BroadcastMessageFactory


def failing(*errors: Exception) -> Callable[[], str]:
    """Returns a transaction that meets these errors before it goes through."""
    left = list(errors)

    @survive_conflicts
    def transaction() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return transaction


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error",
    [
        *map(OperationalError, [1213, 1205, 1020, 1180, 1317, 3100, 3101]),
        *map(OperationalError, [2002, 2006, 2013, 2055, 1047, 1053, 1927, 4031, 1290, 1836]),
        OperationalError("database is locked"),
        InterfaceError(0, ""),
    ],
    ids=repr,
)
def test_what_passes_is_tried_again(error: Exception) -> None:
    assert failing(error, error)() == "done"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error", [OperationalError(1054, "no such column"), ValueError()], ids=repr
)
def test_what_does_not_pass_is_raised_at_once(error: Exception) -> None:
    once = failing(error)

    with pytest.raises(type(error)):
        once()
    assert once() == "done"


@pytest.mark.django_db(transaction=True)
def test_nobody_tries_for_ever() -> None:
    with pytest.raises(OperationalError):
        failing(*[OperationalError(1213)] * ATTEMPTS)()


@pytest.mark.django_db(transaction=True)
def test_a_part_of_a_transaction_is_not_repeated_alone() -> None:
    """What went before it in the transaction is rolled back: it would be repeated without it."""
    with pytest.raises(OperationalError), transaction.atomic():
        failing(OperationalError(1213))()


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_of_two_that_lock_each_other_out_both_get_done() -> None:
    """Each takes a row, waits for the other to have one too, and wants the other's."""
    one, two = BroadcastMessageFactory(), BroadcastMessageFactory()
    met, tries, both = threading.Barrier(2, timeout=20), [], [one.pk, two.pk]

    @survive_conflicts
    def write(pks: list[int]) -> None:
        tries.append(pks)
        with transaction.atomic():
            for pk in pks:
                BroadcastMessage.objects.filter(pk=pk).update(recipient_name=f"from {pks[0]}")
                if pk == pks[0] and len(tries) <= 2:
                    met.wait()

    def run(pks: list[int]) -> None:
        try:
            write(pks)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(pks,)) for pks in (both, both[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(tries) == 3, "there was no deadlock"
    names = set(BroadcastMessage.objects.values_list("recipient_name", flat=True))
    assert len(names) == 1, "one of the two was written by half"


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_a_lock_that_takes_too_long_takes_the_whole_transaction_back() -> None:
    """The server itself takes back only the statement that waited."""
    mine, locked = BroadcastMessageFactory(), BroadcastMessageFactory()
    other = connection.copy()
    other.set_autocommit(False)
    tries = []

    @survive_conflicts
    def write() -> None:
        tries.append(1)
        if len(tries) == 2:
            found = BroadcastMessage.objects.get(pk=mine.pk)
            assert found.recipient_name == mine.recipient_name, "a half was committed"
            other.rollback()
        with transaction.atomic():
            for message in (mine, locked):
                BroadcastMessage.objects.filter(pk=message.pk).update(recipient_name="written")

    try:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
        with other.cursor() as cursor:
            cursor.execute(
                "UPDATE broadcast_messages SET recipient_name = 'other' WHERE id = %s", [locked.pk]
            )
        write()
    finally:
        other.close()
        connection.close()  # with its short time-out

    assert len(tries) == 2, "nothing was in the way"
    assert set(BroadcastMessage.objects.values_list("recipient_name", flat=True)) == {"written"}


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_cut_is_opened_again() -> None:
    message = BroadcastMessageFactory()
    killer = connection.copy()
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        [(mine,)] = cursor.fetchall()
    with killer.cursor() as cursor:
        cursor.execute("KILL %s", [mine])
    killer.close()

    assert BroadcastMessage.objects.filter(pk=message.pk).cancel() == 1
