"""Whoever updates Siaran can go back: each migration undoes itself, on this database."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

APPS = ("sequences", "campaigns", "broadcasts", "leads", "devices")


@pytest.mark.django_db(transaction=True)
def test_every_migration_goes_back_and_forth() -> None:
    before = set(MigrationLoader(connection).applied_migrations)
    try:
        for app in APPS:
            call_command("migrate", app, "0001", verbosity=0)
        left = {key for key in MigrationLoader(connection).applied_migrations if key[0] in APPS}
        assert left == {(app, "0001_initial") for app in APPS}
    finally:
        call_command("migrate", verbosity=0)
    assert set(MigrationLoader(connection).applied_migrations) == before
