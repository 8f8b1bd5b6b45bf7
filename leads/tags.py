from __future__ import annotations

import re
import unicodedata

_SEPARATORS = re.compile(r"[,;|\n]")
_SPACES = re.compile(r"\s+")


def fold_tag(text: str) -> str:
    """Returns the one spelling of a niche or trigger: NFKC, single spaces, upper case."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().upper()


def split_tags(text: str) -> list[str]:
    """Returns the folded tags of a cell like "VITAC, exstart", each once, in their order."""
    return list(dict.fromkeys(tag for part in _SEPARATORS.split(text) if (tag := fold_tag(part))))
