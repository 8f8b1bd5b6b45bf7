from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from campaigns.models import Campaign
from devices.models import Device
from leads.import_results import Options, Outcome, Report
from leads.importing import LeadImport
from leads.models import Lead, Trigger
from leads.spreadsheets import UnreadableFile
from sequences.models import Sequence, SequenceStep

OUR_LEADS = Path(__file__).resolve().parents[2] / "demo" / "leads.csv"
TITLE = "Opening week"
MESSAGE = (
    "Hi {first_name|there}, the new shop opens on Saturday at 10. "
    "Bring this message and the first coffee is on us. Reply STOP and we write no more."
)
DEVICES = [f"Sales {number:02}" for number in range(1, 6)]
CONSENT = "demo"  # also how the demo's own leads are told from others
STEPS = [
    (0, "Hi {first_name|there}, thank you for asking about Vitac. Here is how it works."),
    (86_400, "{first_name|Hi}, most people ask what it costs: RM 49 a month, delivery included."),
    (172_800, "{first_name|Hi}, may we send you a trial pack? Just answer YES."),
]


class Command(BaseCommand):
    help = (
        "Fills the database for a demonstration: a login, five simulated devices, leads, a "
        "sequence, and a campaign that is due now. Running it again adds only what is missing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--leads", metavar="FILE", type=Path, help="a CSV file of your own")
        parser.add_argument("--password", help="of the login 'demo'; without it one is made up")

    def handle(self, *, leads: Path | None, password: str | None, **options: Any) -> None:
        if self.is_in_use():
            raise CommandError(
                "This database is in use: it has leads or devices that are not the demo's, and the "
                "demo's campaign would go to real people. Give it a database of its own."
            )
        user = self.make_login(password)
        for name in DEVICES:
            Device.objects.get_or_create(
                name=name,
                defaults={
                    # Day and night, without a cap: whoever looks at a demo looks at it now.
                    "daily_limit": None,
                    "sends_from": None,
                    "sends_until": None,
                },
            )
        report = self.import_leads(leads or OUR_LEADS)
        sequence = self.make_sequence()
        if leads is None:
            # So that the campaign has people to leave out, and says why.
            asked_to_stop = Lead.objects.order_by("phone").values_list("pk", flat=True)[:6]
            Lead.objects.filter(pk__in=list(asked_to_stop)).opt_out(source="demo")
            # With a list of one's own it waits as a draft: whom it would write to is not known.
            sequence.activate()
        campaign, _ = Campaign.objects.get_or_create(
            title=TITLE, defaults={"message": MESSAGE, "created_by": user}
        )
        due = campaign.schedule()
        self.stdout.write(
            f"{report.rows} rows read, {Lead.objects.count()} leads, "
            f"{report.counts[Outcome.DUPLICATE]} numbers twice, "
            f"{report.counts[Outcome.REFUSED]} that nobody can be reached at. "
            f"Campaign “{campaign}” is {'due now' if due else campaign.get_status_display()}."
        )

    def is_in_use(self) -> bool:
        """Whether there is anybody or anything here that the demo did not make."""
        ours = Q(transport=Device.SIMULATOR, name__in=DEVICES)
        return (
            Device.objects.exclude(ours).exists()
            or Lead.objects.exclude(consent_source=CONSENT).exists()
        )

    def make_login(self, password: str | None) -> User:
        """Returns the user `demo`, an Operator. Sets a password if it is new, or one is given."""
        user, is_new = User.objects.get_or_create(username="demo", defaults={"is_staff": True})
        if is_new and not password:
            password = secrets.token_urlsafe(9)
            self.stdout.write(f"Login: demo, password: {password}")
        if password:
            user.set_password(password)
            user.save(update_fields=["password"])
        user.groups.add(Group.objects.get(name="Operator"))
        return user

    def import_leads(self, path: Path) -> Report:
        try:
            with path.open("rb") as file:
                options = Options(region=settings.PHONE_REGION, consent=CONSENT)
                return LeadImport(file, options).run()
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        except UnreadableFile as error:
            raise CommandError(f"{path}: {error}") from error

    def make_sequence(self) -> Sequence:
        trigger = Trigger.ensure(["COLDVITAC"])["COLDVITAC"]
        sequence, is_new = Sequence.objects.get_or_create(
            name="Vitac, first days",
            defaults={"trigger": trigger, "description": "For people who asked about Vitac."},
        )
        if is_new:
            SequenceStep.objects.bulk_create(
                SequenceStep(
                    sequence=sequence, position=position, delay_seconds=delay, message=message
                )
                for position, (delay, message) in enumerate(STEPS, start=1)
            )
        return sequence
