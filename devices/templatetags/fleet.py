from __future__ import annotations

from django import template

from devices.models import Device

register = template.Library()


@register.simple_tag
def there_are_devices() -> bool:
    """Returns whether there is a device at all, whatever its state."""
    return Device.objects.kept().exists()
