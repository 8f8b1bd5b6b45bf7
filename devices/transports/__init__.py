"""How devices reach WhatsApp. Sessions are opened by the broadcaster only."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import cache
from typing import TYPE_CHECKING, cast

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from devices.transports.base import Transport

# Whose devices have to be paired with a phone first: known without importing them.
PAIRED = frozenset({"neonize"})


@cache
def transport(name: str) -> Transport:
    """Returns the transport that devices name in their `transport` field, one a process.

    Imported when first used: a transport's library may start threads or a foreign runtime.
    Raises LookupError for a name that settings.TRANSPORTS does not have.
    """
    if name not in settings.TRANSPORTS:
        raise LookupError(missing(name))
    return cast("Transport", import_string(settings.TRANSPORTS[name])())


def sessions_here(name: str) -> Set[str] | None:
    """Returns which sessions of this transport can be opened from this host; None if any can."""
    look = _look_of(name)
    return look() if look else None


@cache
def _look_of(name: str) -> Callable[[], Set[str]] | None:
    """None also for one that cannot be loaded: whoever opens such a device says so."""
    try:
        look: Callable[[], Set[str]] | None = getattr(transport(name), "sessions_here", None)
    except Exception:  # noqa: BLE001 (somebody else's code)
        return None
    return look


def missing(name: str) -> str:
    """Returns what to say of a name that settings.TRANSPORTS does not have (any more), else ''."""
    if name in settings.TRANSPORTS:
        return ""
    return _("There is no transport “%s” any more. EXTRA_TRANSPORTS may add it.") % name


def transport_choices() -> list[tuple[str, str]]:
    """Returns the names that a device may choose from, without importing any of them."""
    ours = {"simulator": _("simulator"), "neonize": _("WhatsApp, linked to a phone")}
    return [(name, ours.get(name, name)) for name in settings.TRANSPORTS]
