"""WhatsApp's store of files, which clients reach over HTTPS and which sees them encrypted only.

How a file is encrypted, and the addresses of both directions, are as in the wheel (whatsmeow's
upload.go and download.go): under the hash of what was uploaded, in base64, it is found again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from urllib.parse import unquote, urlsplit

from tests.whatsapp.certificates import MEDIA_HOST
from tests.whatsapp.keys import derive
from tests.whatsapp.ratchet import decrypt_cbc

MAC_BYTES = 10


class Store:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_open = asyncio.Event()  # until then uploads wait for their answer
        self.is_open.set()
        self.status = 200  # what it answers to an upload; anything else keeps nothing

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(maxsplit=2)
            body = await reader.readexactly(_content_length(head))
            await self.is_open.wait()
            status, answer = self._answer(method, urlsplit(target).path, body)
            told = f"HTTP/1.1 {status} Answer\r\nContent-Length: {len(answer)}"
            writer.write(f"{told}\r\nConnection: close\r\n\r\n".encode() + answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    def read(self, path: str, key: bytes, kind: str) -> bytes:
        """Returns a file in cleartext, for who has its key from a message."""
        keys = derive(key, 112, info=f"WhatsApp {kind} Keys".encode())
        return decrypt_cbc(keys[16:48], keys[:16], self.files[urlsplit(path).path][:-MAC_BYTES])

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if method == "GET":
            found = self.files.get(path)
            return (404, b"") if found is None else (200, found)
        token = unquote(path.rpartition("/")[2])
        if self.status != 200:
            return self.status, b""
        if base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode() != token:
            return 400, b""
        place = f"/v/{token}"
        self.files[place] = body
        # Clients append &hash=..., so there must be a question mark already.
        answer = {"url": f"https://{MEDIA_HOST}{place}?ccb=1", "direct_path": f"{place}?ccb=1"}
        return 200, json.dumps(answer).encode()


def _content_length(head: str) -> int:
    for line in head.splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0
