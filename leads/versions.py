"""Which version of something a form shows: so that no save overwrites another one unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _


class Outdated(Exception):
    """What is stored by now is not what the page showed."""


def digest(*values: object) -> str:
    """Returns a mark that is another one as soon as one of the values is."""
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:16]


@dataclass
class Version:
    """Which one a form was made from, `read`, and which one its page showed."""

    read: str
    shown: str

    @classmethod
    def posted(cls, read: str, data: Mapping[str, Any] | None) -> Version:
        return cls(read, (data or {}).get("version") or read)

    def check(self, stored: str, *, has_changes: bool) -> None:
        """Raises Outdated if saving overwrites what the page has not shown.

        `stored` is read with the row locked. What changes nothing overwrites nothing: that is the
        second of two clicks. Once refused, the page says so and may save: it knows then.
        """
        if stored == self.shown or (stored == self.read and not has_changes):
            return
        self.shown = stored
        raise Outdated


def outdated(url: str) -> SafeString:
    """Says that nothing was saved, and what to do; what is stored by now is at `url`."""
    said = _("It was saved by somebody else, or in another tab, since this page was loaded: look "
             "at {link} first. What you entered is still here, and saving once more replaces "
             "the other.")  # fmt: skip
    link = format_html('<a href="{}" target="_blank">{}</a>', url, _("what is stored now"))
    return format_html(said, link=link)
