"""Shows what a message carries, above its text."""

from __future__ import annotations

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.simple_tag
def attached(attachment: object | None) -> SafeString:
    """Returns the attachment as its reader gets it, nothing where there is none.

    Without a line break around it: in a bubble each one shows.
    """
    if not attachment:
        return SafeString()
    shown = render_to_string("attachments/_shown.html", {"attachment": attachment})
    return mark_safe(shown.strip())  # noqa: S308 (a template's)
