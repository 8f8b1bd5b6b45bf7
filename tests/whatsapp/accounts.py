"""Who is on WhatsApp: accounts, each a phone and the clients that are linked to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.whatsapp.binary import JID, LID_SERVER, USER_SERVER, Node
from tests.whatsapp.bundle import Bundle
from tests.whatsapp.media import Store
from tests.whatsapp.phone import Phone

PHONE = 0  # the number of an account's first device


@dataclass
class Account:
    number: str
    phone: Phone
    clients: dict[int, Bundle] = field(default_factory=dict)
    # What came for a client while it was away; it gets it when it logs in.
    waiting: dict[int, list[Node]] = field(default_factory=dict)
    last_client: int = PHONE

    @property
    def lid(self) -> str:
        """The account's other name, which hides its number and which clients use between them."""
        return f"1{self.number:0>14}"

    @property
    def devices(self) -> dict[int, Bundle]:
        return {PHONE: self.phone.bundle} | self.clients

    def jid(self, device: int = PHONE) -> JID:
        return JID(self.number, USER_SERVER, device)

    def lid_jid(self, device: int = PHONE) -> JID:
        return JID(self.lid, LID_SERVER, device)

    def next_client(self) -> int:
        """Returns the number that the client to be linked now is to have."""
        self.last_client += 1
        return self.last_client

    def remove_client(self, device: int) -> None:
        self.clients.pop(device, None)
        self.waiting.pop(device, None)


class Directory:
    def __init__(self, media: Store) -> None:
        self._media = media
        self._accounts: dict[str, Account] = {}
        self._lids: dict[str, Account] = {}
        self._aliases: dict[str, str] = {}

    def register(self, number: str) -> Account:
        """Returns the account of this number, a new one if there is none."""
        if number not in self._accounts:
            account = Account(number, Phone(self._media))
            self._accounts[number] = self._lids[account.lid] = account
        return self._accounts[number]

    def of_number(self, number: str) -> Account | None:
        return self._accounts.get(number)

    def add_alias(self, number: str, alias: str) -> None:
        """Lets people look a number up who write it another way, as in Brazil with its ninth digit;
        a message to that is nobody's."""
        self._aliases[alias] = number

    def look_up(self, written: str) -> Account | None:
        return self.of_number(self._aliases.get(written, written))

    def of(self, jid: JID) -> Account | None:
        return (self._lids if jid.server == LID_SERVER else self._accounts).get(jid.user)
