"""What scripts/demo says before it does anything."""

from __future__ import annotations

import os
import subprocess

import pytest
from django.conf import settings


@pytest.mark.parametrize("port", ["abc", "0", "65536", "8 0"])
def test_a_port_that_cannot_be_is_refused_in_words(port: str) -> None:
    demo = subprocess.run(
        [settings.BASE_DIR / "scripts" / "demo", "--once"],
        env={**os.environ, "PORT": port},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert demo.returncode == 1
    assert demo.stderr.startswith(f"PORT={port} is no port.")
    assert len(demo.stderr.splitlines()) == 1


@pytest.mark.parametrize("other", [["--once"], ["--leads", "leads.csv"]])
def test_what_begins_anew_does_not_go_on_with_a_former_demo(other: list[str]) -> None:
    demo = subprocess.run(
        [settings.BASE_DIR / "scripts" / "demo", "--keep", *other],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert demo.returncode == 1
    assert demo.stderr.startswith("--keep goes on with the people and the campaigns")
    assert len(demo.stderr.splitlines()) == 1
