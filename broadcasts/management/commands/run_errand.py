from __future__ import annotations

import argparse
import os
import sys
import traceback

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from devices.pairing import Pairing, Unlinking


class Command(BaseCommand):
    help = (
        "Links a device to a phone, or logs a session out. runbroadcaster starts it for what "
        "people ask for on the web: there is no need to start it by hand."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=["pair", "unlink"])
        parser.add_argument("pk", type=int)
        parser.add_argument("--within", type=float, help=argparse.SUPPRESS)

    def handle(self, *, what: str, pk: int, within: float | None, **options: object) -> None:
        from devices.transports.neonize.pairing import WITHIN_SECONDS, pair, unlink

        code = 0
        try:
            if what == "pair":
                pair(Pairing.objects.get(pk=pk), within or WITHIN_SECONDS)
            else:
                unlink(Unlinking.objects.get(pk=pk))
        except Exception:  # noqa: BLE001 (whatever it is, the process has to end)
            traceback.print_exc()
            code = 1
        connection.close()
        sys.stderr.flush()
        # A client that nobody has scanned cannot be stopped, and would keep Python from ending.
        os._exit(code)
