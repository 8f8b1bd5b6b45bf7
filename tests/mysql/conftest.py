from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

HERE = Path(__file__).parent

if connection.vendor != "mysql":
    # On SQLite not even read: the client library may not be installed.
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.mysql)
