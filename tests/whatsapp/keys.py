"""Curve25519 key pairs that agree on secrets (X25519) and sign (XEdDSA), and key derivation.

XEdDSA (signal.org/docs/specifications/xeddsa) signs with a key that was made for X25519. The keys
made here are Ed25519 keys from the start, whose secret scalar then serves X25519 as well. Their
plain Ed25519 signatures, with the sign of the public point put into the topmost bit, are what
whoever checks an XEdDSA signature expects; no curve arithmetic of our own is needed.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# Signal writes a public key as its type, then its 32 bytes.
CURVE25519 = b"\x05"


class KeyPair:
    def __init__(self) -> None:
        self._signing = Ed25519PrivateKey.generate()
        scalar = hashlib.sha512(self._signing.private_bytes_raw()).digest()[:32]
        self._agreeing = X25519PrivateKey.from_private_bytes(scalar)
        self.public: bytes = self._agreeing.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """Returns the secret that the owner of this public key finds with ours."""
        return self._agreeing.exchange(X25519PublicKey.from_public_bytes(public))

    def sign(self, message: bytes) -> bytes:
        signature = bytearray(self._signing.sign(message))
        signature[63] |= self._signing.public_key().public_bytes_raw()[31] & 0x80
        return bytes(signature)


def derive(secret: bytes, length: int, *, salt: bytes | None = None, info: bytes = b"") -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)
