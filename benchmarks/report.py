"""What every benchmark prints: a table, the machine it ran on, the versions, and JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("django", "django-q2", "mysqlclient", "celery")


def report(name: str, rows: Sequence[Mapping[str, Any]], **facts: Any) -> None:
    """Prints `rows` (dicts of the same keys) as a table, then everything as one line of JSON.

    `facts` are what holds for all rows: the server's version, how many devices, and so on.
    """
    about = {"benchmark": name, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    about |= _machine() | facts
    out = sys.stdout
    out.write("".join(f"{key:<24}{value}\n" for key, value in about.items()) + "\n")
    heads = list(rows[0])
    cells = [heads] + [[_cell(row[head]) for head in heads] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        first, *rest = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        out.write("  ".join([first, *(cell.strip().rjust(len(cell)) for cell in rest)]) + "\n")
    out.write("\n" + json.dumps(about | {"rows": list(rows)}, default=str) + "\n")
    out.flush()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _machine() -> dict[str, Any]:
    cpu = "unknown"
    if (info := Path("/proc/cpuinfo")).exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(": ")[2] if models else cpu
    return {
        "machine": f"{os.cpu_count()} x {cpu}",
        "load before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
    } | {name: found for name in PACKAGES if (found := _version(name))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None
