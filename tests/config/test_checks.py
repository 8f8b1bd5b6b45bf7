from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper

from config import checks
from tests.factories import DeviceFactory

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = {
    "binlog_format": "ROW",
    "character_set_database": "utf8mb4",
    "innodb_flush_log_at_trx_commit": "1",
    "log_bin": "ON",
    "sql_mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
    "transaction_isolation": "READ-COMMITTED",
}
SETTINGS: dict[str, object] = {
    "TIME_ZONE": "Asia/Kuala_Lumpur",
    "PHONE_REGION": "MY",
    "LEASE_SECONDS": 30,
    "HEARTBEAT_SECONDS": 10,
    "SIMULATOR_SPEED": 1.0,
}


def ids(messages: Any) -> list[str | None]:
    found: list[CheckMessage] = list(messages)
    assert all(message.hint for message in found)
    return [message.id for message in found]


@pytest.mark.django_db
def test_what_linked_devices_lack_is_told_only_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "missing", lambda: ["neonize is not installed."])
    assert checks.check_linked_devices(databases=["default"]) == []

    DeviceFactory(transport="neonize")

    assert ids(checks.check_linked_devices(databases=["default"])) == ["siaran.W002"]
    assert checks.check_linked_devices(databases=None) == []
    monkeypatch.setattr(checks, "missing", list)
    assert checks.check_linked_devices(databases=["default"]) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TIME_ZONE", "Kuala Lumpur", "siaran.E001"),
        ("PHONE_REGION", "Malaysia", "siaran.E002"),
        ("HEARTBEAT_SECONDS", 11, "siaran.E003"),
        ("HEARTBEAT_SECONDS", 0, "siaran.E003"),
        ("SIMULATOR_SPEED", 0, "siaran.E004"),
    ],
)
def test_a_bad_setting_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, expected: str
) -> None:
    # In the module: changed for all, TIME_ZONE would set the clock of the process as well.
    monkeypatch.setattr(checks, "settings", SimpleNamespace(**SETTINGS))
    assert ids(checks.check_settings()) == []

    monkeypatch.setattr(checks, "settings", SimpleNamespace(**SETTINGS | {name: value}))
    assert ids(checks.check_settings()) == [expected]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], 0),
        (["gateway=package.module.Class", "other=package.Class"], 0),
        (["gateway"], 1),
        (["gateway=Class"], 1),
        (["gateway=package/module.Class"], 1),
        (["gateway=package..Class"], 1),
        (["=package.Class"], 1),
        ([f"{'g' * 20}=package.Class"], 0),
        ([f"{'g' * 21}=package.Class"], 1),
        (["simulator=package.Class"], 1),
        (["gateway=package.Class", "gateway=package.Other"], 1),
    ],
)
def test_a_malformed_transport_is_told_without_importing_it(
    settings: Any, entries: list[str], expected: int
) -> None:
    settings.EXTRA_TRANSPORTS = entries
    assert ids(checks.check_transports()) == ["siaran.E005"] * expected


def test_a_fast_simulator_is_a_warning_in_production_only(settings: Any) -> None:
    settings.SIMULATOR_SPEED = 60.0
    assert ids(checks.check_simulator()) == ["siaran.W001"]
    assert ids(checks.check_settings()) == []

    settings.SIMULATOR_SPEED = 1.0
    assert ids(checks.check_simulator()) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"character_set_database": "latin1"}, ["siaran.E010"]),
        ({"character_set_database": "utf8mb3"}, ["siaran.E010"]),
        ({"sql_mode": "NO_ENGINE_SUBSTITUTION"}, ["siaran.E011"]),
        ({"sql_mode": ""}, ["siaran.E011"]),
        ({"sql_mode": "STRICT_ALL_TABLES"}, []),
        ({"transaction_isolation": "REPEATABLE-READ"}, ["siaran.E012"]),
        ({"transaction_isolation": "", "tx_isolation": "READ-COMMITTED"}, []),
        ({"binlog_format": "STATEMENT"}, ["siaran.E013"]),
        ({"binlog_format": "STATEMENT", "log_bin": "OFF"}, []),
        ({"innodb_flush_log_at_trx_commit": "2"}, ["siaran.W010"]),
    ],
)
def test_a_bad_server_is_told(changed: dict[str, str], expected: list[str]) -> None:
    assert ids(checks.check_mysql_variables(GOOD | changed)) == expected


