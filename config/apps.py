from __future__ import annotations

from django.apps import AppConfig


class BuildingConfig(AppConfig):
    """The installation itself: system checks, groups, schedules."""

    name = "config"
    verbose_name = "Installation"

    def ready(self) -> None:
        from config import checks  # noqa: F401  (registers the checks)
