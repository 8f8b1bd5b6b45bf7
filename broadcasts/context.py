"""What the frame of every page says about the system: two small queries a page, none elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as _

from broadcasts.models import Worker
from broadcasts.schedules import scheduler


@dataclass(frozen=True)
class SystemState:
    """Whether somebody sends and somebody schedules. `trouble` is empty where all is well."""

    broadcasters: int
    scheduler_runs: bool

    @property
    def trouble(self) -> str:
        if not (self.broadcasters or self.scheduler_runs):
            return _("Nothing is sent: no broadcaster and no scheduler is running")
        if not self.broadcasters:
            return _("Nothing is sent: no broadcaster is running")
        if not self.scheduler_runs:
            return _("The scheduler is not running")
        return ""


def system(request: HttpRequest) -> dict[str, Any]:
    """Offers `system` to templates; asked only when a page shows it, and to people signed in."""
    if not request.user.is_authenticated:
        return {}
    return {"system": SimpleLazyObject(_system_state)}


def _system_state() -> SystemState:
    return SystemState(
        broadcasters=Worker.objects.alive().count(),
        scheduler_runs=scheduler().runs,
    )
