"""What a row of a list says of consent. Consent is what somebody gave: it is never guessed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _

YES = {"yes", "y", "true", "1", "✓", "✔", "agreed", "consented", "opted in", "ya", "setuju"}
# No yes and no place either: what people and exports write where there is nothing.
NOTHING = {
    "n", "0", "✗", "✘", "-", "?", "null", "nil", "nan", "none", "n/a", "na", "unknown", "tiada",
}  # fmt: skip
# A no in however many words: "no consent", "NOT_ASKED", "consent not given". Some place is called
# like that ("No. 5, Jalan Ampang"): its people can be asked again, those who said no cannot.
_NO = re.compile(
    r"^\W*(no|none|false|opted out|n/a|tiada|tidak|tak|belum)(?![^\W_])"
    r"|(?<![^\W_])(not|never|declined|refused)(?![^\W_])"
)


@dataclass(frozen=True, slots=True)
class Consent:
    """Where somebody agreed, empty where they did not; `denied` where the list itself says so."""

    source: str
    denied: bool = False
    remark: str = ""


def read_consent(
    answers: Iterable[tuple[str, str]], places: Iterable[tuple[str, str]], of_all: str
) -> Consent:
    """Returns the consent of a row.

    `answers` are the cells under headings of yes and no, `places` those under headings of where
    they agreed, each with its heading; `of_all` is what the operator says of the whole list. One
    no is enough, whatever stands beside it, and the row goes before the list: who says no is not
    made to agree by what holds for the others.
    """
    yes = ""
    for heading, cell in answers:
        word = _fold(cell)
        if word in YES:
            yes = yes or f"{heading}: {cell}"
        elif word in NOTHING or _NO.search(word):
            return Consent("", denied=True)
        elif cell:
            return _denial(
                heading,
                cell,
                _("“%(word)s” under %(heading)s is neither yes nor no: taken as no. If it says "
                  "where they agreed, name the column Consent source."),
            )  # fmt: skip
    where, nowhere = "", Consent("")
    for heading, cell in places:
        word = _fold(cell)
        no_place = _("“%(word)s” under %(heading)s is no place where they agreed: taken as no.")
        if cell and _says_nothing(word):
            nowhere = _denial(heading, cell, no_place)
        elif _NO.search(word):
            return _denial(heading, cell, no_place)
        else:
            where = where or cell
    if nowhere.denied and not (yes or where):
        return nowhere
    return Consent(where or of_all or yes)


def _fold(cell: str) -> str:
    return unicodedata.normalize("NFKC", cell).casefold().strip(" .!'\"()[]<>")


def _says_nothing(word: str) -> bool:
    """A mark, a number, `#N/A` of a spreadsheet or `\\N` of a database: nobody agreed there."""
    return word in NOTHING or word.startswith(("#", "\\")) or sum(map(str.isalpha, word)) < 2


def _denial(heading: str, cell: str, remark: str) -> Consent:
    return Consent("", denied=True, remark=remark % {"word": cell[:40], "heading": heading})
