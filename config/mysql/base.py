"""Django's MySQL backend, for servers older than Django's own minimum.

Django 5.2 refuses MySQL before 8.0.11 and MariaDB before 10.5 by a version check alone
(django/db/backends/mysql/features.py). Siaran lowers the minimum to what it promises, and takes
back what Django infers from it.
"""

from __future__ import annotations

from django.db.backends.mysql import base, features, schema
from django.utils.functional import cached_property


class DatabaseFeatures(features.DatabaseFeatures):
    @cached_property
    def minimum_database_version(self) -> tuple[int, ...]:  # type: ignore[override]
        return (10, 2) if self.connection.mysql_is_mariadb else (5, 6)

    @property
    def can_return_columns_from_insert(self) -> bool:  # type: ignore[override]
        """INSERT ... RETURNING came with MariaDB 10.5, Django's minimum but not ours."""
        return self.connection.mysql_is_mariadb and self.connection.mysql_version >= (10, 5)

    can_return_rows_from_bulk_insert = can_return_columns_from_insert


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    # The default since 5.7. On 5.6 it is what allows an index of more than 767 bytes, which
    # django-q2 has (together with innodb_large_prefix and innodb_file_format=Barracuda).
    sql_create_table = "CREATE TABLE %(table)s (%(definition)s) ROW_FORMAT=DYNAMIC"


class DatabaseWrapper(base.DatabaseWrapper):
    features_class = DatabaseFeatures
    SchemaEditorClass = DatabaseSchemaEditor
