"""What neonize's events mean: pure functions of their names and of their fields as plain values.

The names are neonize's without "Ev"; the fields are as protobuf writes them in JSON, so times are
strings of digits, and what is not set is not there. Which event comes when, tests/whatsapp says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from django.utils.translation import gettext as _

from devices.transports.base import (
    Blocked,
    Connected,
    Disconnected,
    Event,
    Inbound,
    Outdated,
    Receipt,
    Replaced,
)

Fields = Mapping[str, Any]
PhoneOf = Callable[[str], str]  # of somebody whom WhatsApp calls by another name; '' if not known

PEOPLE, HIDDEN = "s.whatsapp.net", "lid"
RECEIPTS = {
    "DELIVERED": "delivered",
    "INACTIVE": "delivered",  # got it while the app was not open
    "READ": "read",
    "PLAYED": "read",
}
# What holds a message within a message, each under its field `message`.
WRAPPERS = (
    "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension",
    "documentWithCaptionMessage", "editedMessage",
)  # fmt: skip
NO_WORDS = {"protocolMessage", "reactionMessage", "encReactionMessage", "pollUpdateMessage"}


class Then(Enum):
    """What is to become of the client that has reported this."""

    GO_ON = "it goes on, and connects again by itself where it has to"
    AGAIN = "it does nothing more: end it, and begin anew after a pause"
    END = "end it, and leave the account alone"


THEN = {
    "LoggedOut": Then.END,
    "TemporaryBan": Then.END,
    "ClientOutdated": Then.END,
    "StreamReplaced": Then.END,
    "QR": Then.END,
    "ConnectFailure": Then.AGAIN,
}


def events_of(name: str, fields: Fields, phone_of: PhoneOf) -> list[Event]:
    """Returns what the session has to report when its client says this."""
    match name:
        case "Connected":
            return [Connected()]
        case "Disconnected":
            return [Disconnected(_("The connection to WhatsApp broke. It is tried again."))]
        case "StreamReplaced":
            reason = _("The session was opened elsewhere. Only one place may have its file.")
            return [Replaced(reason)]
        case "ConnectFailure":
            return [Disconnected(_("WhatsApp refused the connection: %s.") % fields.get("Reason"))]
        case "LoggedOut":
            return [_logged_out(fields)]
        case "QR":
            return [Blocked("logged_out", _("It is not linked to a phone (any more)."))]
        case "TemporaryBan":
            # Without an end it is none that is over: a person has to look.
            for_ = timedelta(seconds=int(fields.get("Expire", 0))) or None
            reason = BANS.get(fields.get("Code", ""), BANNED)()
            return [Blocked("banned", reason, for_=for_)]
        case "ClientOutdated":
            reason = _("WhatsApp no longer talks to this version of neonize. Update Siaran.")
            return [Outdated(reason)]
        case "Receipt":
            return _receipts(fields)
        case "Message":
            return _inbound(fields, phone_of)
    return []


def end_of(error: str) -> tuple[list[Event], Then]:
    """Returns the same for a client that has ended with this error, '' when it was stopped.

    neonize ends a client when WhatsApp says something that it has no name for. It names the field.
    """
    if not error:
        return [], Then.AGAIN  # it was stopped, by what it said before
    if "TemporaryBan.Code" in error:
        return [Blocked("banned", BANNED())], Then.END
    if "ConnectFailure.Reason" in error:
        return [Disconnected(_("WhatsApp refused the connection."))], Then.AGAIN
    if "no such host" in error or "connection refused" in error:
        return [Disconnected(_("WhatsApp cannot be reached from this host."))], Then.AGAIN
    # A receipt of a kind that it does not know: the client would hear nothing any more.
    return [Disconnected(_("The connection to WhatsApp is being made anew."))], Then.AGAIN


def _logged_out(fields: Fields) -> Event:
    match fields.get("Reason"):
        case "UNKNOWN_LOGOUT":
            return Blocked("banned", _("WhatsApp has banned this number."))
        case "MAIN_DEVICE_GONE":
            return Blocked("logged_out", _("The account's phone is no longer on WhatsApp."))
    return Blocked("logged_out", _("It was unlinked on the phone, or by WhatsApp. Link it again."))


def BANNED() -> str:
    return _("WhatsApp has banned this number for a while.")


BANS: dict[str, Callable[[], str]] = {
    "SEND_TO_TOO_MANY_PEOPLE": lambda: _(
        "Banned for a while: too many messages to people who do not have this number."
    ),
    "BLOCKED_BY_USERS": lambda: _("Banned for a while: too many people blocked this number."),
    "SENT_TOO_MANY_SAME_MESSAGE": lambda: _(
        "Banned for a while: the same message was sent too often."
    ),
    "BROADCAST_LIST": lambda: _("Banned for a while: too many messages to a broadcast list."),
}


def _receipts(fields: Fields) -> list[Event]:
    kind = RECEIPTS.get(fields.get("Type", ""))
    if kind is None or fields.get("MessageSource", {}).get("IsFromMe"):
        return []
    at = _time(fields)
    return [
        Receipt(message_id, "read" if kind == "read" else "delivered", at)
        for message_id in fields.get("MessageIDs", [])
    ]


def _inbound(fields: Fields, phone_of: PhoneOf) -> list[Event]:
    """A person's message to this account: none of a group, a list, a channel, or of its own."""
    info = fields.get("Info", {})
    source = info.get("MessageSource", {})
    if source.get("IsFromMe") or source.get("IsGroup"):
        return []
    if source.get("Chat", {}).get("Server") not in (PEOPLE, HIDDEN):
        return []
    message = _unwrapped(fields.get("Message", {}))
    if message.keys() <= NO_WORDS | {"messageContextInfo", "senderKeyDistributionMessage"}:
        return []
    phone = _phone(source, phone_of)
    if not phone:
        return []
    return [Inbound(phone, _text(message), _time(info), str(info.get("ID", "")))]


def _phone(source: Fields, phone_of: PhoneOf) -> str:
    people = [source.get("Sender", {}), source.get("SenderAlt", {})]
    for person in people:
        if person.get("Server") == PEOPLE:
            return str(person.get("User", ""))
    for person in people:
        if person.get("Server") == HIDDEN and (phone := phone_of(str(person.get("User", "")))):
            return phone
    return ""


def _unwrapped(message: Fields) -> Fields:
    for wrapper in WRAPPERS:
        if wrapper in message:
            return _unwrapped(message[wrapper].get("message", {}))
    edit = message.get("protocolMessage", {}).get("editedMessage")
    return _unwrapped(edit) if edit else message


def _text(message: Fields) -> str:
    if "conversation" in message:
        return str(message["conversation"])
    for part in message.values():
        if isinstance(part, Mapping):
            for field in ("text", "caption", "selectedDisplayText", "title"):
                if part.get(field):
                    return str(part[field])
    return ""


def _time(fields: Fields) -> datetime:
    """WhatsApp gives seconds; neonize passes some on as milliseconds."""
    stamp = int(fields.get("Timestamp", 0))
    return datetime.fromtimestamp(stamp / 1000 if stamp > 10**11 else stamp, UTC)
