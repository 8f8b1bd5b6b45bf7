"""The phone's part in linking a client: what is signed, and how an 8-character code protects it.

A client that is linked gets its identity signed by the account (ADV, "auth device verification"),
under a secret that only the client and the phone know: it is in the QR code, or follows from the
code that was typed. What is signed, and what is encrypted with what, is as the wheel checks it;
whatsmeow's pair.go and pair-code.go say the same.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from neonize.proto.waAdv import WAAdv_pb2 as adv

from tests.whatsapp.keys import KeyPair, derive

ACCOUNT_SIGNATURE = b"\x06\x00"
CODE_ROUNDS = 2 << 16
SALT_BYTES, VECTOR_BYTES, NONCE_BYTES, KEY_BYTES = 32, 16, 12, 32


class QrCode(NamedTuple):
    """What a client shows: which connection it is, its keys, and the secret. All in base64."""

    ref: str
    noise_key: str
    identity: str
    secret: str

    @classmethod
    def read(cls, text: str) -> Self:
        """The wheel writes a link with the parts behind #; older ones write the parts only."""
        return cls(*text.rpartition("#")[2].split(",")[:4])


def certify_client(account: KeyPair, identity: bytes, secret: bytes, index: int) -> bytes:
    """Returns what tells a client that the account takes it in, as its device of this number."""
    details = adv.ADVDeviceIdentity(
        rawID=1, timestamp=int(time.time()), keyIndex=index
    ).SerializeToString()
    signed = adv.ADVSignedDeviceIdentity(
        details=details,
        accountSignatureKey=account.public,
        accountSignature=account.sign(ACCOUNT_SIGNATURE + details + identity),
    ).SerializeToString()
    mac = hmac.digest(secret, signed, hashlib.sha256)
    return adv.ADVSignedDeviceIdentityHMAC(details=signed, HMAC=mac).SerializeToString()


class WrongCodeError(Exception):
    """The code that was typed is not the one the client shows."""


@dataclass
class CodeExchange:
    """A code typed into the phone: a message there, one back, then both know a secret."""

    account: KeyPair
    code: str
    companion_wrapped: bytes  # the client's ephemeral key, as it came with its request
    ephemeral: KeyPair = field(default_factory=KeyPair)

    def wrap_ephemeral(self) -> bytes:
        """Returns the phone's ephemeral key, readable only for who knows the code."""
        salt, vector = os.urandom(SALT_BYTES), os.urandom(VECTOR_BYTES)
        return salt + vector + self._crypt(salt, vector, self.ephemeral.public)

    def find_secret(self, bundle: bytes) -> tuple[bytes, bytes]:
        """Returns the client's identity and the secret, from what the client sent back."""
        salt, rest = bundle[:SALT_BYTES], bundle[SALT_BYTES:]
        nonce, encrypted = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        agreed = self.ephemeral.agree(self._companion_ephemeral())
        key = derive(
            agreed, KEY_BYTES, salt=salt, info=b"link_code_pairing_key_bundle_encryption_key"
        )
        try:
            keys = AESGCM(key).decrypt(nonce, encrypted, None)
        except InvalidTag as error:
            raise WrongCodeError(self.code) from error
        identity, random = keys[:KEY_BYTES], keys[2 * KEY_BYTES :]
        secret = agreed + self.account.agree(identity) + random
        return identity, derive(secret, KEY_BYTES, info=b"adv_secret")

    def _companion_ephemeral(self) -> bytes:
        salt, rest = self.companion_wrapped[:SALT_BYTES], self.companion_wrapped[SALT_BYTES:]
        return self._crypt(salt, rest[:VECTOR_BYTES], rest[VECTOR_BYTES:])

    def _crypt(self, salt: bytes, vector: bytes, data: bytes) -> bytes:
        code = self.code.replace("-", "").encode()
        key = hashlib.pbkdf2_hmac("sha256", code, salt, CODE_ROUNDS, KEY_BYTES)
        return Cipher(algorithms.AES(key), modes.CTR(vector)).encryptor().update(data)
