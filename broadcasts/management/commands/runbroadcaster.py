from __future__ import annotations

import argparse
import gc
import signal
import time
from types import FrameType

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db import InterfaceError, OperationalError, connection

from broadcasts.footprint import allow_files
from broadcasts.retrying import notice_silence
from broadcasts.supervisor import Supervisor, begin_anew, begin_anew_if_needed, reap
from broadcasts.worker import DATABASE_DOWN_SECONDS, STOP_SECONDS, Broadcaster, is_orphan

COLLECT_AFTER = 20_000  # objects more; a claim of 500 messages makes that many
SILENCE_SECONDS = 30  # a statement of ours takes seconds; it waits 10 for a lock at most
NO_ANSWER = "siaran.E018"  # what config.checks makes of a database that does not answer


class Command(BaseCommand):
    help = (
        "Sends messages: leases devices and works them until SIGTERM or Ctrl-C, on which it claims "
        f"nothing more, waits up to {STOP_SECONDS} s for the answers to what is on the wire and "
        "gives the devices back. Start it as often as you like."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=1, help="worker processes (default: 1)")
        parser.add_argument(
            "--devices-per-worker", type=int, default=200, help="at most (default: 200)"
        )
        parser.add_argument("--drain", action="store_true", help="end when nothing is left to send")

        parser.add_argument("--supervisor", type=int, help=argparse.SUPPRESS)

    def run_from_argv(self, argv: list[str]) -> None:
        begin_anew_if_needed()
        reap()
        super().run_from_argv(argv)

    def handle(
        self,
        *,
        workers: int,
        devices_per_worker: int,
        drain: bool,
        supervisor: int | None,
        **options: object,
    ) -> None:
        if workers < 1 or devices_per_worker < 1:
            raise CommandError("--workers and --devices-per-worker are at least 1.")
        # Until there is something to finish, also while the database does not answer.
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
        notice_silence(SILENCE_SECONDS)
        self._check(supervisor)
        allow_files()
        runner: Broadcaster | Supervisor
        if workers == 1:
            runner = Broadcaster(capacity=devices_per_worker, drain=drain, supervisor=supervisor)
        else:
            arguments = [f"--devices-per-worker={devices_per_worker}"] + ["--drain"] * drain
            runner = Supervisor(workers, arguments)

        def stop(signum: int, frame: FrameType | None) -> None:
            runner.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        # Django and the models live as long as the process. To look through them again and again
        # for garbage took a tenth of its time (perf, `benchmarks drain`).
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        runner.run()
        # Who is told to end from here on ends: everything was given back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if isinstance(runner, Broadcaster) and runner.is_worn_out and not runner.stopping:
            begin_anew()

    def _check(self, supervisor: int | None) -> None:
        """Looks whether the setup is sound, as soon as the database answers: after a power cut
        both start at once, and who supervises us may not try a second time."""
        while not is_orphan(supervisor):
            try:
                connection.ensure_connection()
                return self.check(databases=["default"])
            except (OperationalError, InterfaceError, SystemCheckError) as error:
                # It may go away again between the two.
                if isinstance(error, SystemCheckError) and NO_ANSWER not in str(error):
                    raise
                self.stderr.write(f"The database does not answer yet: {error}")
                connection.close()
                time.sleep(DATABASE_DOWN_SECONDS)


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
