"""python -m benchmarks NAME [ARGUMENTS]: runs benchmarks/NAME.py; without a name, lists them.

Each module has a `main(arguments)`, called before Django is set up, since some choose the database
from their arguments; its docstring's first line says what it measures. Timings are ratios within
one run: two runs on two machines say nothing about each other.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path


def names() -> dict[str, str]:
    """Returns {name: first line of its docstring} of the modules that can be run."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def run() -> None:
    known = names()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        for name, line in known.items():
            sys.stderr.write(f"  {name:<14}{line}\n")
        sys.exit(2)
    sys.exit(import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:]))


if __name__ == "__main__":
    run()
