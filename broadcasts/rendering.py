"""Filling in a message. Rendered once, when it is queued; what is stored is what is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from leads.phones import display_phone

if TYPE_CHECKING:
    from attachments.models import Attachment
    from leads.models import Lead

# What each stands for, from a lead's name, stored number, and niches as text.
_VALUES: dict[str, Callable[[str, str, str], str]] = {
    "name": lambda name, phone, niches: name,
    "first_name": lambda name, phone, niches: next(iter(name.replace(",", " ").split()), ""),
    "phone": lambda name, phone, niches: display_phone(phone),
    "niche": lambda name, phone, niches: niches,
}
VARIABLES = tuple(_VALUES)
# For how long a name is allowed; somebody's niches have no end, and few have as many.
ALLOWED = {"name": 150, "first_name": 150, "phone": 20, "niche": 150}
_SHAPE = r"\{{\s*({})\s*(?:\|([^{{}}]*))?\}}"
_PLACEHOLDER = re.compile(_SHAPE.format(r"\w+"))
_KNOWN = re.compile(_SHAPE.format("|".join(VARIABLES)))


def render(body: str, lead: Lead, placeholder: re.Pattern[str] = _PLACEHOLDER) -> str:
    """Returns the text as this lead will read it.

    `{name|there}` becomes "there" where the lead has no name. One pass, so that a name which
    itself contains braces stays text. Line breaks, links and everything else are left alone.
    """

    # .all(), so that a prefetched batch costs no query a lead.
    niches = (niche.name for niche in lead.niches.all()) if "niche" in variables_of(body) else ()
    return prepare(body, placeholder)(lead.name, lead.phone, ", ".join(niches))


def render_draft(body: str, lead: Lead) -> str:
    """Returns what `render` does of a text that may not be right yet: a placeholder that nobody
    knows stays as it is written."""
    return render(body, lead, _KNOWN)


def variables_of(body: str) -> set[str]:
    return {match[1] for match in _PLACEHOLDER.finditer(body)}


def gaps_of(body: str) -> set[str]:
    """Returns the variables without a word for leads of whom that is not known: a gap is read."""
    return {match[1] for match in _PLACEHOLDER.finditer(body) if not (match[2] or "").strip()}


def longest(body: str) -> int:
    """Returns how many characters the text may have once it is filled in."""
    filled = (max(ALLOWED.get(m[1], 0), len(m[2] or "")) for m in _PLACEHOLDER.finditer(body))
    return len(_PLACEHOLDER.sub("", body)) + sum(filled)


class Greeting(NamedTuple):
    """A text that the database fills in as `render` would: before the name, instead, after."""

    parts: tuple[str, str, str]
    has_name: bool


def greeting_of(body: str) -> Greeting | None:
    """Returns the text if a database can fill it in: nothing in it varies, or one {name}."""
    match _PLACEHOLDER.split(body):
        case [text]:
            return Greeting((text, "", ""), has_name=False)
        case [before, "name", fallback, after]:
            return Greeting((before, fallback or "", after), has_name=True)
    return None


def prepare(
    body: str, placeholder: re.Pattern[str] = _PLACEHOLDER
) -> Callable[[str, str, str], str]:
    """Returns a function of (name, phone, niches) that does what `render` does, for many leads."""
    # Text, variable and fallback take turns, and text is the last.
    first, *rest = placeholder.split(body)
    variables, fallbacks, texts = rest[::3], rest[1::3], rest[2::3]
    filled = [
        (_VALUES[variable], fallback or "", text)
        for variable, fallback, text in zip(variables, fallbacks, texts, strict=True)
    ]

    def fill(name: str, phone: str, niches: str) -> str:
        parts = [first]
        for value, fallback, text in filled:
            parts += (value(name, phone, niches) or fallback, text)
        return "".join(parts)

    return fill


def check_message(text: str, attachment: Attachment | None) -> None:
    """Refuses what nobody could be sent, as a ValidationError about the field `message`: a text too
    long to be a file's caption, or neither of the two."""
    if attachment:
        attachment.check_caption(text, filled=longest(text), field="message")
    elif not text:
        said = _("Write a text, or add a file: one of them is sent.")
        raise ValidationError({"message": ValidationError(said, code="nothing")})


class BodyField(forms.CharField):
    """A text as somebody wrote it. Browsers end a line with two characters; on a phone the second
    would be a blank line, or count in the length."""

    def to_python(self, value: object) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        """No maxlength: browsers cut what is pasted, and whoever sends it misses the end."""
        return {k: v for k, v in super().widget_attrs(widget).items() if k != "maxlength"}


class MessageForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """A form of what has a text and a file.

    Of a text or a file that is refused here the model knows nothing: what `check_message` then says
    of the two together is not about what was entered.
    """

    def add_error(self, field: str | None, error: Any) -> None:
        found = getattr(error, "error_dict", {}).get("message")
        if found and {"message", "attachment"} & self.errors.keys():
            found[:] = [each for each in found if each.code not in ("nothing", "caption")]
            if not found:
                del error.error_dict["message"]
        super().add_error(field, error)


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
