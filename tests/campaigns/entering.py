"""What a browser posts for a campaign."""

from __future__ import annotations

from typing import Any


def entered(**changes: Any) -> dict[str, Any]:
    return {
        "title": "October restock",
        "message": "Hi {name|there}, it is back.",
        "target_status": "",
        "when": "now",
        "timezone": "Asia/Kuala_Lumpur",
        "min_delay_seconds": "0",
        "max_delay_seconds": "0",
    } | changes
