from __future__ import annotations

import pytest

from broadcasts.inbound import is_opt_out


@pytest.mark.parametrize(
    ("text", "wants_out"),
    [
        ("STOP", True),
        ("  stop. ", True),
        ("*Berhenti*!", True),
        ("退订", True),
        ("When does the offer stop?", False),
        ("don't stop", False),
        ("", False),
    ],
)
def test_only_the_word_alone_opts_out(text: str, wants_out: bool) -> None:
    assert is_opt_out(text) is wants_out
