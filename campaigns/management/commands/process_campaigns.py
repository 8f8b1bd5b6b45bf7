from __future__ import annotations

from django.core.management.base import BaseCommand

from campaigns.tasks import process_campaigns


class Command(BaseCommand):
    help = "Does one pass of what the scheduler does every minute for campaigns."

    def handle(self, **options: object) -> str:
        return ", ".join(f"{name} {count}" for name, count in process_campaigns().items())
