from __future__ import annotations

import re
from collections.abc import Callable

from django.contrib.auth.decorators import user_passes_test
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.http import content_disposition_header
from django.views.decorators.http import condition, require_POST

from attachments.forms import UploadForm
from attachments.models import Attachment

LOOK = ("campaigns.view_campaign", "sequences.view_sequence", "broadcasts.view_broadcastmessage")
WRITE = (
    "campaigns.add_campaign", "campaigns.change_campaign",
    "sequences.add_sequence", "sequences.change_sequence",
)  # fmt: skip
FIELD_NAME = re.compile(r"[\w-]{1,60}")
# A browser makes nothing of these but a picture or a video. All else is for its owner to save.
INLINE = {"image/jpeg", "image/png", "video/mp4", "video/3gpp"}
SHUT = "default-src 'none'; sandbox"
# Opened by itself, a picture stands on a page of the browser's own making, with styles in it.
SHOWN_ALONE = f"{SHUT}; style-src 'unsafe-inline'"


def _may_any(*permissions: str) -> Callable[[User | AnonymousUser], bool]:
    """Whoever may see or write what carries a file may see or add it."""

    def passes(user: User | AnonymousUser) -> bool:
        if any(user.has_perm(permission) for permission in permissions):
            return True
        raise PermissionDenied

    return passes


def _etag(request: HttpRequest, pk: int) -> str | None:
    found = Attachment.objects.filter(pk=pk).values_list("sha256", flat=True).first()
    return f'"{found}"' if found else None


@user_passes_test(_may_any(*LOOK))
@condition(etag_func=_etag)
def content(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """What was uploaded, as itself: never as a page of ours, whatever is in it."""
    attachment = get_object_or_404(Attachment, pk=pk)
    inline = attachment.content_type in INLINE
    # Closed by a sandbox as well: it may be opened by itself, and documents may hold scripts.
    headers = {
        "Content-Length": str(attachment.size),
        "Content-Disposition": content_disposition_header(not inline, attachment.name) or "",
        "Content-Security-Policy": SHOWN_ALONE if inline else SHUT,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=86400, immutable",
    }
    kind = attachment.content_type if inline else "application/octet-stream"
    return StreamingHttpResponse(attachment.stream(), content_type=kind, headers=headers)


@require_POST
@user_passes_test(_may_any(*WRITE))
def upload(request: HttpRequest) -> HttpResponse:
    """Takes a file while the rest of its form is still being written; answers with the field."""
    if not FIELD_NAME.fullmatch(name := request.GET.get("name", "")):
        raise Http404
    form = UploadForm(name, request.POST, request.FILES)
    is_kept = form.is_valid()
    answer = render(request, "attachments/_field.html", {"field": form.field})
    if is_kept:
        answer["HX-Trigger-After-Swap"] = "attached"
    return answer
