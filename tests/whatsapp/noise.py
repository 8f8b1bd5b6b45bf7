"""The encrypted channel under everything: Noise_XX_25519_AESGCM_SHA256, the server's side.

What a frame is, the prologue and the messages of the handshake are measured on the wheel
(neonize 0.5.2); the pattern itself is that of noiseprotocol.org. The client writes first, in
cleartext, four bytes ("WA" and two versions), which both sides mix into the handshake.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from neonize.proto.waWa6.WAWebProtobufsWa6_pb2 import ClientPayload, HandshakeMessage
from websockets.asyncio.server import ServerConnection

from tests.whatsapp.keys import KeyPair, derive

PROTOCOL = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
PROLOGUE_BYTES = 4
LENGTH_BYTES = 3


class Cipher:
    """AES-GCM under one key, its nonces counted from 0."""

    def __init__(self, key: bytes) -> None:
        self._cipher, self._count = AESGCM(key), 0

    def encrypt(self, plaintext: bytes, associated: bytes | None = None) -> bytes:
        return self._cipher.encrypt(self._nonce(), plaintext, associated)

    def decrypt(self, ciphertext: bytes, associated: bytes | None = None) -> bytes:
        return self._cipher.decrypt(self._nonce(), ciphertext, associated)

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._count - 1).to_bytes(12, "big")


class Handshake:
    """What Noise calls the symmetric state: everything said so far, and the keys that follow."""

    def __init__(self, prologue: bytes) -> None:
        self._hash = self._salt = PROTOCOL
        self._cipher = Cipher(PROTOCOL)
        self.absorb(prologue)

    def absorb(self, said: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + said).digest()

    def mix(self, secret: bytes) -> None:
        self._salt, key = self._derive(secret)
        self._cipher = Cipher(key)

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(plaintext, self._hash)
        self.absorb(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt(ciphertext, self._hash)
        self.absorb(ciphertext)
        return plaintext

    def split(self) -> tuple[Cipher, Cipher]:
        """Returns what the client writes with, and what it reads with."""
        first, second = self._derive(b"")
        return Cipher(first), Cipher(second)

    def _derive(self, secret: bytes) -> tuple[bytes, bytes]:
        both = derive(secret, 64, salt=self._salt)
        return both[:32], both[32:]


class Channel:
    """Frames over one WebSocket, which is a stream to them: they may lie across its messages."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.hello = ClientPayload()  # who is calling, known once it is open
        self._received = b""
        self._writing = asyncio.Lock()
        self._inwards: Cipher | None = None
        self._outwards: Cipher | None = None

    @classmethod
    async def open(cls, socket: ServerConnection, static: KeyPair, chain: bytes) -> Self:
        """Shakes hands; `chain` is what certifies the static key."""
        channel = cls(socket)
        handshake = Handshake(await channel._take(PROLOGUE_BYTES))
        ephemeral = KeyPair()

        hello = HandshakeMessage.FromString(await channel.receive()).clientHello
        handshake.absorb(hello.ephemeral)
        handshake.absorb(ephemeral.public)
        handshake.mix(ephemeral.agree(hello.ephemeral))
        answer = HandshakeMessage()
        answer.serverHello.ephemeral = ephemeral.public
        answer.serverHello.static = handshake.encrypt(static.public)
        handshake.mix(static.agree(hello.ephemeral))
        answer.serverHello.payload = handshake.encrypt(chain)
        await channel.send(answer.SerializeToString())

        finish = HandshakeMessage.FromString(await channel.receive()).clientFinish
        handshake.mix(ephemeral.agree(handshake.decrypt(finish.static)))
        channel.hello = ClientPayload.FromString(handshake.decrypt(finish.payload))
        channel._inwards, channel._outwards = handshake.split()
        return channel

    async def receive(self) -> bytes:
        frame = await self._take(int.from_bytes(await self._take(LENGTH_BYTES), "big"))
        return self._inwards.decrypt(frame) if self._inwards else frame

    async def send(self, data: bytes) -> None:
        async with self._writing:  # nonces must leave in the order in which they were counted
            frame = self._outwards.encrypt(data) if self._outwards else data
            await self.socket.send(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)

    async def close(self) -> None:
        await self.socket.close()

    def cut(self) -> None:
        """Lets the connection drop as a lost network does: without a closing word."""
        self.socket.transport.abort()

    async def _take(self, length: int) -> bytes:
        while len(self._received) < length:
            message = await self.socket.recv()
            self._received += message if isinstance(message, bytes) else message.encode()
        taken, self._received = self._received[:length], self._received[length:]
        return taken
