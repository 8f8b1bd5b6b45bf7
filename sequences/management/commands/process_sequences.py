from __future__ import annotations

from django.core.management.base import BaseCommand

from sequences.tasks import process_sequences


class Command(BaseCommand):
    help = "Does one pass of what the scheduler does every minute for sequences."

    def handle(self, **options: object) -> str:
        return ", ".join(f"{name} {count}" for name, count in process_sequences().items())
