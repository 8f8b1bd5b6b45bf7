from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from attachments.models import Attachment
from tests.attachments.files import PDF, jpeg
from tests.factories import PNG, AttachmentFactory

pytestmark = pytest.mark.django_db

UPLOAD = f"{reverse('attachments:upload')}?name=attachment"


def address(attachment: Attachment) -> str:
    return reverse("attachments:content", args=[attachment.pk])


def test_a_picture_is_shown_where_it_stands(viewer_client: Client) -> None:
    response = viewer_client.get(address(AttachmentFactory(name="a.png")))
    assert b"".join(response.streaming_content) == PNG
    assert response["Content-Type"] == "image/png"
    assert response["Content-Disposition"].startswith("inline")
    assert response["X-Content-Type-Options"] == "nosniff"
    # A browser puts a picture that is opened by itself on a page of its own, with styles in it.
    policy = "default-src 'none'; sandbox; style-src 'unsafe-inline'"
    assert response["Content-Security-Policy"] == policy


@pytest.mark.parametrize(
    ("name", "content"), [("a.pdf", PDF), ("a.txt", b"<script>alert(1)</script>")]
)
def test_a_document_is_for_saving_and_nothing_that_a_browser_runs(
    viewer_client: Client, name: str, content: bytes
) -> None:
    response = viewer_client.get(address(AttachmentFactory(name=name, content=content)))
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_what_a_browser_has_is_not_sent_again(viewer_client: Client) -> None:
    url = address(AttachmentFactory())
    etag = viewer_client.get(url)["ETag"]
    assert viewer_client.get(url, headers={"if-none-match": etag}).status_code == 304


def test_what_is_not_there_is_not_found(viewer_client: Client) -> None:
    assert viewer_client.get(reverse("attachments:content", args=[999])).status_code == 404


def test_an_upload_is_kept_and_shown_in_its_field(operator_client: Client) -> None:
    file = SimpleUploadedFile("Shop.png", PNG)
    response = operator_client.post(UPLOAD, {"attachment": file})
    attachment = Attachment.objects.get()
    text = response.content.decode()
    assert f'name="attachment-kept" value="{attachment.pk}"' in text
    assert address(attachment) in text
    assert response["HX-Trigger-After-Swap"] == "attached"


def test_a_refused_upload_says_why_and_leaves_the_one_before(operator_client: Client) -> None:
    before = AttachmentFactory()
    file = SimpleUploadedFile("song.png", b"ID3" + bytes(20))
    data = {"attachment": file, "attachment-kept": before.pk}
    response = operator_client.post(UPLOAD, data)
    text = response.content.decode()
    assert "none of the files that WhatsApp shows" in text
    assert f'value="{before.pk}"' in text
    assert "HX-Trigger-After-Swap" not in response
    assert list(Attachment.objects.all()) == [before]


@pytest.mark.parametrize("name", ["", "a b", '"><script>', "x" * 61])
def test_a_field_has_a_name(operator_client: Client, name: str) -> None:
    response = operator_client.post(reverse("attachments:upload", query={"name": name}))
    assert response.status_code == 404


def test_an_empty_file_is_refused(operator_client: Client) -> None:
    file = SimpleUploadedFile("a.png", b"")
    text = operator_client.post(UPLOAD, {"attachment": file}).content.decode()
    assert "This file is empty." in text


def test_a_picture_that_was_copied_in_part_is_refused_beside_its_field(
    operator_client: Client,
) -> None:
    file = SimpleUploadedFile("a.jpg", jpeg()[:-10])
    text = operator_client.post(UPLOAD, {"attachment": file}).content.decode()
    assert "its end is missing" in text
    assert not Attachment.objects.exists()
