"""The public keys by which others begin to write to a device, as WhatsApp keeps and gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.whatsapp.binary import Node
from tests.whatsapp.keys import CURVE25519


class Prekey(NamedTuple):
    id: bytes  # three bytes
    key: bytes

    def nodes(self) -> list[Node]:
        return [Node("id", {}, self.id), Node("value", {}, self.key)]


@dataclass
class Bundle:
    identity: bytes
    registration: bytes  # four bytes
    signed_prekey: Prekey
    signature: bytes  # of the signed prekey, by the identity
    prekeys: list[Prekey] = field(default_factory=list)

    def take_prekey(self) -> Prekey | None:
        """Returns one that nobody was given, and that nobody will be given again."""
        return self.prekeys.pop(0) if self.prekeys else None

    def nodes(self) -> list[Node]:
        signed = [*self.signed_prekey.nodes(), Node("signature", {}, self.signature)]
        nodes = [
            Node("registration", {}, self.registration),
            Node("type", {}, CURVE25519),
            Node("identity", {}, self.identity),
            Node("skey", {}, signed),
        ]
        if prekey := self.take_prekey():
            nodes.append(Node("key", {}, prekey.nodes()))
        return nodes
