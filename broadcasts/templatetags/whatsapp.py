"""Shows a message as WhatsApp shows it."""

from __future__ import annotations

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_TAGS = {"*": "strong", "_": "em", "~": "s"}
_MONO = re.compile(r"```(.+?)```", re.DOTALL)


@register.filter
def whatsapp(text: str) -> SafeString:
    """Returns HTML for `*bold*`, `_italic_`, `~struck~` and ```` ```mono``` ````.

    Escapes first, so that nothing of the text itself becomes markup. Line breaks stay as they
    are: the element around it has `white-space: pre-line`.
    """
    pieces = _MONO.split(escape(text))
    marked = (f"<code>{p}</code>" if i % 2 else _mark(p, "*_~") for i, p in enumerate(pieces))
    return mark_safe("".join(marked))  # noqa: S308 (escaped above; only our own tags are added)


def _mark(text: str, marks: str) -> str:
    """Marks up to three levels deep: a mark inside its own kind is plain text, as in WhatsApp."""
    if not marks:
        return text

    def element(match: re.Match[str]) -> str:
        tag = _TAGS[match[1]]
        return f"<{tag}>{_mark(match[2], marks.replace(match[1], ''))}</{tag}>"

    # A mark counts at the edges of words only, so that a_file_name and 2*3*4 stay as they are.
    return re.sub(rf"(?<!\w)([{marks}])(?=\S)([^\n]+?)(?<=\S)\1(?!\w)", element, text)
