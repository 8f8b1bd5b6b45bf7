from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import PurePath
from typing import BinaryIO

from django.core.exceptions import ValidationError
from django.core.files.base import File
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from attachments.kinds import Recognised, recognise

# Each is one row and one packet: servers refuse larger ones than a megabyte, at their smallest.
PIECE_BYTES = 256 * 1024
# With a file the text is its caption, and WhatsApp takes no longer one.
CAPTION_CHARACTERS = 1024
# Whatever a file claims.
LONGEST_SIDE = 65_535
# A form may be open for so long with a file that no campaign or step has yet.
KEPT_FOR = timedelta(days=1)


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    def keep(self, file: File[bytes], name: str) -> Attachment:
        """Stores the file and returns its row; the same file of the same name is there once.

        Raises NotTaken.
        """
        content = _binary(file)
        found = recognise(content, name)
        name = clean_name(name, found)
        sha256, size = _measured(content)
        identity = {"sha256": sha256, "name": name}
        # An old one that nothing refers to is about to be swept away.
        if self.filter(**identity).update(kept_at=Now()):
            return self.get(**identity)
        try:
            with transaction.atomic():
                attachment = self.create(
                    kind=found.kind, content_type=found.content_type, size=size,
                    width=min(found.width, LONGEST_SIDE), height=min(found.height, LONGEST_SIDE),
                    kept_at=Now(), **identity,
                )  # fmt: skip
                for number, piece in enumerate(_pieces(content)):
                    attachment.pieces.create(number=number, content=piece)
        except IntegrityError:  # the same upload came twice at once
            pass
        return self.get(**identity)

    def mark_carried(self) -> None:
        """Notes that messages carry these, before the first of them is queued."""
        self.filter(is_carried=False).update(is_carried=True)

    def sweep(self) -> int:
        """Deletes what nothing refers to and no form can be open with; returns how many."""
        loose = self.filter(
            is_carried=False, campaigns=None, steps=None, kept_at__lt=Now() - KEPT_FOR
        )
        swept = 0
        for attachment in loose:
            try:
                with transaction.atomic():
                    attachment.delete()
                    swept += 1
            except IntegrityError:  # a draft took it this moment
                continue
        return swept


class Attachment(models.Model):
    """A picture, video or document that messages carry. Never changed: what was previewed is sent.

    What is in it is in the database, which is all that web, scheduler and broadcasters share:
    they may be on different hosts.
    """

    class Kind(models.TextChoices):
        IMAGE = "image", _("picture")
        VIDEO = "video", _("video")
        DOCUMENT = "document", _("document")

    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    content_type = models.CharField(_("type"), max_length=100)
    name = models.CharField(_("file name"), max_length=120)
    size = models.PositiveIntegerField(_("size"))
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    # Then it stays, for the history of those messages, even if its step has another by now.
    is_carried = models.BooleanField(default=False, editable=False)
    kept_at = models.DateTimeField(_("uploaded"))

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        db_table = "attachments"
        ordering = ["-pk"]
        default_permissions = ()  # who may see or write what carries it may see and add it
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        constraints = [
            models.UniqueConstraint(fields=["sha256", "name"], name="unique_attachment_file")
        ]

    def __str__(self) -> str:
        return self.name

    def check_caption(self, text: str, *, filled: int, field: str) -> None:
        """Raises ValidationError, about this field, if the text is too long to be its caption, or
        may be once names are `filled` in: it is never cut."""
        if filled <= CAPTION_CHARACTERS:
            return
        said = _("With a file the text is its caption, of %(most)s characters at most; it has "
                 "%(length)s.")  # fmt: skip
        if filled != len(text):
            said = _("With a file the text is its caption, of %(most)s characters at most; it has "
                     "%(length)s, and with the longest name %(filled)s.")  # fmt: skip
        figures = {"most": CAPTION_CHARACTERS, "length": len(text), "filled": filled}
        params = {name: f"{number:,}" for name, number in figures.items()}
        raise ValidationError({field: ValidationError(said, code="caption", params=params)})

    def stream(self) -> Iterator[bytes]:
        """Yields what is in it, piece by piece."""
        numbers = range(-(-self.size // PIECE_BYTES))
        pieces = AttachmentPiece.objects.filter(attachment=self)
        for number in numbers:
            yield bytes(pieces.values_list("content", flat=True).get(number=number))

    def read(self) -> bytes:
        """Returns what is in it; raises ValueError if that is not what was uploaded."""
        content = b"".join(self.stream())
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError(f"attachment {self.pk} is damaged")
        return content


class AttachmentPiece(models.Model):
    attachment = models.ForeignKey(
        Attachment, on_delete=models.CASCADE, related_name="pieces", db_index=False
    )
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        db_table = "attachment_pieces"
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["attachment", "number"], name="unique_attachment_piece")
        ]

    def __str__(self) -> str:
        return f"{self.attachment_id}/{self.number}"


def clean_name(name: str, found: Recognised) -> str:
    """Returns the name that people see: no folder, nothing that cannot be printed, and the ending
    that fits what the file is."""
    printable = "".join(character for character in name if character.isprintable())
    path = PurePath(printable.replace("\\", "/").rpartition("/")[2].strip(" .") or "file")
    suffix = path.suffix.lower()
    same = {".jpg": {".jpg", ".jpeg"}, ".mp4": {".mp4", ".m4v"}}.get(found.suffix, {found.suffix})
    ending = path.suffix if suffix in same else found.suffix
    return (path.stem if path.suffix else path.name)[: 120 - len(ending)] + ending


def _binary(file: File[bytes]) -> BinaryIO:
    return file.file if hasattr(file, "file") and file.file is not None else file  # type: ignore[return-value]


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    content.seek(0)
    while piece := content.read(PIECE_BYTES):
        yield piece


def _measured(content: BinaryIO) -> tuple[str, int]:
    """Returns the hash of a file and how long it is."""
    hashed, size = hashlib.sha256(), 0
    for piece in _pieces(content):
        hashed.update(piece)
        size += len(piece)
    return hashed.hexdigest(), size
