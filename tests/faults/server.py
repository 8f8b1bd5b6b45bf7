"""Database servers for the fault suite: one of its own that may be killed, or somebody else's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

START_SECONDS = 60


def find_mariadbd() -> str | None:
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """Where the database is: one URL, or one for each node of a cluster."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls

    @property
    def can_restart(self) -> bool:
        return False

    def kill(self) -> None:
        """Ends the server as a crash would."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it again, and returns when it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """At the end of the run."""


class SqliteFile(Server):
    def __init__(self, folder: Path) -> None:
        super().__init__([f"sqlite:///{folder / 'database.sqlite3'}"])


@dataclass
class Commands:
    """How somebody else's server is broken: shell commands."""

    restart: str = ""
    kill_node: str = ""
    join_node: str = ""


class ForeignServer(Server):
    def __init__(self, urls: list[str], commands: Commands) -> None:
        super().__init__(urls)
        self.commands = commands

    @property
    def can_restart(self) -> bool:
        return bool(self.commands.restart)

    def kill(self) -> None:
        """Nothing: the command that restarts it kills it first."""

    def start(self) -> None:
        run(self.commands.restart)
        wait_for_port(self.urls[0])


class PrivateMariadb(Server):
    """A MariaDB in a folder of its own. Every commit is durable: it will be killed."""

    def __init__(self, folder: Path) -> None:
        program = find_mariadbd()
        assert program, "there is no mariadbd here (Debian package mariadb-server-core)"
        self.port = free_port()
        super().__init__([f"mysql://root@127.0.0.1:{self.port}/chaos"])
        self.folder = folder
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True)
        owner = user.stdout.strip()
        # A server that starts deletes what others have in a folder that they share.
        temporary = f"--tmpdir={folder}"
        common = ["--no-defaults", f"--datadir={folder / 'data'}", f"--user={owner}", temporary]
        install = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal"]
        with (folder / "server.log").open("wb") as log:
            subprocess.run([*install, "--skip-test-db"], check=True, stdout=log, stderr=log)
        self._command = [
            program, *common, f"--socket={folder / 'socket'}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--pid-file={folder / 'pid'}",
            "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def can_restart(self) -> bool:
        return True

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        wait_for_port(self.urls[0])

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=START_SECONDS)


def run(command: str) -> None:
    subprocess.run(command, shell=True, check=True)  # noqa: S602  (the caller's own command)


def wait_for_port(url: str) -> None:
    """Returns when the server says its greeting, not when the port is merely open."""
    where = urlsplit(url)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection((where.hostname or "", where.port or 3306), 1) as client:
                if client.recv(1):
                    return
        except OSError:
            assert time.monotonic() < deadline, f"no server at {url}"
            time.sleep(0.1)
