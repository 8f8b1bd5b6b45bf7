"""Has a Python process take the double for WhatsApp as soon as it has imported neonize.

Python imports a module of this name at its start if it finds one, and `Double.environment` sees to
it that it finds this. So whatever uses neonize, our own commands too, talks to the double without
knowing of it, and without a word about it in any code but the tests'.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOT = str(Path(__file__).resolve().parents[3])


class Deceiver(MetaPathFinder, Loader):
    """Imports neonize as everybody does, then changes what it trusts."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "neonize":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            self._loader, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        sys.meta_path.remove(self)  # only now: some look for a module without importing it
        self._loader.exec_module(module)
        sys.path.append(ROOT)
        from tests.whatsapp.memory import trust

        trust()


sys.meta_path.insert(0, Deceiver())
