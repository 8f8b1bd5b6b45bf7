"""How a phone reads and writes: X3DH to begin a session, then as much of the Double Ratchet as is
needed by somebody who begins a session anew for each message of their own.

Both are Signal's published specifications (signal.org/docs). Their constants here, the three
"Whisper..." words and the numbers of the fields, are those of Signal's own implementation, which
the wheel follows: each reads what the other wrote.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.whatsapp.bundle import Bundle
from tests.whatsapp.keys import CURVE25519, KeyPair, derive
from tests.whatsapp.wire import read_fields, write_fields

VERSION = b"\x33"  # "this is version 3, and I know no later one"
MAC_BYTES = 8
BLOCK_BYTES = 16
# The fields of the two messages that Signal sends. One begins a session and holds the other.
PREKEY, BASE_KEY, IDENTITY_KEY, MESSAGE, REGISTRATION, SIGNED_PREKEY = 1, 2, 3, 4, 5, 6
RATCHET_KEY, COUNTER, PREVIOUS_COUNTER, CIPHERTEXT = 1, 2, 3, 4


@dataclass
class Chain:
    """From one key follow the keys of all messages that somebody writes without an answer."""

    key: bytes
    count: int = 0

    def keys_of(self, number: int) -> tuple[bytes, bytes, bytes]:
        """Returns the cipher key, the MAC key and the initial vector of a message."""
        if number < self.count:
            raise ValueError(f"message {number} has been read already")
        seed = b""
        while self.count <= number:
            seed = hmac.digest(self.key, b"\x01", "sha256")
            self.key = hmac.digest(self.key, b"\x02", "sha256")
            self.count += 1
        keys = derive(seed, 80, salt=bytes(32), info=b"WhisperMessageKeys")
        return keys[:32], keys[32:64], keys[64:]


@dataclass
class Begun:
    """A session that the phone began. Once the other side has read that, it answers in it."""

    root: bytes
    ratchet: KeyPair
    chains: dict[bytes, Chain] = field(default_factory=dict)  # by the ratchet key of the answers

    def chain(self, ratchet: bytes) -> Chain:
        if ratchet not in self.chains:
            self.chains[ratchet] = _turn(self.root, self.ratchet.agree(ratchet))[1]
        return self.chains[ratchet]


class Sessions:
    """Those of one phone with all devices that write to it, or that it writes to."""

    def __init__(self, identity: KeyPair, signed_prekey: KeyPair) -> None:
        self._identity, self._prekey = identity, signed_prekey
        self._chains: dict[bytes, Chain] = {}  # of sessions that others began, by their base key
        self._begun: dict[bytes, Begun] = {}  # the latest with each, by their identity

    def read(self, kind: str, data: bytes, sender: bytes) -> bytes:
        """Returns what a device of this identity wrote: a message of WhatsApp's, serialized."""
        if kind == "msg":
            chain, signed = self._begun[sender].chain(_ratchet_key(data)), data
        else:
            fields = read_fields(data[len(VERSION) :])
            signed, base = fields.data(MESSAGE), _key(fields.data(BASE_KEY))
            if _key(fields.data(IDENTITY_KEY)) != sender:
                raise ValueError("whoever wrote this has another identity than WhatsApp knows")
            chain = self._chain(sender, base, _ratchet_key(signed))
        inner = read_fields(signed[len(VERSION) : -MAC_BYTES])
        key, mac_key, vector = chain.keys_of(inner.number(COUNTER))
        mac = _mac(mac_key, sender, self._identity.public, signed[:-MAC_BYTES])
        if not hmac.compare_digest(mac, signed[-MAC_BYTES:]):
            raise ValueError("the message was changed, or is for somebody else")
        # WhatsApp pads too, by 1 to 16 bytes, before Signal does.
        return _unpad(decrypt_cbc(key, vector, inner.data(CIPHERTEXT)))

    def write(self, bundle: Bundle, message: bytes, registration: int) -> bytes:
        """Returns a message (of kind "pkmsg") that begins a session with a device."""
        base, ratchet, theirs = KeyPair(), KeyPair(), bundle.signed_prekey.key
        agreed = b"\xff" * 32 + self._identity.agree(theirs)
        agreed += base.agree(bundle.identity) + base.agree(theirs)
        outer: dict[int, int | bytes] = {
            REGISTRATION: registration,
            SIGNED_PREKEY: int.from_bytes(bundle.signed_prekey.id, "big"),
            BASE_KEY: CURVE25519 + base.public,
            IDENTITY_KEY: CURVE25519 + self._identity.public,
        }
        if prekey := bundle.take_prekey():
            agreed += base.agree(prekey.key)
            outer[PREKEY] = int.from_bytes(prekey.id, "big")
        root, chain = _turn(_root(agreed), ratchet.agree(theirs))
        self._begun[bundle.identity] = Begun(root, ratchet)

        key, mac_key, vector = chain.keys_of(0)
        inner: dict[int, int | bytes] = {
            RATCHET_KEY: CURVE25519 + ratchet.public, COUNTER: 0, PREVIOUS_COUNTER: 0,
            CIPHERTEXT: _encrypt_cbc(key, vector, message + b"\x01"),
        }  # fmt: skip
        signed = VERSION + write_fields(inner)
        signed += _mac(mac_key, self._identity.public, bundle.identity, signed)
        return VERSION + write_fields(outer | {MESSAGE: signed})

    def _chain(self, sender: bytes, base: bytes, ratchet: bytes) -> Chain:
        if base not in self._chains:
            agreed = b"\xff" * 32 + self._prekey.agree(sender)
            agreed += self._identity.agree(base) + self._prekey.agree(base)
            self._chains[base] = _turn(_root(agreed), self._prekey.agree(ratchet))[1]
        return self._chains[base]


def decrypt_cbc(key: bytes, vector: bytes, ciphertext: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    return _unpad(decryptor.update(ciphertext) + decryptor.finalize())


def _encrypt_cbc(key: bytes, vector: bytes, plaintext: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    missing = BLOCK_BYTES - len(plaintext) % BLOCK_BYTES
    return encryptor.update(plaintext + bytes([missing]) * missing) + encryptor.finalize()


def _unpad(padded: bytes) -> bytes:
    return padded[: -padded[-1]]


def _root(agreed: bytes) -> bytes:
    return derive(agreed, 64, salt=bytes(32), info=b"WhisperText")[:32]


def _turn(root: bytes, agreed: bytes) -> tuple[bytes, Chain]:
    both = derive(agreed, 64, salt=root, info=b"WhisperRatchet")
    return both[:32], Chain(both[32:])


def _mac(key: bytes, sender: bytes, recipient: bytes, signed: bytes) -> bytes:
    parties = CURVE25519 + sender + CURVE25519 + recipient
    return hmac.digest(key, parties + signed, hashlib.sha256)[:MAC_BYTES]


def _ratchet_key(signed: bytes) -> bytes:
    return _key(read_fields(signed[len(VERSION) : -MAC_BYTES]).data(RATCHET_KEY))


def _key(written: bytes) -> bytes:
    return written.removeprefix(CURVE25519) if len(written) == 33 else written
