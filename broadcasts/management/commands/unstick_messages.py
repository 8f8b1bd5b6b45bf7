from __future__ import annotations

import argparse
import re
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandParser

from broadcasts.models import BroadcastMessage

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Reads `90s`, `5m`, `2h` or `1d`."""
    if not (match := re.fullmatch(r"(\d+)([smhd])", text.strip())):
        raise argparse.ArgumentTypeError(f"“{text}” is not a duration; write it like 90s, 5m or 2h")
    if not (number := int(match[1])):
        # Every claim is older than nothing: it would take their work from the living.
        raise argparse.ArgumentTypeError("the duration must be longer than nothing")
    return timedelta(**{UNITS[match[2]]: number})


class Command(BaseCommand):
    help = (
        "Frees messages that a dead broadcaster held: what had not left waits again, the rest is "
        "unknown. Live broadcasters lose nothing, unless they hang for longer than --older-than. "
        "Exit code 0 also where there was nothing to free, 2 where an option was not understood."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=duration, metavar="5m",
            help="also free what a live broadcaster has held for so long (default: STUCK_AFTER)",
        )  # fmt: skip
        parser.add_argument(
            "--reschedule-expired", action="store_true",
            help="also put every expired message back in the queue, due now",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only say what would happen")

    def handle(
        self,
        *,
        older_than: timedelta | None,
        reschedule_expired: bool,
        dry_run: bool,
        **options: object,
    ) -> str:
        messages = BroadcastMessage.objects
        counts = messages.unstick(older_than=older_than, dry_run=dry_run)
        words = [f"{counts['released']} back to pending", f"{counts['unknown']} now unknown"]
        if reschedule_expired:
            expired = messages.filter(status="expired")
            again = expired.may_start_over()
            count = again.count() if dry_run else expired.reschedule_expired()
            words.append(f"{count} expired rescheduled")
        return ("Would be: " if dry_run else "") + ", ".join(words)
