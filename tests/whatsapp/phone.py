"""A person's phone: the device that an account begins with, and what its owner gets to read.

It has keys of its own like every device, so a client encrypts for it, and it decrypts. It shows a
message once, however often it comes, as the app does (by sender and id); how often it came is
kept beside it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

from tests.whatsapp.binary import JID, Node
from tests.whatsapp.bundle import Bundle, Prekey
from tests.whatsapp.keys import CURVE25519, KeyPair
from tests.whatsapp.media import Store
from tests.whatsapp.ratchet import Sessions


@dataclass
class Received:
    """A message as its recipient sees it."""

    id: str
    sender: JID
    text: str
    media: bytes
    file: dict[str, Any] = field(default_factory=dict)  # what is said of the file
    copies: int = 1


class Phone:
    def __init__(self, media: Store) -> None:
        self.identity, prekey = KeyPair(), KeyPair()
        self._registration = int.from_bytes(os.urandom(2), "big") & 0x3FFF
        self.bundle = Bundle(
            self.identity.public,
            self._registration.to_bytes(4, "big"),
            Prekey(b"\0\0\x01", prekey.public),
            self.identity.sign(CURVE25519 + prekey.public),
        )
        self.received: dict[tuple[str, str], Received] = {}  # by the sender's number, and id
        self._own: set[tuple[str, str]] = set()  # what the owner wrote on another device
        self.is_on = True
        self._sessions, self._media = Sessions(self.identity, prekey), media

    def receive(self, sender: JID, identity: bytes, message_id: str, encrypted: Node) -> bool:
        """Takes a message in; returns False if it is only a copy of what the owner has written."""
        key = (sender.user, message_id)
        if key in self.received:
            self.received[key].copies += 1
            return True
        if key in self._own:
            return False
        written = self._sessions.read(encrypted.text("type"), encrypted.data, identity)
        message = Message.FromString(written)
        if message.HasField("deviceSentMessage"):
            self._own.add(key)
            return False
        text, media, file = self._open(message)
        self.received[key] = Received(message_id, sender, text, media, file)
        return True

    def write(self, text: str, bundle: Bundle) -> Node:
        """Returns a message as only the device with this bundle can read it."""
        message = Message(conversation=text).SerializeToString()
        encrypted = self._sessions.write(bundle, message, self._registration)
        return Node("enc", {"v": "2", "type": "pkmsg"}, encrypted)

    def _open(self, message: Message) -> tuple[str, bytes, dict[str, Any]]:
        """Returns what there is to read, the file that came with it, and what is said of that.

        As the app does, it takes no file whose hash or length is not what the message says."""
        for kind in ("Image", "Video", "Document"):
            if not message.HasField(f"{kind.lower()}Message"):
                continue
            part = getattr(message, f"{kind.lower()}Message")
            content = self._media.read(part.directPath, part.mediaKey, kind)
            assert part.fileSHA256 == hashlib.sha256(content).digest()
            assert part.fileLength == len(content)
            told = {"kind": kind.lower(), "mimetype": part.mimetype}
            told |= {
                name: getattr(part, name)
                for name in ("fileName", "width", "height")
                if getattr(part, name, None)
            }
            return part.caption, content, told
        return message.conversation or message.extendedTextMessage.text, b"", {}
