"""What somebody reads whose form was refused, because it may be from elsewhere."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_NO_CSRF_COOKIE
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Says what is known of why, and leads back to the form. The log has the reason in full."""
    came_from = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(came_from, allowed_hosts={request.get_host()})
    context = {
        "has_no_cookie": reason == REASON_NO_CSRF_COOKIE,
        # Anything else is about the address that it came from.
        "is_outdated": reason.startswith("CSRF token"),
        "back": came_from if is_ours else reverse("overview"),
    }
    return render(request, "403_csrf.html", context, status=403)
