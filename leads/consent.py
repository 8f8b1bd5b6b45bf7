"""What a row of a list says of consent. Consent is what somebody gave: it is never guessed."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

YES = {"yes", "y", "true", "1", "✓", "✔", "agreed", "consented", "opted in", "ya", "setuju"}
NO = {
    "no", "n", "false", "0", "✗", "✘", "-", "none", "n/a", "na", "?", "unknown", "not yet",
    "declined", "refused", "opted out", "tidak", "tak", "tiada", "belum", "tidak setuju",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Consent:
    """Where somebody agreed, empty where they did not; `denied` where the list itself says so."""

    source: str
    denied: bool = False
    remark: str = ""


def read_consent(heading: str, cell: str, source: str, of_all: str) -> Consent:
    """Returns the consent of a row.

    `cell` is what stands under `heading`, the column of yes and no; `source` what its column of
    where they agreed holds; `of_all` what the operator says of the whole list. What the row says
    goes first: who says no is not made to agree by what holds for the others.
    """
    word = cell.casefold().rstrip(".!")
    says_where = source if source.casefold() not in NO else ""
    if word in YES:
        return Consent(says_where or of_all or f"{heading}: {cell}")
    if word in NO or (source and not says_where):
        return Consent("", denied=True)
    if word:
        remark = _(
            "“%(word)s” under %(heading)s is neither yes nor no: taken as no. If it says where "
            "they agreed, name the column Consent source."
        ) % {"word": cell[:40], "heading": heading}
        return Consent("", denied=True, remark=remark)
    return Consent(says_where or of_all)
