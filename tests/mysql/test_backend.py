"""What Siaran builds on in a MySQL or MariaDB server, and how it asks for it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.db import DataError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql import features as stock

from broadcasts.models import BroadcastMessage
from config.mysql.base import DatabaseFeatures
from leads.models import Lead, Niche
from tests.factories import BroadcastMessageFactory, LeadFactory


def rows_of(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.mark.django_db
def test_session_is_utc_strict_and_read_committed() -> None:
    # The variable has another name before MySQL 5.7.20 and MariaDB 11.1.
    variables = dict(
        rows_of("SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')")
    )
    assert set(variables.values()) == {"READ-COMMITTED"}
    [(zone, mode)] = rows_of("SELECT @@session.time_zone, @@session.sql_mode")
    assert zone == "+00:00"
    assert "STRICT_TRANS_TABLES" in mode


@pytest.mark.django_db
def test_a_number_that_is_too_long_is_refused_and_not_cut() -> None:
    with pytest.raises(DataError), transaction.atomic():
        LeadFactory(phone="6" * 16)
    assert not Lead.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["Cik Ros 🌸", "Nguyễn Văn An", "李伟", "அனிதா", "O\"Neil \\ 'Boss'"]
)
def test_names_come_back_as_they_went_in(name: str) -> None:
    LeadFactory(name=name)
    assert Lead.objects.get().name == name


@pytest.mark.django_db
def test_tags_that_the_collation_holds_for_one_are_one() -> None:
    found = Niche.ensure(["CAFE", "CAFÉ"])
    assert len({niche.pk for niche in found.values()}) == Niche.objects.count()


@pytest.mark.django_db
def test_a_compare_and_set_says_how_many_rows_it_found() -> None:
    message = BroadcastMessageFactory(status="processing", processing_worker_id="a/1")
    mine = BroadcastMessage.objects.filter(pk=message.pk, processing_worker_id="a/1")
    # Found, not changed: a repeat after a lost answer must not look like a lost claim.
    assert mine.update(status="processing") == 1
    assert mine.filter(status="pending").update(status="sent") == 0


@pytest.mark.django_db
def test_the_claim_has_its_index_and_the_keys_name_no_device() -> None:
    indexes: dict[str, list[str]] = {}
    for row in rows_of("SHOW INDEX FROM broadcast_messages"):
        indexes.setdefault(row[2], []).append(row[4])
    assert indexes["idx_broadcast_optimize"] == ["status", "device_id", "priority", "scheduled_at"]
    assert indexes["unique_campaign_message"] == ["campaign_id", "recipient_phone"]
    assert indexes["unique_sequence_message"] == ["sequence_stepid", "recipient_phone"]


class Server:
    def __init__(self, version: tuple[int, ...], is_mariadb: bool) -> None:
        self.mysql_version, self.mysql_is_mariadb = version, is_mariadb


@pytest.mark.parametrize(
    ("server", "is_supported", "returns_keys"),
    [
        (Server((5, 6, 24), False), True, False),
        (Server((5, 7, 8), False), True, False),
        (Server((9, 7, 4), False), True, False),
        (Server((10, 1, 48), True), False, False),
        (Server((10, 2, 6), True), True, False),
        (Server((10, 5, 0), True), True, True),
        (Server((11, 8, 0), True), True, True),
    ],
    ids=lambda value: f"{value.mysql_version}" if isinstance(value, Server) else "",
)
def test_servers_older_than_djangos_minimum_are_taken(
    server: Server, is_supported: bool, returns_keys: bool
) -> None:
    features = DatabaseFeatures(cast(BaseDatabaseWrapper, server))
    assert (server.mysql_version >= features.minimum_database_version) is is_supported
    assert features.can_return_columns_from_insert is returns_keys
    assert issubclass(DatabaseFeatures, stock.DatabaseFeatures)
