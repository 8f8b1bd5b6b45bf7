from __future__ import annotations

import pytest

from leads.tags import fold_tag, split_tags


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("VITAC", "VITAC"),
        (" vitac ", "VITAC"),
        ("Hot\u00a0 Vitac", "HOT VITAC"),
        ("ｖｉｔａｃ", "VITAC"),  # noqa: RUF001 (full width)
        ("", ""),
    ],
)
def test_a_tag_has_one_spelling(text: str, tag: str) -> None:
    assert fold_tag(text) == tag


def test_a_cell_holds_several_tags_each_once() -> None:
    assert split_tags("VITAC, exstart;vitac\n TITAN ,, ") == ["VITAC", "EXSTART", "TITAN"]
    assert split_tags("") == []
