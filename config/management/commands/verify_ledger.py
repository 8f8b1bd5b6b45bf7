from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

from django.core.management.base import BaseCommand, CommandError, CommandParser

from broadcasts.models import BroadcastMessage, Worker
from campaigns.models import Campaign
from config import ledger
from leads.models import SkipReason
from sequences.models import Sequence

NEWEST = 5  # so many campaigns, and sequences, are named when none is asked about


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
        origins = ledger.by_origin(chosen)
        reception = ledger.reception(chosen, again_after_seconds=again_after)
        self._print_sums(origins, reception)
        if chosen:
            self._print_audience(chosen)
        else:
            self._print_campaigns(origins["campaigns"].total())
            self._print_sequences(origins["sequences"].total())
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

    def _print_sums(self, origins: dict[str, Counter[str]], reception: ledger.Reception) -> None:
        """By state: the origins add up to all there are; of these, what the simulator knows of."""
        columns = {name: counts for name, counts in origins.items() if counts}
        together = sum(origins.values(), Counter[str]())
        columns |= {
            "together": together,
            "simulated": reception.recorded,
            "received": reception.received,
        }
        self._print_line("state", columns)
        known = BroadcastMessage.Status.values
        present = {status for counts in columns.values() for status in counts}
        for status in [*filter(present.__contains__, known), *sorted(present.difference(known))]:
            self._print_line(status, [f"{counts[status]:,}" for counts in columns.values()])
        self._print_line("together", [f"{counts.total():,}" for counts in columns.values()])
        self.stdout.write(
            "(simulated: of these, to simulated phones; received: of those, by the phones)"
        )
        if Worker.objects.alive().exists():
            self.stdout.write(
                "(A broadcaster is running: messages moved on between one figure and the next, so "
                "that they need not add up.)"
            )

    def _print_line(self, name: str, cells: Iterable[str]) -> None:
        self.stdout.write(f"{name:<12}" + "".join(f"{cell:>11}" for cell in cells))

    def _print_campaigns(self, total: int) -> None:
        self.stdout.write(f"campaigns: {total:,} messages")
        shown = 0
        for campaign in Campaign.objects.filter(fanned_out_at__isnull=False)[:NEWEST]:
            shown += self._print_audience(campaign)
        if total > shown:
            self.stdout.write(f"  {total - shown:,} of other campaigns")

    def _print_sequences(self, total: int) -> None:
        self.stdout.write(f"sequences: {total:,} messages")
        shown = 0
        for sequence in Sequence.objects.order_by("-pk")[:NEWEST]:
            counts = sequence.messages.counts()
            if count := sum(counts.values()):
                self.stdout.write(f"  {sequence}: {count:,} = {_sum_of(counts)}")
            shown += count
        if total > shown:
            self.stdout.write(f"  {total - shown:,} of other sequences")

    def _print_audience(self, campaign: Campaign) -> int:
        """Returns how many messages it has."""
        counts = campaign.counts()
        audience = f"an audience of {campaign.audience_size or 0:,}"
        self.stdout.write(f"  {campaign}: {audience} = {_sum_of(counts)}")
        skipped = campaign.messages.filter(status="skipped").order_by()
        for reason in SkipReason:
            if count := skipped.filter(skip_reason=reason).count():
                self.stdout.write(f"    left out: {count:,} {reason.label}")
        return sum(counts.values())

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


def _sum_of(counts: dict[str, int]) -> str:
    """Returns the counts as a sum: "40 sent + 2 skipped"."""
    parts = [f"{count:,} {status}" for status, count in counts.items() if count]
    return " + ".join(parts) or "0"
