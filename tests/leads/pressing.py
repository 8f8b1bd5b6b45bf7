from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from leads.uploads import Upload


def press(client: Client, button: str, **options: Any) -> Any:
    """Posts a button of the page that shows this client's upload: "import" or "discard"."""
    kept = Upload.of(client.session)
    return client.post(reverse(f"leads:{button}"), {"upload": kept.mark if kept else ""}, **options)
