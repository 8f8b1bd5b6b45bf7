"""Rules come later than rows: what they would refuse stands until somebody changes it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


class Standing(models.Model):
    """A row of which no value is refused that stays as it is stored.

    Else a cap from before there was a highest one would keep whoever renames a device from saving
    that, and be changed by whoever knows nothing of it.
    """

    class Meta:
        abstract = True

    def stored(self) -> dict[str, Any]:
        """Returns the row as the database has it; nothing of a new one."""
        rows: models.QuerySet[Any] = type(self)._default_manager.filter(pk=self.pk)
        return dict(rows.values().first() or {})

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        stays = {name for name, value in self.stored().items() if value == getattr(self, name)}
        super().clean_fields({*(exclude or ()), *stays})

    def problems(self) -> dict[str, list[str]]:
        """Returns what would be refused today if it were not stored already, by field."""
        return {} if self._state.adding else refused_by(super().clean_fields)


def refused_by(check: Callable[[], None]) -> dict[str, list[str]]:
    """Returns what this check refuses, in words, by field."""
    try:
        check()
    except ValidationError as error:
        return error.message_dict
    return {}
