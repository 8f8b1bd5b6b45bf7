from __future__ import annotations

from django.core.management.base import BaseCommand

from broadcasts.tasks import expire_messages


class Command(BaseCommand):
    help = "Does one pass of what the scheduler does every minute: ends messages that are too late."

    def handle(self, **options: object) -> str:
        return f"expired {expire_messages()['expired']}"
