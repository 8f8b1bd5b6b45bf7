from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign


class Command(BaseCommand):
    help = (
        "Shows how far a campaign is until nothing of it is left to send. Exits with 1 when it was "
        "cancelled or takes too long."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", nargs="?", type=int, help="its number; default: the newest")
        parser.add_argument(
            "--timeout", type=float, default=600, metavar="SECONDS", help="default: 600"
        )

    def handle(self, *, campaign: int | None, timeout: float, **options: Any) -> None:
        campaigns = Campaign.objects.filter(pk=campaign) if campaign else Campaign.objects.all()
        watched = campaigns.order_by("-pk").first()
        if watched is None:
            raise CommandError(
                f"There is no campaign {campaign}." if campaign else "There is no campaign."
            )
        give_up_at = time.monotonic() + timeout
        # A bar for people; a line now and then where the output goes to a file.
        seconds = 0.1 if sys.stderr.isatty() else 5.0
        with tqdm(desc=watched.title, unit=" messages", mininterval=seconds) as bar:
            while self.follow(watched, bar):
                if time.monotonic() > give_up_at:
                    raise CommandError(
                        f"Not finished after {timeout:.0f} seconds: "
                        f"it is {watched.get_status_display()}."
                    )
                time.sleep(0.25)
        if watched.status == Campaign.Status.CANCELLED:
            raise CommandError("It was cancelled.")

    def follow(self, campaign: Campaign, bar: tqdm) -> bool:
        """Brings the bar up to date; returns whether there is more to come."""
        campaign.refresh_from_db()
        counts = campaign.counts()
        # The audience is the number of leads that get a row, sent or not, once all have one.
        bar.total = campaign.audience_size if campaign.fanned_out_at else None
        shown = ("sent", "failed", "unknown", "skipped")
        bar.set_postfix({name: counts[name] for name in shown if counts[name]}, refresh=False)
        bar.update(sum(counts[status] for status in BroadcastMessage.CLOSED) - bar.n)
        # `finished` comes with the scheduler's next look; the last message is what people wait for.
        is_sent = campaign.fanned_out_at and not any(counts[name] for name in BroadcastMessage.OPEN)
        return not is_sent and campaign.status != Campaign.Status.CANCELLED
