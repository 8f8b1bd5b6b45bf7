"""Why no broadcaster holds a device, where broadcasters with room for it run."""

from __future__ import annotations

from django import template
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as _

from broadcasts.models import Worker
from devices.models import Device

register = template.Library()


@register.simple_tag
def broadcasters_have_room() -> object:
    """Asked only when it is needed: most pages have no device that it matters for."""
    return SimpleLazyObject(Worker.objects.alive().have_room)


@register.filter
def unheld(device: Device, room: bool) -> str:
    """Says why nobody holds it. What went wrong when it was held says its own reason."""
    is_left = device.state == Device.Status.OFFLINE and not device.is_leased
    if not (device.session and is_left and not device.status_reason and room):
        return ""
    return _(
        "No broadcaster has its session file. Start one on the host where it was paired, or pair "
        "it again."
    )
