from __future__ import annotations

import pytest

from leads.versions import Outdated, Version, digest


def test_a_save_over_a_version_that_was_not_shown_is_refused_once() -> None:
    version = Version.posted("second", {"version": "first"})
    with pytest.raises(Outdated):
        version.check("second", has_changes=True)
    assert version.shown == "second"
    version.check("second", has_changes=True)


def test_what_changes_nothing_overwrites_nothing() -> None:
    Version.posted("second", {"version": "first"}).check("second", has_changes=False)


def test_what_is_saved_at_the_very_moment_is_not_overwritten_either() -> None:
    with pytest.raises(Outdated):
        Version.posted("first", {"version": "first"}).check("second", has_changes=False)


def test_a_page_that_names_no_version_is_taken_to_show_what_is_stored() -> None:
    Version.posted("first", {}).check("first", has_changes=True)


def test_no_two_lists_of_values_look_the_same() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(1, [2]) == digest(1, [2])
