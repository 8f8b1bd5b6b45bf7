"""Django's MySQL backend, for servers older than Django's own minimum.

Django 5.2 refuses MySQL before 8.0.11 and MariaDB before 10.5 by a version check alone
(django/db/backends/mysql/features.py). All migrations and the whole test suite run on 5.6.24,
9.x and MariaDB 10.11, so Siaran lowers the minimum to what it promises, and takes back the one
feature that Django infers from it.
"""

from __future__ import annotations

from django.db.backends.mysql import base, features
from django.utils.functional import cached_property


class DatabaseFeatures(features.DatabaseFeatures):
    @cached_property
    def minimum_database_version(self) -> tuple[int, ...]:
        return (10, 2) if self.connection.mysql_is_mariadb else (5, 6)

    @property
    def can_return_columns_from_insert(self) -> bool:
        """INSERT ... RETURNING came with MariaDB 10.5, Django's minimum but not ours."""
        return self.connection.mysql_is_mariadb and self.connection.mysql_version >= (10, 5)

    can_return_rows_from_bulk_insert = can_return_columns_from_insert


class DatabaseWrapper(base.DatabaseWrapper):
    features_class = DatabaseFeatures
