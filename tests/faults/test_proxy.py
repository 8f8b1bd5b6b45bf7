"""The proxy must see what is committed, in the words that Django and the claim use today."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from broadcasts.models import BroadcastMessage
from tests.factories import BroadcastMessageFactory
from tests.faults.proxy import COMMITS, Order, Proxy

pytestmark = [pytest.mark.mysql, pytest.mark.django_db(transaction=True)]

KEPT = ("processing", "queued", "sent")


@pytest.fixture
def proxy() -> Proxy:
    where = connection.settings_dict
    return Proxy(f"mysql://root@{where['HOST'] or '127.0.0.1'}:{where['PORT'] or 3306}/x")


@pytest.fixture
def through(proxy: Proxy) -> Iterator[BaseDatabaseWrapper]:
    """This thread's connection, by way of the proxy."""
    connection.close()
    where = connection.settings_dict
    direct = where["HOST"], where["PORT"]
    where["HOST"], _, where["PORT"] = proxy.url.rpartition("@")[2].partition("/")[0].partition(":")
    yield connection
    connection.close()
    where["HOST"], where["PORT"] = direct


@pytest.mark.parametrize("status", KEPT)
def test_an_answer_is_lost_after_the_commit_held(
    proxy: Proxy, through: BaseDatabaseWrapper, status: str
) -> None:
    message = BroadcastMessageFactory(status="pending")
    rows = BroadcastMessage.objects.filter(pk=message.pk)
    proxy.order(order := Order(status))

    with pytest.raises(OperationalError):
        rows.update(status=status)

    through.close()
    assert rows.get().status == status
    assert proxy.carried_out == {order.kind: 1}


def test_an_answer_is_held_and_then_given(proxy: Proxy, through: BaseDatabaseWrapper) -> None:
    message = BroadcastMessageFactory(status="pending")
    rows = BroadcastMessage.objects.filter(pk=message.pk)
    proxy.order(order := Order("queued", hold_seconds=0.1))

    with transaction.atomic():
        rows.update(status="queued")

    assert rows.get().status == "queued"
    assert proxy.carried_out == {order.kind: 1}


def test_an_order_waits_for_its_own_kind_of_commit(
    proxy: Proxy, through: BaseDatabaseWrapper
) -> None:
    message = BroadcastMessageFactory(status="pending")
    proxy.order(Order("sent"))

    BroadcastMessage.objects.filter(pk=message.pk).update(status="queued")

    assert not proxy.carried_out
    assert not proxy.order(Order("sent"))  # the first still waits
    assert {Order(to).kind for to in COMMITS} == {
        "lose the answer to a claim commit",
        "lose the answer to a hand-over commit",
        "lose the answer to a outcome commit",
        "lose the answer to a next commit",
    }
