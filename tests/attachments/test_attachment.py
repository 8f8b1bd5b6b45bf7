from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.db.models.functions import Now

from attachments.models import KEPT_FOR, PIECE_BYTES, Attachment, AttachmentPiece
from broadcasts.tasks import tidy_up
from tests.attachments.files import PDF, jpeg
from tests.factories import AttachmentFactory, CampaignFactory, SequenceStepFactory

pytestmark = pytest.mark.django_db


def age(attachment: Attachment, by: timedelta) -> None:
    Attachment.objects.filter(pk=attachment.pk).update(kept_at=Now() - by)


def test_what_was_uploaded_is_read_back_byte_by_byte() -> None:
    content = PDF + bytes(range(256)) * 4000
    attachment = AttachmentFactory(name="Prices.pdf", content=content)
    assert attachment.pieces.count() == -(-len(content) // PIECE_BYTES) > 3
    assert attachment.read() == content
    assert (attachment.kind, attachment.size, attachment.name) == (
        "document", len(content), "Prices.pdf",
    )  # fmt: skip


def test_the_same_file_is_kept_once_and_another_name_is_another_file() -> None:
    first = AttachmentFactory(name="a.png")
    assert AttachmentFactory(name="a.png") == first
    assert AttachmentFactory(name="b.png") != first


def test_a_damaged_file_is_never_sent() -> None:
    attachment = AttachmentFactory()
    AttachmentPiece.objects.update(content=b"something else")
    with pytest.raises(ValueError, match="damaged"):
        attachment.read()


def test_no_picture_is_larger_than_a_column_can_say() -> None:
    assert AttachmentFactory(content=jpeg(65_535, 1), name="a.jpg").width == 65_535
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 8
    content = ContentFile(head + bytes(9) + b"\0\0\0\0IEND" + bytes(4))
    assert Attachment.objects.keep(content, "a.png").width == 65_535


def test_what_nothing_refers_to_is_swept_away_after_a_day() -> None:
    attachment = AttachmentFactory()
    assert Attachment.objects.sweep() == 0
    age(attachment, KEPT_FOR + timedelta(minutes=1))
    tidy_up()
    assert not Attachment.objects.exists()
    assert not AttachmentPiece.objects.exists()


def test_an_old_file_that_is_uploaded_again_is_young() -> None:
    age(AttachmentFactory(name="a.png"), KEPT_FOR * 2)
    AttachmentFactory(name="a.png")
    assert Attachment.objects.sweep() == 0


def test_what_a_campaign_a_step_or_a_message_carries_stays() -> None:
    carried = AttachmentFactory.create_batch(3)
    CampaignFactory(attachment=carried[0])
    SequenceStepFactory(attachment=carried[1])
    Attachment.objects.filter(pk=carried[2].pk).mark_carried()
    for attachment in carried:
        age(attachment, KEPT_FOR * 2)
    assert Attachment.objects.sweep() == 0
