"""What the page says between uploading a list and importing it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from tests.leads.pressing import press

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _upload_folder(settings: Any, tmp_path: Path) -> None:
    settings.BASE_DIR = tmp_path


def upload(client: Client, content: str, **data: str) -> Any:
    file = SimpleUploadedFile("leads.csv", content.encode())
    return client.post(reverse("leads:upload"), {"file": file, **data})


def review(client: Client, content: str, **data: str) -> str:
    """Uploads the list and returns what its page says."""
    upload(client, content, **data)
    return html.unescape(client.get(reverse("leads:review")).content.decode())


def test_a_long_cell_is_cut_in_the_table_and_opens_to_the_whole(operator_client: Client) -> None:
    text = "x" * 300
    page = review(operator_client, f"Phone,Name\n123,{text}\n124,Ali\n")
    assert f"<summary>123 · {'x' * 83}…</summary>123 · {text}</details>" in page
    assert page.count("<details>") == 1


def test_a_second_column_of_numbers_is_said_to_be_one_before_and_after(
    operator_client: Client,
) -> None:
    before = review(operator_client, "No Tel,Nama,Full name,Phone 2,Birthday\n0123456789,Ali,,,\n")
    press(operator_client, "import")
    after = html.unescape(operator_client.get(reverse("leads:review")).content.decode())
    for page in (before, after):
        assert "read from “No Tel”, and these numbers are ignored: Phone 2." in page
        assert "The name is read from “Full name”; ignored beside it: Nama." in page
        assert "ignored: <b>Birthday</b>" in page
