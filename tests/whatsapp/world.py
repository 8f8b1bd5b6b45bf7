"""What the double knows, and what it has been told to do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.whatsapp.accounts import Account, Directory
from tests.whatsapp.binary import Node
from tests.whatsapp.media import Store

if TYPE_CHECKING:
    from tests.whatsapp.connection import Connection


@dataclass
class Send:
    """A message as WhatsApp sees it: who writes to whom, and nothing of what is in it."""

    id: str
    sender: str
    recipient: str
    tags: list[str]  # of the parts it came in
    outcome: str = "accepted"  # or "lost", or the code it was refused with


@dataclass
class Troubles:
    send_error: int | None = None
    cut_next_send: Literal["", "before it arrives", "after it arrived"] = ""
    is_withholding: bool = False
    withheld: list[tuple[Connection, Node]] = field(default_factory=list)
    # What a login is answered with: of a number, and of all.
    refusals: dict[str, dict[str, str]] = field(default_factory=dict)
    refusal: dict[str, str] | None = None


@dataclass
class World:
    media: Store = field(default_factory=Store)
    troubles: Troubles = field(default_factory=Troubles)
    sends: list[Send] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    online: dict[tuple[str, int], Connection] = field(default_factory=dict)
    # Clients that wait to be linked: by what is in their QR code, and by who is to type their code.
    by_ref: dict[str, Connection] = field(default_factory=dict)
    by_number: dict[str, Connection] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)  # what the double itself stumbled over

    def __post_init__(self) -> None:
        self.directory = Directory(self.media)

    def connections_of(self, number: str) -> Iterator[Connection]:
        yield from [found for (owner, _), found in self.online.items() if owner == number]

    async def deliver(self, account: Account, device: int, node: Node) -> None:
        """Gives a stanza to a client, now or when it is back; a receipt until it has confirmed
        that."""
        connection = self.online.get((account.number, device))
        if connection and node.tag == "receipt":
            connection.unconfirmed[node.text("id"), node.text("type")] = node
            await connection.send(node)
        elif connection is None or not await connection.send(node):
            account.waiting.setdefault(device, []).append(node)
