from __future__ import annotations

import sys

from django.core.management.base import BaseCommand, CommandError, CommandParser

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from config import ledger
from leads.models import SkipReason

NEWEST = 5  # so many campaigns are named when none is asked about


class Command(BaseCommand):
    help = (
        "Checks every promise about messages on the live database, and what simulated phones "
        "received against what the queue recorded. What is out of place is looked at again a "
        "moment later, since messages move on meanwhile. Exit code 1 when a promise is broken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--campaign", type=int, metavar="ID", help="only this campaign")
        parser.add_argument(
            "--again-after", type=float, metavar="SECONDS", default=ledger.AGAIN_AFTER_SECONDS,
            help="how long to wait before the second look (default: %(default)s)",
        )  # fmt: skip

    def handle(self, *, campaign: int | None, again_after: float, **options: object) -> None:
        chosen = self._campaign(campaign) if campaign else None
        reception = ledger.reception(chosen, again_after_seconds=again_after)
        self._print_reception(reception)
        newest = Campaign.objects.filter(fanned_out_at__isnull=False)[:NEWEST]
        for each in [chosen] if chosen else newest:
            self._print_audience(each)
        broken = ledger.violations(chosen, again_after_seconds=again_after)
        for violation in broken:
            self.stdout.write(self.style.ERROR(f"BROKEN  {violation.rule}: {violation.count}"))
            for example in violation.examples:
                self.stdout.write(f"        {example}")
        wrong = self._print_differences(reception)
        if broken or wrong:
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("Everybody is accounted for, nobody got it twice."))

    def _campaign(self, pk: int) -> Campaign:
        try:
            return Campaign.objects.get(pk=pk)
        except Campaign.DoesNotExist:
            raise CommandError(f"There is no campaign {pk}.") from None

    def _print_reception(self, reception: ledger.Reception) -> None:
        self.stdout.write(f"{'state':<12}{'recorded':>10}{'received by phones':>20}")
        for status in BroadcastMessage.Status.values:
            if count := reception.recorded[status]:
                self.stdout.write(f"{status:<12}{count:>10,}{reception.received[status]:>20,}")
        recorded, received = reception.recorded.total(), reception.received.total()
        self.stdout.write(f"{'together':<12}{recorded:>10,}{received:>20,}")

    def _print_audience(self, campaign: Campaign) -> None:
        counts = {status: count for status, count in campaign.counts().items() if count}
        parts = " + ".join(f"{count:,} {status}" for status, count in counts.items())
        self.stdout.write(f"{campaign}: an audience of {campaign.audience_size or 0:,} = {parts}")
        skipped = campaign.messages.filter(status="skipped").order_by()
        for reason in SkipReason:
            if count := skipped.filter(skip_reason=reason).count():
                self.stdout.write(f"  left out: {count:,} {reason.label}")

    def _print_differences(self, reception: ledger.Reception) -> bool:
        words = (
            "received it twice",
            "recorded as sent, but received nothing",
            "received it, but the record says otherwise",
            "received what nobody sent them",
        )
        for said, rows in zip(words, reception.differences, strict=True):
            style = self.style.ERROR if rows else self.style.SUCCESS
            self.stdout.write(style(f"{len(rows):>6,}  {said}"))
            for row in rows[: ledger.SHOWN]:
                self.stdout.write(f"        {row}")
        return reception.is_wrong
