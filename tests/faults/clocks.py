"""Wrong wall clocks: a library that shifts a process's, and the files that say by how much."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

SHIFT_SECONDS = 600


class Clocks:
    """Clocks of some processes that are ten minutes ahead or behind, and can be moved meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, folder / "clock.so"
        self.shifts: dict[str, int] = {}
        compiler = shutil.which("cc") or shutil.which("gcc")
        # Without it all clocks stay right, and the audit says so.
        self.can_be_wrong = bool(compiler) and sys.platform == "linux"
        if self.can_be_wrong:
            source = Path(__file__).with_name("clock.c")
            command = [str(compiler), "-shared", "-fPIC", "-O2", "-o", self.library, source]
            subprocess.run(command, check=True)

    def environment(self, name: str, seconds: int) -> dict[str, str]:
        """Returns what makes a process's clock wrong by so much, and movable under this name."""
        if not self.can_be_wrong:
            return {}
        self._set(name, seconds)
        return {"LD_PRELOAD": str(self.library), "CLOCK_SHIFT_FILE": str(self._file(name))}

    def move(self) -> str:
        """Whoever was ahead is behind now, and the other way round."""
        for name, seconds in self.shifts.items():
            self._set(name, -seconds)
        return ", ".join(f"{name} {seconds:+} s" for name, seconds in self.shifts.items())

    def _set(self, name: str, seconds: int) -> None:
        self.shifts[name] = seconds
        # In place: whoever runs already has this very file mapped.
        with self._file(name).open("r+b" if self._file(name).exists() else "wb") as file:
            file.write(struct.pack("@q", seconds))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.shift"
