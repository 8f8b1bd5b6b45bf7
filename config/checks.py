"""System checks: a bad setup is told at the start, in words, and not by a message sent twice.

Those about the server run with `manage.py check --database default` and before each `migrate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import phonenumbers
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from devices.models import Device
from devices.transports.neonize.environment import missing

CLOCKS_AGREE_WITHIN = timedelta(seconds=3)
NETWORK_FILE_SYSTEMS = {
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "nfs", "nfs4",
    "smb3", "smbfs", "virtiofs",
}  # fmt: skip
SERVER_VARIABLES = (
    "binlog_format",
    "character_set_database",
    "innodb_file_format",
    "innodb_flush_log_at_trx_commit",
    "innodb_large_prefix",
    "log_bin",
    "sql_mode",
    "transaction_isolation",
    "tx_isolation",  # its name before MySQL 5.7.20 and MariaDB 11.1
)


@register("siaran")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.TIME_ZONE not in available_timezones():
        found.append(
            Error(
                f"TIME_ZONE is {settings.TIME_ZONE!r}, which is not a time zone.",
                hint="Write it like Asia/Kuala_Lumpur.",
                id="siaran.E001",
            )
        )
    if settings.PHONE_REGION not in phonenumbers.SUPPORTED_REGIONS:
        found.append(
            Error(
                f"PHONE_REGION is {settings.PHONE_REGION!r}, which is not a country.",
                hint="Two capital letters like MY: the country of numbers without a country code.",
                id="siaran.E002",
            )
        )
    if settings.HEARTBEAT_SECONDS <= 0 or settings.HEARTBEAT_SECONDS * 3 > settings.LEASE_SECONDS:
        found.append(
            Error(
                f"A lease of {settings.LEASE_SECONDS} s cannot be renewed in time every "
                f"{settings.HEARTBEAT_SECONDS} s.",
                hint="Make HEARTBEAT_SECONDS a third of LEASE_SECONDS or less, so that two lost "
                "heartbeats do not cost a broadcaster its devices.",
                id="siaran.E003",
            )
        )
    if settings.SIMULATOR_SPEED <= 0:
        found.append(
            Error(
                f"SIMULATOR_SPEED is {settings.SIMULATOR_SPEED}: no message would ever leave.",
                hint="1 is the speed of the clock.",
                id="siaran.E004",
            )
        )
    return found


@register("siaran")
def check_transports(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Looks at what EXTRA_TRANSPORTS says, and imports none of it: that is the broadcaster's."""
    found: list[CheckMessage] = []
    longest = Device._meta.get_field("transport").max_length or 0
    seen = set(settings.OUR_TRANSPORTS)
    for entry in settings.EXTRA_TRANSPORTS:
        name, _equals, path = entry.partition("=")
        if name in seen:
            problem = f"the name {name!r} is taken"
        elif not name or len(name) > longest:
            problem = f"a name has 1 to {longest} characters"
        elif "." not in path or not all(part.isidentifier() for part in path.split(".")):
            problem = f"{path!r} is not the dotted path of a class"
        else:
            problem = ""
        seen.add(name)
        if problem:
            found.append(
                Error(
                    f"EXTRA_TRANSPORTS has {entry!r}: {problem}.",
                    hint="Write name=package.module.Class, separated by commas, without spaces.",
                    id="siaran.E005",
                )
            )
    return found


