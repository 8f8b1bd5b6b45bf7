"""The field with which forms take a file, and keep it when something else in them is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attachments.kinds import NotTaken
from attachments.models import Attachment

# What the dialog of the operating system offers; what a file is, its content says.
ACCEPT = (
    "image/jpeg,image/png,video/mp4,video/3gpp,application/pdf,.doc,.docx,.xls,.xlsx,.ppt,.pptx,"
    ".odt,.ods,.odp,.zip,.txt,.csv,.vcf"
)
HINT = gettext_lazy(
    "Optional; the text is its caption, and may be empty then. JPEG or PNG up to 5 MB, MP4 up to "
    "16 MB, PDF, Office and other documents up to 16 MB."
)


@dataclass(frozen=True)
class Chosen:
    """What a form was sent for the field: a new file, the one it had, or neither; and the name of
    one that was refused before, and why, as long as nobody has said to go on without it."""

    upload: UploadedFile[bytes] | None = None
    kept: str = ""
    refused: str = ""
    why: str = ""


class AttachmentInput(forms.FileInput):
    """A file, and beside it which one is there already: browsers send no file a second time."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"accept": ACCEPT, **(attrs or {})})

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Chosen:
        removed = data.get(f"{name}-remove")
        kept = "" if removed else data.get(f"{name}-kept", "")
        refused = "" if data.get(f"{name}-without") else data.get(f"{name}-refused", "")
        kept = kept if kept.isdecimal() and len(kept) < 19 else ""
        why = data.get(f"{name}-why", "") if refused else ""
        return Chosen(files.get(name), kept, refused[:100], why[:300])

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in files and f"{name}-kept" not in data

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        # Taken as soon as it is chosen: what is wrong with it is told before the rest is written.
        sends = {
            "hx-post": f"{reverse('attachments:upload')}?name={name}",
            "hx-params": f"{name},{name}-kept",
            "hx-encoding": "multipart/form-data",
            "hx-target": "closest .attachment",
            "hx-swap": "outerHTML",
            # Apart from what its page asks: neither is another's in place of which it is sent, and
            # the page hears of it once the file is there.
            "hx-sync": "this:replace",
            "hx-trigger": "change consume",
        }
        return super().get_context(name, value, sends | (attrs or {}))


class BoundAttachment(forms.BoundField):
    """Knows which file a page is to show: one that was sent this moment, or the one before."""

    @property
    def attachment(self) -> Attachment | None:
        value = self.value()
        if not isinstance(value, Chosen):
            return _find(value) if value else None
        taken: Attachment | None = getattr(value.upload, "attachment", None)
        return taken or (_find(value.kept) if value.kept else None)

    @property
    def refused(self) -> str:
        """The name of the file that was not taken. The browser has forgotten it by now."""
        value = self.value()
        if not (self.errors and isinstance(value, Chosen)):
            return ""
        return str(value.upload.name)[:100] if value.upload else value.refused

    @property
    def why(self) -> str:
        """Why it was not taken: only who looked into it knows, and the page is sent once more."""
        value = self.value()
        if not (self.errors and isinstance(value, Chosen)):
            return ""
        return str(self.errors[0]) if value.upload else value.why


class AttachmentField(forms.Field):
    """Takes a file at once, whatever else is wrong with the form; its value is an Attachment."""

    widget = AttachmentInput

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> BoundAttachment:
        return BoundAttachment(form, self, field_name)

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", gettext_lazy("Picture, video or document"))
        kwargs.setdefault("required", False)
        kwargs.setdefault("help_text", HINT)
        super().__init__(**kwargs)

    def clean(self, value: Chosen) -> Attachment | None:
        if value.upload is None and value.refused:
            said = _("%(name)s was not taken.") % {"name": value.refused}
            helps = _("Choose another file, or say to go on without it.")
            raise ValidationError(" ".join(filter(None, (said, value.why, helps))))
        if value.upload is None:
            return self._kept(value.kept)
        upload = value.upload
        if not hasattr(upload, "attachment"):
            upload.attachment = self._taken(upload)  # type: ignore[attr-defined]  # see BoundAttachment
        found: Attachment = upload.attachment  # type: ignore[attr-defined]
        return found

    def _kept(self, pk: str) -> Attachment | None:
        if not pk:
            return None
        found = _find(pk)
        if found is None:
            raise ValidationError(_("The file is not here any more. Choose it again."))
        return found

    def _taken(self, upload: UploadedFile[bytes]) -> Attachment:
        if not upload.size:
            raise ValidationError(_("This file is empty."))
        try:
            return Attachment.objects.keep(upload, upload.name or "")
        except NotTaken as error:
            raise ValidationError(str(error.reason)) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return data.upload is not None or str(initial or "") != data.kept


def _find(pk: str | int) -> Attachment | None:
    return Attachment.objects.filter(pk=pk).first()


class UploadForm(forms.Form):
    """The field alone, under the name that it has in its page's form."""

    def __init__(self, name: str, *args: Any) -> None:
        super().__init__(*args)
        self.fields[name] = AttachmentField()
        self.field = self[name]
