"""What somebody agrees to who presses Send: the review that was shown, and nothing since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from django.utils.translation import gettext as _
from django.utils.translation import ngettext


@dataclass(frozen=True)
class Agreement:
    """A draft as its review shows it: its mark, how many receive it, which others say the same.

    The button posts it as text. What it does not cover by then is shown first, and asked again.
    """

    mark: str
    will_receive: int
    same: frozenset[int]

    def __str__(self) -> str:
        return f"{self.mark}-{self.will_receive}-{'.'.join(map(str, sorted(self.same)))}"

    @classmethod
    def posted(cls, text: str) -> Self:
        """Returns what a page posted; where it says nothing usable, what covers nothing."""
        mark, _dash, rest = text.partition("-")
        will_receive, _dash, same = rest.partition("-")
        return cls(mark, _number(will_receive), frozenset(map(_number, same.split("."))))

    def surprises(self, now: Agreement) -> list[str]:
        """Returns what of `now` was not agreed to, in words; nothing where all of it was."""
        if now.mark != self.mark:  # then the numbers are of something else
            return [_("It was changed since you looked: nothing was sent.")]
        surprises = []
        if now.will_receive > self.will_receive:
            surprises.append(_("The audience has grown since you looked: nothing was sent."))
        if further := len(now.same - self.same):
            said = ngettext(
                "Another campaign that says the same was sent since you looked; this one was not.",
                "Other campaigns that say the same were sent since you looked; this one was not.",
                further,
            )
            surprises.append(said)
        return surprises

    def fewer(self, now: Agreement) -> int:
        """Returns how many fewer people receive it by now. To write to those takes no new word."""
        return max(self.will_receive - now.will_receive, 0)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0
