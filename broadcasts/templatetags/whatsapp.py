"""Shows a message as WhatsApp shows it."""

from __future__ import annotations

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_TAGS = {"*": "strong", "_": "em", "~": "s"}
_MONO = re.compile(r"```(.+?)```", re.DOTALL)
# In a line, what no mark reaches into: `code` and links.
_WHOLE = re.compile(r"(`[^`\n]+`|https?://\S+)")
_ITEM = re.compile(r"(\s*)[*-] (?=\S)")
_QUOTE = "&gt; "  # escaped by then


@register.filter
def whatsapp(text: str) -> SafeString:
    """Returns HTML for what WhatsApp makes of `*bold*`, `_italic_`, `~struck~`, `` `code` `` and
    ```` ```mono``` ````, and of `- item`, `* item` and `> quote` at the start of a line.

    Escapes first, so that nothing of the text itself becomes markup. Line breaks stay as they
    are: the element around it keeps them, by its `white-space`.
    """
    pieces = _MONO.split(escape(text))
    shown = ""
    for number, piece in enumerate(pieces):
        shown += f"<code>{piece}</code>" if number % 2 else _lines(piece, is_first=not number)
    return mark_safe(shown)  # noqa: S308 (escaped above; only our own tags are added)


def _lines(text: str, *, is_first: bool) -> str:
    """Marks each line by itself: no mark but the one of mono reaches into the next."""
    lines = text.split("\n")
    starts = [is_first, *[True] * (len(lines) - 1)]  # what follows mono is not at a line's start
    return "\n".join(map(_line, lines, starts))


def _line(line: str, starts: bool) -> str:
    if starts and line.startswith(_QUOTE):
        return f"<q>{_words(line.removeprefix(_QUOTE))}</q>"
    if starts and (item := _ITEM.match(line)):
        return f"{item[1]}• {_words(line[item.end() :])}"
    return _words(line)


def _words(text: str) -> str:
    pieces = _WHOLE.split(text)
    pieces[::2] = [_mark(piece, "*_~") for piece in pieces[::2]]
    return "".join(
        f"<code>{piece[1:-1]}</code>" if number % 2 and piece[0] == "`" else piece
        for number, piece in enumerate(pieces)
    )


def _mark(text: str, marks: str) -> str:
    """Marks up to three levels deep: a mark inside its own kind is plain text, as in WhatsApp."""
    if not marks:
        return text

    def element(match: re.Match[str]) -> str:
        tag = _TAGS[match[1]]
        return f"<{tag}>{_mark(match[2], marks.replace(match[1], ''))}</{tag}>"

    # A mark counts at the edges of words only, so that a_file_name and 2*3*4 stay as they are.
    return re.sub(rf"(?<!\w)([{marks}])(?=\S)([^\n]+?)(?<=\S)\1(?!\w)", element, text)