@pytest.mark.parametrize(
    ("mariadb", "version", "variables", "expected"),
    [
        (True, (10, 2, 0), {}, []),
        (False, (5, 7, 44), {}, []),
        (
            False,
            (5, 6, 51),
            {"innodb_large_prefix": "ON", "innodb_file_format": "Barracuda"},
            ["siaran.W011"],
        ),
        (False, (5, 6, 51), {"innodb_large_prefix": "OFF"}, ["siaran.W011", "siaran.E014"]),
    ],
)
def test_a_server_older_than_promised_is_told(
    mariadb: bool, version: tuple[int, ...], variables: dict[str, str], expected: list[str]
) -> None:
    server: Any = SimpleNamespace(mysql_is_mariadb=mariadb, mysql_version=version)

    assert ids(checks.check_mysql_version(server, variables)) == expected


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("init_command", "expected"),
    [
        ("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", []),
        ("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", ["siaran.E017"]),
        ("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;", ["siaran.W013"]),
    ],
)
def test_a_careless_sqlite_is_told(tmp_path: Path, init_command: str, expected: list[str]) -> None:
    database = {
        **connection.settings_dict,
        "NAME": tmp_path / "db.sqlite3",
        "OPTIONS": {"init_command": init_command},
    }
    sqlite = DatabaseWrapper(database)
    try:
        assert ids(checks.check_sqlite(sqlite)) == expected
    finally:
        sqlite.close()


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "nas:/x /srv/nas nfs4 rw 0 0\n"
        "/dev/sda / ext4 rw 0 0\n"
        "nas:/y /srv/my\\040files cifs rw 0 0\n"
        "tmpfs /srv/nas/local tmpfs rw 0 0\n"
    )

    assert checks.file_system_of(Path("/srv/nas/siaran.sqlite3"), mounts) == "nfs4"
    assert checks.file_system_of(Path("/srv/nas/local/siaran.sqlite3"), mounts) == "tmpfs"
    assert checks.file_system_of(Path("/srv/my files/siaran.sqlite3"), mounts) == "cifs"
    assert checks.file_system_of(Path("/srv/nasty.sqlite3"), mounts) == "ext4"
    assert checks.file_system_of(Path("/srv/x"), tmp_path / "missing") == ""


@pytest.mark.django_db
def test_the_database_that_the_tests_use_is_good() -> None:
    found = checks.check_servers(databases=["default"])

    # Warnings are for production: a test server need not wait for its disk, or be new.
    assert [message.id for message in found if message.is_serious()] == []


def test_a_server_that_is_down_is_told_and_is_no_traceback(tmp_path: Path) -> None:
    done = run_check(
        tmp_path, "--database", "default", DATABASE_URL=f"sqlite:///{tmp_path}/missing/db.sqlite3"
    )

    assert done.returncode == 1
    assert "siaran.E018" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_server_is_asked_unless_a_database_is_named() -> None:
    assert checks.check_servers(databases=None) == []


def run_check(
    tmp_path: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "SECRET_KEY": "a-long-and-random-key-0123456789-abcdefghijklmnopqrstuvwxyz",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_production_setup_is_clean(tmp_path: Path) -> None:
    done = run_check(
        tmp_path, "--deploy", "--fail-level", "WARNING", SITE_URL="https://example.test"
    )

    assert done.returncode == 0, done.stderr


def test_a_bad_setup_stops_at_the_check(tmp_path: Path) -> None:
    done = run_check(tmp_path, HEARTBEAT_SECONDS="25")

    assert done.returncode == 1
    assert "siaran.E003" in done.stderr


class FakeServer:
    """A MySQL server that answers one query with these rows."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self.rows = rows

    def cursor(self) -> FakeServer:
        return self

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def execute(self, sql: str, parameters: object = ()) -> None:
        pass

    def fetchone(self) -> tuple[Any, ...]:
        return self.rows[0]

    def fetchall(self) -> tuple[tuple[Any, ...], ...]:
        return self.rows


@pytest.mark.parametrize(
    ("zone", "late", "expected"),
    [(0, 0, []), (8, 0, ["siaran.E015"]), (0, 5, ["siaran.W012"]), (0, -5, ["siaran.W012"])],
)
def test_a_clock_that_is_wrong_is_told(zone: int, late: int, expected: list[str]) -> None:
    utc = checks.now() + timedelta(seconds=late)
    server: Any = FakeServer((utc, utc + timedelta(hours=zone)))

    assert ids(checks.check_clock(server)) == expected


def test_tables_that_would_lose_emoji_are_named() -> None:
    server: Any = FakeServer(("leads",), ("niches",))

    assert [message.msg for message in checks.check_tables(server)] == [
        "Not utf8mb4: leads, niches. Names and emoji would be lost."
    ]
