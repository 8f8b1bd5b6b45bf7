"""The contract between the broadcaster and whatever carries a message to WhatsApp.

Nothing outside `devices/transports/` knows a transport's library, and only the broadcaster opens
sessions. See docs/transports.md for how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from devices.models import Device


@dataclass(frozen=True, slots=True)
class Media:
    """A file that a message carries; its text is the caption, and may be empty.

    `id` is Siaran's number of the file, which none other ever gets.
    `read` returns what is in it, from memory or the database, and may raise. `sha256` is its hash:
    by that a session knows a file again that it has uploaded before.
    """

    id: int
    kind: Literal["image", "video", "document"]
    content_type: str
    name: str
    size: int
    sha256: str
    read: Callable[[], bytes]
    width: int = 0  # of an image, where it is known
    height: int = 0


def always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What a session is asked to send. `key` is the same in every attempt that Siaran makes by
    itself; what a person sends on its way again has a new one.

    Whoever prepares something that takes time, such as an upload, asks `may_leave` right before the
    message leaves: the device may be another broadcaster's by then. If it may not, it is NotSent.
    """

    key: str
    phone: str
    body: str
    media: Media | None = None
    may_leave: Callable[[], bool] = field(default=always, compare=False)


# What became of a send. Exactly one of these comes back; a session never raises on purpose.


@dataclass(frozen=True, slots=True)
class Accepted:
    """WhatsApp has it."""

    provider_message_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was sent: never will be (`retry_after` None), or may be after that pause."""

    code: str
    message: str
    retry_after: timedelta | None = None


# What WhatsApp took from an account: the right to send for a while, or only to write to people it
# has not talked with; or all of it, until a person acts.
Block = Literal["restricted", "first_contacts", "logged_out", "banned"]
# What ends later is a mistake, or a way to say never. With the last day of the calendar nobody can
# reckon, as whoever queues a campaign has to for each of its devices.
LONGEST_BLOCK = timedelta(days=3650)


def aware(at: datetime) -> datetime:
    """A moment that names no zone counts in UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeviceBlocked:
    """Nothing was sent because the account may not send: the message waits, the device shows it.

    `first_contacts`: because it may not send to somebody whom WhatsApp takes for a stranger.
    """

    code: str
    message: str
    state: Block
    until: datetime | None = None
    for_: timedelta | None = None  # in place of `until`: so long from now

    def __post_init__(self) -> None:
        _check_end(self)

    def ends_at(self, now: datetime) -> datetime | None:
        return now + self.for_ if self.for_ else self.until


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have been sent. The message is never sent again blindly.

    With the id that it would have, where the transport chose one: a receipt for it settles it.
    """

    code: str
    message: str
    provider_message_id: str = ""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The transport is sure: this message never left, and nothing can still make it leave.

    As the outcome of a send it says that this has nothing to do with the message: the session was
    closed, or replaced. The message waits, and the attempt does not count.
    """


Outcome = Accepted | Refused | DeviceBlocked | NotSent | Unknown
Answer = Outcome | Future[Outcome]
Memory = Accepted | NotSent | Unknown | None  # of an earlier send


# What a session reports by itself, at any time and from any thread.


@dataclass(frozen=True, slots=True)
class Connected:
    pass


@dataclass(frozen=True, slots=True)
class Disconnected:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """WhatsApp took the account's right to send, with or without an end in sight."""

    state: Block
    reason: str
    until: datetime | None = None
    for_: timedelta | None = None  # in place of `until`: so long from now

    def __post_init__(self) -> None:
        _check_end(self)

    def ends_at(self, now: datetime) -> datetime | None:
        return now + self.for_ if self.for_ else self.until


def _check_end(block: DeviceBlocked | Blocked) -> None:
    """Refuses an end that is none where a transport says it, whose mistake it is, and draws one
    near that is too far away."""
    if block.until is not None:
        until = min(aware(block.until), datetime.now(UTC) + LONGEST_BLOCK)
        object.__setattr__(block, "until", until)
    if block.for_ is not None:  # TypeError where it is no timedelta
        for_ = max(min(block.for_, LONGEST_BLOCK), -LONGEST_BLOCK)
        object.__setattr__(block, "for_", for_)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Somebody else opened a session of this account, and this one has ended for good.

    Two that take it from each other are what WhatsApp bans for: it is given up and left alone.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """WhatsApp no longer talks to this version of the library: this session has ended for good."""

    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    provider_message_id: str
    kind: Literal["delivered", "read"]
    at: datetime


@dataclass(frozen=True, slots=True)
class Inbound:
    """Somebody wrote to the device."""

    phone: str
    body: str
    at: datetime
    provider_message_id: str = ""  # by which one that is reported twice is written down once


Event = Connected | Disconnected | Blocked | Replaced | Outdated | Receipt | Inbound
Report = Callable[[Event], None]


class Session(Protocol):
    """One account's connection, opened by the broadcaster that holds the device's lease."""

    def send(self, message: OutgoingMessage) -> Answer:
        """Sends and waits for WhatsApp's answer, within the transport's own time limit.

        Called from a thread of its own, for one message at a time. Who needs no thread to wait for
        the answer returns a future of it at once.
        """
        ...

    def recall(self, key: str) -> Memory:
        """What the transport itself remembers of an earlier send, also by a process that died.

        NotSent only where an earlier session of this account can no longer send: WhatsApp closes
        the old stream when a new one opens. Unknown with the id that the message has if it was
        sent: a receipt for it settles it. None where it cannot tell.
        """
        ...

    def close(self) -> None:
        """Disconnects. Nothing is reported afterwards."""
        ...


@runtime_checkable
class Checking(Protocol):
    """What a session has besides, if its transport can tell who is on WhatsApp."""

    def check(self, phones: Sequence[str]) -> Mapping[str, str]:
        """Returns by which number WhatsApp knows each of these, '' for those that are not on it;
        nothing of those that it says nothing about.

        Called from a thread of its own, also while a message is being sent; may wait, and raise.
        """
        ...


class Transport(Protocol):
    def open(self, device: Device, report: Report) -> Session:
        """Starts connecting and returns at once; `Connected` is reported when it may send."""
        ...


class BoundTransport(Transport, Protocol):
    """One whose sessions are bound to the host that keeps them, as files or the like."""

    def sessions_here(self) -> Set[str]:
        """The names (Device.session) of those that this host has: no others are opened from it.

        Asked every few seconds, also with thousands of them, so without a look into each. Raises
        OSError when it cannot tell.
        """
        ...
