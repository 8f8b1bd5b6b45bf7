"""What the page says between uploading a list and importing it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from tests.factories import LeadFactory
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


@pytest.mark.parametrize(
    ("rows", "button"),
    [
        ("0123456781,Siti\n0123456782,Tan\n", "Import 2 new leads"),
        ("0123456781,Siti\n0123456780,Ali\n", "Import 1 new lead"),
        ("0123456781,Siti\n0123456780,Abu\n", "Import 1 new lead, update 1"),
        ("0123456780,Abu\n123,Nobody\n", "Update 1 lead"),
    ],
)
def test_the_button_says_what_importing_changes(
    operator_client: Client, rows: str, button: str
) -> None:
    LeadFactory(phone="60123456780", name="Ali")
    page = review(operator_client, f"Phone,Name\n{rows}")
    assert f"{button}</button>" in page
    assert "would change nothing" not in page


def test_a_list_that_is_here_already_offers_no_import(operator_client: Client) -> None:
    LeadFactory(phone="60123456780", name="Ali")
    LeadFactory(phone="60123456781", name="Siti")
    page = review(operator_client, "Phone,Name\n0123456780,Ali\n0123456781,\n0123456781,Siti\n")
    assert "2 leads of this list are here already." in page
    assert "Importing it would change nothing." in page
    assert reverse("leads:import") not in page
    assert reverse("leads:discard") in page


def test_a_list_of_which_no_row_can_be_used_is_not_said_to_be_here(operator_client: Client) -> None:
    page = review(operator_client, "Phone\n123\n")
    assert "would change nothing" not in page
    assert reverse("leads:import") not in page


def test_a_file_of_headings_alone_is_refused_where_it_is_chosen(operator_client: Client) -> None:
    response = upload(operator_client, "Name,Phone\n,\n")
    said = "The file has no rows below its headings: Name, Phone."
    assert response.context["form"].errors["file"] == [said]
    assert operator_client.get(reverse("leads:review")).status_code == 302, "nothing was kept"