@register("siaran", deploy=True)
def check_simulator(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    if settings.SIMULATOR_SPEED <= 1:
        return []
    return [
        Warning(
            f"Simulated devices run {settings.SIMULATOR_SPEED:g} times faster than the clock.",
            hint="Leave SIMULATOR_SPEED at 1 where forecasts and figures are to be believed.",
            id="siaran.W001",
        )
    ]


@register(Tags.database)
def check_linked_devices(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Says what broadcasters lack for the devices that are linked to a phone, if there are any.

    Where they run on other hosts, only those need it.
    """
    try:
        count = Device.objects.kept().filter(transport="neonize").count() if databases else 0
    except DatabaseError:  # not migrated yet, or away: that is another check's
        return []
    return [
        Warning(
            f"Devices of WhatsApp, {count} of them, cannot be used from this host: {problem}",
            hint="Only hosts of broadcasters need this; see README.md.",
            id="siaran.W002",
        )
        for problem in (missing() if count else [])
    ]


@register(Tags.database)
def check_servers(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for alias in databases or []:
        try:
            found += _check_server(connections[alias])
        except OperationalError as error:
            found.append(
                Error(
                    f"The database {alias!r} does not answer: {error}",
                    hint="Is DATABASE_URL right, is the server up, may this user use the database?",
                    id="siaran.E018",
                )
            )
    return found


def _check_server(connection: BaseDatabaseWrapper) -> Iterable[CheckMessage]:
    match connection.vendor:
        case "mysql":
            variables = _variables(connection)
            yield from check_mysql_variables(variables)
            yield from check_mysql_version(connection, variables)
            yield from check_clock(connection)
            yield from check_tables(connection)
        case "sqlite":
            yield from check_sqlite(connection)


def check_mysql_variables(variables: dict[str, str]) -> Iterable[CheckMessage]:
    """Yields what is wrong with a MySQL or MariaDB session that has these variables."""
    charset = variables["character_set_database"]
    if charset != "utf8mb4":
        yield Error(
            f"The database's character set is {charset}: names and emoji would be lost.",
            hint="ALTER DATABASE ... CHARACTER SET utf8mb4, before the first migrate.",
            id="siaran.E010",
        )
    if not {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"} & {*variables["sql_mode"].split(",")}:
        yield Error(
            "The session is not in strict mode: a number that is too long would be cut short, "
            "and be somebody else's.",
            hint="Leave sql_mode in the database's OPTIONS as config/settings.py sets it.",
            id="siaran.E011",
        )
    isolation = variables.get("transaction_isolation") or variables.get("tx_isolation", "")
    if isolation != "READ-COMMITTED":
        yield Error(
            f"The session's isolation is {isolation}; claims are built on READ-COMMITTED.",
            hint="Leave isolation_level in the database's OPTIONS as config/settings.py sets it.",
            id="siaran.E012",
        )
    if variables.get("log_bin") == "ON" and variables.get("binlog_format") == "STATEMENT":
        yield Error(
            "binlog_format is STATEMENT: in READ COMMITTED the server refuses every write.",
            hint="Set binlog_format = ROW in the server's configuration.",
            id="siaran.E013",
        )
    if variables["innodb_flush_log_at_trx_commit"] != "1":
        yield Warning(
            "The server may lose its last second of commits in a power cut: what was sent in it "
            "would be sent again.",
            hint="Set innodb_flush_log_at_trx_commit = 1 in the server's configuration.",
            id="siaran.W010",
        )


def check_mysql_version(
    connection: BaseDatabaseWrapper, variables: dict[str, str]
) -> Iterable[CheckMessage]:
    version: tuple[int, ...] = connection.mysql_version  # type: ignore[attr-defined]
    if connection.mysql_is_mariadb or version >= (5, 7):  # type: ignore[attr-defined]
        return
    yield Warning(
        f"This is MySQL {'.'.join(map(str, version))}; Siaran promises 5.7 and later.",
        hint="It works as far as it is tested. Plan the upgrade: 5.6 gets no more repairs.",
        id="siaran.W011",
    )
    large = variables.get("innodb_large_prefix") == "ON"
    if not large or variables.get("innodb_file_format") != "Barracuda":
        yield Error(
            "This MySQL cannot index columns of more than 191 characters, which django-q2 does.",
            hint="Set innodb_large_prefix = ON, innodb_file_format = Barracuda and "
            "innodb_file_per_table = ON in the server's configuration.",
            id="siaran.E014",
        )


def check_clock(connection: BaseDatabaseWrapper) -> Iterable[CheckMessage]:
    """Yields whether the session's time is not UTC, or the server's clock is not this host's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT UTC_TIMESTAMP(6), NOW(6)")
        utc, local = cursor.fetchone()
    here = now()
    if abs(local - utc) >= timedelta(seconds=1):
        yield Error(
            f"The session's time zone is not UTC: it is {(local - utc) / timedelta(hours=1):+g} h "
            "off, and messages would leave that much too early or too late.",
            hint="Leave time_zone in the database's OPTIONS as config/settings.py sets it.",
            id="siaran.E015",
        )
    if abs(here - utc) > CLOCKS_AGREE_WITHIN:
        yield Warning(
            f"The clocks of this host and of the database server are "
            f"{abs(here - utc).total_seconds():.0f} s apart.",
            hint="Messages go by the server's clock; what pages say of times does not. Run NTP "
            "on both.",
            id="siaran.W012",
        )


def check_tables(connection: BaseDatabaseWrapper) -> Iterable[CheckMessage]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
            "AND table_type = 'BASE TABLE' AND table_collation NOT LIKE %s ORDER BY table_name",
            ["utf8mb4%"],
        )
        tables = [name for (name,) in cursor.fetchall()]
    if tables:
        yield Error(
            f"Not utf8mb4: {', '.join(tables)}. Names and emoji would be lost.",
            hint="ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4, for each.",
            id="siaran.E016",
        )


def check_sqlite(connection: BaseDatabaseWrapper) -> Iterable[CheckMessage]:
    if connection.is_in_memory_db():  # type: ignore[attr-defined]
        return
    with connection.cursor() as cursor:
        journal = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    if journal != "wal":
        yield Warning(
            f"SQLite's journal mode is {journal}: pages and broadcasters wait for each other.",
            hint="Leave init_command in the database's OPTIONS as config/settings.py sets it. "
            "Some file systems, above all network ones, cannot do WAL.",
            id="siaran.W013",
        )
    if synchronous < 2:
        yield Error(
            "SQLite does not wait for the disk: after a power cut messages would be sent again.",
            hint="Set PRAGMA synchronous=FULL in init_command, as config/settings.py does.",
            id="siaran.E017",
        )
    path = Path(connection.settings_dict["NAME"])
    if (file_system := file_system_of(path)) in NETWORK_FILE_SYSTEMS:
        yield Warning(
            f"The SQLite file is on a network file system ({file_system}): its locks do not hold.",
            hint="SQLite is for one host and its own disk. For several hosts set DATABASE_URL to "
            "a MySQL or MariaDB server.",
            id="siaran.W014",
        )


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Returns the type of the file system that holds `path`, '' where the host does not say."""
    if not mounts.exists():
        return ""
    path = path.resolve()
    holding = ""
    depth = -1
    for line in mounts.read_text(errors="replace").splitlines():
        _, mounted_at, kind, *_rest = line.split()
        # The kernel writes a space in a path as \040. Of two mounts on one path the later holds.
        point = Path(mounted_at.replace(r"\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= depth:
            holding, depth = kind, len(point.parts)
    return holding


def now() -> datetime:
    """Returns this host's time in UTC, without a zone, as MySQL gives its own."""
    return datetime.now(UTC).replace(tzinfo=None)


def _variables(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Returns the server's variables by name, as this session sees them; some know fewer."""
    marks = ", ".join(["%s"] * len(SERVER_VARIABLES))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SHOW VARIABLES WHERE Variable_name IN ({marks})",
            SERVER_VARIABLES,
        )
        return dict(cursor.fetchall())
