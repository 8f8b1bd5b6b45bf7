"""The way in: an HTTP proxy that takes WhatsApp's two hosts for the double, and knows no others.

The addresses of both are constants in the wheel, but Go heeds HTTPS_PROXY.
"""

from __future__ import annotations

import asyncio


class Proxy:
    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports  # of each host
        self.is_open = True
        self.refused: list[str] = []  # which other hosts were asked for

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            host = head.split()[1].rpartition(":")[0]
            if host not in self._ports:
                self.refused.append(host)
            if not self.is_open or host not in self._ports:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return
            server = await asyncio.open_connection("127.0.0.1", self._ports[host])
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(_pass_on(reader, server[1]), _pass_on(server[0], writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
