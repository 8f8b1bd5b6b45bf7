"""Filling in a message. Rendered once, when it is queued; what is stored is what is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from leads.phones import display_phone

if TYPE_CHECKING:
    from leads.models import Lead

VARIABLES = ("name", "first_name", "phone", "niche")
_PLACEHOLDER = re.compile(r"\{\s*(\w+)\s*(?:\|([^{}]*))?\}")


def render(body: str, lead: Lead) -> str:
    """Returns the text as this lead will read it.

    `{name|there}` becomes "there" where the lead has no name. One pass, so that a name which
    itself contains braces stays text. Line breaks, links and everything else are left alone.
    """

    def fill(match: re.Match[str]) -> str:
        return _value(lead, match[1]) or (match[2] or "")

    return _PLACEHOLDER.sub(fill, body)


def validate_body(body: str) -> None:
    """Refuses placeholders that would reach a customer unfilled. Raises ValidationError."""
    unknown = [match[1] for match in _PLACEHOLDER.finditer(body) if match[1] not in VARIABLES]
    if unknown:
        raise ValidationError(
            _("Unknown: %(unknown)s. There are %(known)s."),
            params={
                "unknown": ", ".join(f"{{{name}}}" for name in dict.fromkeys(unknown)),
                "known": ", ".join(f"{{{name}}}" for name in VARIABLES),
            },
        )
    rest = _PLACEHOLDER.sub("", body)
    if "{" in rest or "}" in rest:
        raise ValidationError(_("A brace is not closed. Write placeholders like {name}."))


def _value(lead: Lead, variable: str) -> str:
    match variable:
        case "name":
            return lead.name
        case "first_name":
            return lead.name.split(maxsplit=1)[0] if lead.name else ""
        case "phone":
            return display_phone(lead.phone)
        case "niche":
            # .all(), so that a prefetched batch costs no query a lead.
            return ", ".join(niche.name for niche in lead.niches.all())
    raise ValueError(f"unknown variable {variable}")
