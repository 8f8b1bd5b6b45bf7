"""A database of its own for each benchmark, on the server of --database-url or beside its file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.core.management import call_command


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns an argument parser with what every benchmark on a database takes."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--database-url", metavar="URL", default=os.environ.get("DATABASE_URL"),
        help="the server to work on, in a database of its own (default: DATABASE_URL's)",
    )  # fmt: skip
    made.add_argument("--keep", action="store_true", help="leave the database there")
    return made


@contextmanager
def own_database(url: str | None, *, keep: bool = False) -> Iterator[str]:
    """Makes a database, sets Django up on it and migrates; drops it at the end. Yields its URL.

    This process and those it starts find it in DATABASE_URL. Refuses a server that would lose
    commits in a power cut: that is not what is measured.
    """
    if not url:
        raise SystemExit("Give --database-url or DATABASE_URL: mysql://… or sqlite:////path")
    own = _make(url)
    os.environ |= {"DATABASE_URL": own, "DEBUG": "0", "LOG_LEVEL": "WARNING"}
    os.environ.setdefault("SECRET_KEY", "benchmarks")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        django.setup()
        _refuse_what_is_not_durable()
        call_command("migrate", verbosity=0)
        yield own
    finally:
        _close_connections()
        if not keep:
            _drop(own)


def facts() -> dict[str, Any]:
    """Returns what the report says about the server."""
    if vendor() == "sqlite":
        journal, synchronous = ask("PRAGMA journal_mode"), ask("PRAGMA synchronous")
        return {
            "database": f"SQLite {ask('SELECT sqlite_version()')}",
            "durability": f"journal_mode={journal}, synchronous={synchronous}",
        }
    return {
        "database": ask("SELECT CONCAT(@@version_comment, ' ', @@version)"),
        "durability": "innodb_flush_log_at_trx_commit="
        f"{ask('SELECT @@innodb_flush_log_at_trx_commit')}, log_bin={ask('SELECT @@log_bin')}",
        "buffer pool": f"{ask('SELECT @@innodb_buffer_pool_size') >> 20} MB",
    }


def server_pid() -> int | None:
    """Returns the process of the database server; None where it is elsewhere, or SQLite."""
    if vendor() == "sqlite":
        return None
    with suppress(OSError, ValueError):
        return int(Path(str(ask("SELECT @@pid_file"))).read_text())
    return None


def statements() -> int:
    """Returns how many statements the server has been asked so far; 0 on SQLite."""
    if vendor() == "sqlite":
        return 0
    with _cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
        return int(cursor.fetchone()[1])


def ask(sql: str, parameters: Any = None) -> Any:
    """Returns the first column of the first row."""
    return row(sql, parameters)[0]


def row(sql: str, parameters: Any = None) -> Any:
    with _cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()


def run(sql: str, parameters: Any = None) -> int:
    with _cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def bare_connection(url: str | None = None, *, database: bool = True) -> Any:
    """Returns a connection of mysqlclient, with the session settings that Django gives its own."""
    import MySQLdb

    parts = urlsplit(url or os.environ["DATABASE_URL"])
    connection = MySQLdb.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        charset="utf8mb4",
        autocommit=True,
        client_flag=2,  # FOUND_ROWS
        **({"database": parts.path.strip("/")} if database else {}),
    )
    connection.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.query("SET SESSION time_zone = '+00:00'")
    return connection


def vendor() -> str:
    from django.db import connection

    return connection.vendor


def _cursor() -> Any:
    from django.db import connection

    return connection.cursor()


def _make(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return f"{url}.benchmark-{os.getpid()}"
    name = f"{parts.path.strip('/') or 'siaran'}_benchmark_{os.getpid()}"
    server = bare_connection(url, database=False)
    server.query(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    server.close()
    return parts._replace(path=f"/{name}").geturl()


def _drop(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        for end in ("", "-wal", "-shm"):
            Path(parts.path[1:] + end).unlink(missing_ok=True)
        return
    server = bare_connection(url, database=False)
    server.query(f"DROP DATABASE `{parts.path.strip('/')}`")
    server.close()


def _refuse_what_is_not_durable() -> None:
    if vendor() == "sqlite":
        if ask("PRAGMA synchronous") != 2:
            raise SystemExit("SQLite does not run with synchronous=FULL.")
    elif ask("SELECT @@innodb_flush_log_at_trx_commit") != 1:
        raise SystemExit("The server does not run with innodb_flush_log_at_trx_commit=1.")


def _close_connections() -> None:
    from django.db import connections

    connections.close_all()
