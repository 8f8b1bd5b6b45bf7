"""A campaign with a file: written, previewed, queued, sent."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from attachments.models import Attachment
from broadcasts.models import BroadcastMessage
from campaigns.fanout import fan_out
from campaigns.models import Campaign
from tests.attachments.files import PDF
from tests.campaigns.test_views_compose import NEW, PREVIEW, entered, url
from tests.factories import (
    PNG,
    AttachmentFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)

pytestmark = pytest.mark.django_db


def picture(name: str = "Shop.png", content: bytes = PNG) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def shows(attachment: Attachment) -> str:
    return f'src="{reverse("attachments:content", args=[attachment.pk])}"'


def test_a_draft_is_saved_with_its_file(operator_client: Client) -> None:
    operator_client.post(NEW, entered(then="save", attachment=picture()))
    campaign = Campaign.objects.get()
    assert campaign.attachment
    assert campaign.attachment.name == "Shop.png"
    page = operator_client.get(url("edit", campaign)).content.decode()
    assert f'name="attachment-kept" value="{campaign.attachment.pk}"' in page
    assert page.count(shows(campaign.attachment)) == 2  # in its field, and in the bubble


def test_a_file_needs_no_text(operator_client: Client) -> None:
    operator_client.post(NEW, entered(then="save", message=" ", attachment=picture()))
    campaign = Campaign.objects.get()
    assert (campaign.message, str(campaign.attachment)) == ("", "Shop.png")
    DeviceFactory(online=True)
    LeadFactory()
    page = operator_client.get(url("review", campaign)).content.decode()
    assert "Send 1 message" in page
    assert shows(campaign.attachment) in page


def test_neither_a_text_nor_a_file_is_an_error_at_the_text(operator_client: Client) -> None:
    page = operator_client.post(NEW, entered(then="save", message="")).content.decode()
    assert "Write a text, or add a file" in page
    assert 'id="id_message_error"' in page
    draft = CampaignFactory(message="", attachment=AttachmentFactory())
    data = {"attachment-kept": draft.attachment.pk, "attachment-remove": "1", "message": ""}
    page = operator_client.post(url("edit", draft), entered(then="save", **data)).content.decode()
    assert "Write a text, or add a file" in page
    draft.refresh_from_db()
    assert draft.attachment


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * 4097, "Ensure this value has at most 4096 characters"),
        ("Hi\x00", "Null characters are not allowed."),
    ],
)
@pytest.mark.parametrize("stored", [None, "", "x" * 2000])
def test_a_text_that_is_refused_is_said_to_be_that_and_not_to_be_missing(
    operator_client: Client, text: str, says: str, stored: str | None
) -> None:
    """Not even where the one before was, or was too long for the file that is added."""
    to = NEW if stored is None else url("edit", CampaignFactory(message=stored))
    data = entered(then="save", message=text, attachment=picture())
    page = operator_client.post(to, data)
    errors = page.context["form"].errors
    assert list(errors) == ["message"]
    assert len(errors["message"]) == 1
    assert says in errors["message"][0]
    assert page.context["form"]["message"].value() == text


def test_a_file_that_is_refused_is_not_said_to_be_missing(operator_client: Client) -> None:
    refused = picture("song.mp3", b"ID3" + bytes(99))
    data = entered(then="save", message="", attachment=refused)
    assert list(operator_client.post(NEW, data).context["form"].errors) == ["attachment"]
    data |= {"message": "Hi {nme}", "attachment": picture("song.mp3", b"ID3" + bytes(99))}
    both = operator_client.post(NEW, data).context["form"].errors
    assert list(both) == ["attachment", "message"]
    assert "Unknown: {nme}" in both["message"][0]


def test_only_the_same_file_says_the_same_without_a_text(operator_client: Client) -> None:
    attachment = AttachmentFactory()
    CampaignFactory(sending=True, message="", attachment=attachment, title="October")
    same = CampaignFactory(message="", attachment=attachment)
    other = CampaignFactory(message="", attachment=AttachmentFactory(name="Other.png"))
    assert "says the same" in operator_client.get(url("review", same)).content.decode()
    assert "says the same" not in operator_client.get(url("review", other)).content.decode()
    assert "says the same" not in operator_client.get(NEW).content.decode()


def test_a_file_is_not_asked_for_again_when_something_else_is_wrong(
    operator_client: Client,
) -> None:
    page = operator_client.post(NEW, entered(then="save", title="", attachment=picture()))
    attachment = Attachment.objects.get()
    assert f'name="attachment-kept" value="{attachment.pk}"' in page.content.decode()
    operator_client.post(NEW, entered(then="save", **{"attachment-kept": attachment.pk}))
    assert Campaign.objects.get().attachment == attachment


def test_a_refused_file_leaves_what_was_written(operator_client: Client) -> None:
    refused = picture("song.mp3", b"ID3" + bytes(99))
    data = entered(then="save", message="Long *text*, written with love", attachment=refused)
    page = operator_client.post(NEW, data).content.decode()
    assert "none of the files that WhatsApp shows" in page
    assert 'id="id_attachment_error"' in page
    assert "Long *text*, written with love" in page
    assert not Campaign.objects.exists()


@pytest.mark.parametrize("more", [{"attachment-remove": "1"}, {"attachment-kept": ""}])
def test_a_file_is_taken_away_again(operator_client: Client, more: dict[str, str]) -> None:
    draft = CampaignFactory(attachment=AttachmentFactory())
    kept: dict[str, Any] = {"attachment-kept": draft.attachment.pk}
    operator_client.post(url("edit", draft), entered(then="save", **(kept | more)))
    draft.refresh_from_db()
    assert draft.attachment is None


@pytest.mark.parametrize("kept", ["999", "x", "9" * 30])
def test_a_file_that_is_not_there_is_said_or_none(operator_client: Client, kept: str) -> None:
    page = operator_client.post(NEW, entered(then="save", **{"attachment-kept": kept}))
    is_number = kept == "999"
    assert ("not here any more" in page.content.decode()) is is_number
    assert Campaign.objects.exists() is not is_number


def test_a_text_too_long_for_a_caption_is_an_error_at_the_text(operator_client: Client) -> None:
    long = entered(then="save", message="x" * 1025)
    page = operator_client.post(NEW, long | {"attachment": picture()}).content.decode()
    assert "of 1,024 characters at most; it has 1,025" in page
    assert 'id="id_message_error"' in page
    operator_client.post(NEW, long)
    assert Campaign.objects.get().attachment is None


@pytest.mark.parametrize(
    ("placeholder", "most"), [("{name}", 874), ("{phone}", 1004), (f"{{name|{'y' * 200}}}", 824)]
)
def test_a_caption_that_a_long_name_would_make_too_long_is_an_error_at_the_text(
    operator_client: Client, placeholder: str, most: int
) -> None:
    for count, fits in ((most + 1, False), (most, True)):
        text = entered(then="save", message="x" * count + placeholder, attachment=picture())
        page = operator_client.post(NEW, text)
        assert ("with the longest name 1,025" in page.content.decode()) is not fits
        assert Campaign.objects.exists() is fits


def test_line_breaks_of_a_browser_are_single_characters(operator_client: Client) -> None:
    text = "x" * 1000 + "\r\n" * 24
    operator_client.post(NEW, entered(then="save", message=f"{text}.", attachment=picture()))
    assert not Campaign.objects.exists()  # 1,025
    operator_client.post(NEW, entered(then="save", message="Hi,\r\n\r\nnew"))
    assert Campaign.objects.get().message == "Hi,\n\nnew"


def test_the_preview_the_review_and_the_campaign_show_it(operator_client: Client) -> None:
    DeviceFactory(online=True)
    LeadFactory()
    attachment = AttachmentFactory()
    preview = operator_client.post(PREVIEW, entered(**{"attachment-kept": attachment.pk}))
    assert shows(attachment) in preview.content.decode()
    draft = CampaignFactory(attachment=attachment)
    assert shows(attachment) in operator_client.get(url("review", draft)).content.decode()
    assert shows(attachment) in operator_client.get(url("detail", draft)).content.decode()


def test_a_document_is_shown_by_its_name(operator_client: Client) -> None:
    draft = CampaignFactory(attachment=AttachmentFactory(name="Harga <b>.pdf", content=PDF))
    page = operator_client.get(url("detail", draft)).content.decode()
    assert "Harga &lt;b&gt;.pdf" in page


def test_a_copy_carries_the_same_file(operator_client: Client) -> None:
    original = CampaignFactory(attachment=AttachmentFactory())
    operator_client.post(url("clone", original))
    assert Campaign.objects.exclude(pk=original.pk).get().attachment == original.attachment


@pytest.mark.parametrize("message", ["Hi {name|there}", "Hi {first_name}, {niche}", ""])
def test_each_message_of_a_campaign_carries_its_file(message: str) -> None:
    DeviceFactory(online=True)
    LeadFactory.create_batch(3)
    left_out = LeadFactory(opted_out=True)
    campaign = CampaignFactory(
        sending=True, status="queuing", fanned_out_at=None, message=message,
        attachment=AttachmentFactory(),
    )  # fmt: skip
    fan_out(campaign)
    messages = BroadcastMessage.objects.exclude(lead=left_out)
    assert [message.carried for message in messages] == [campaign.attachment] * 3
    assert all(bool(sent.body) is bool(message) for sent in messages)


def test_a_refused_file_is_not_forgotten_by_the_form_that_is_sent_afterwards(
    operator_client: Client,
) -> None:
    """A browser has forgotten the file by then: the campaign would go out without it."""
    upload = f"{reverse('attachments:upload')}?name=attachment"
    answer = operator_client.post(upload, {"attachment": picture("song.mp3", b"ID3" + bytes(99))})
    assert 'name="attachment-refused" value="song.mp3"' in answer.content.decode()

    why = answer.context["field"].why
    assert "none of the files that WhatsApp shows" in why
    sent = {"then": "save", "attachment-refused": "song.mp3", "attachment-why": why}
    for _again in range(2):
        page = operator_client.post(NEW, entered(**sent))
        [said] = page.context["form"].errors["attachment"]
        assert said.startswith(f"song.mp3 was not taken. {why} Choose another file")
        assert page.context["form"]["attachment"].why == why
        assert "Go on without song.mp3" in page.content.decode()
    assert not Campaign.objects.exists()

    operator_client.post(NEW, entered(**sent, **{"attachment-without": "1"}))
    assert Campaign.objects.get().attachment is None


def test_another_file_takes_the_place_of_one_that_was_refused(operator_client: Client) -> None:
    sent = entered(then="save", message="Hello", attachment=picture("a.png"))
    operator_client.post(NEW, sent | {"attachment-refused": "song.mp3"})
    assert Campaign.objects.get().attachment
