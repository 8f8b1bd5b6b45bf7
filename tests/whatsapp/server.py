"""The double as a process: its four ports on this host, and its end with that of its parent.

    python -m tests.whatsapp.server FOLDER

writes to FOLDER/double.json how it can be reached; double.py starts it and speaks with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.whatsapp.binary import warm_up
from tests.whatsapp.certificates import CHAT_HOST, MEDIA_HOST, make_chain, make_tls
from tests.whatsapp.connection import Connection
from tests.whatsapp.keys import KeyPair
from tests.whatsapp.noise import Channel
from tests.whatsapp.proxy import Proxy
from tests.whatsapp.verbs import Verbs
from tests.whatsapp.world import World

HOST = "127.0.0.1"


async def run(folder: Path) -> None:
    world, root, static = World(), KeyPair(), KeyPair()
    chain, tls = make_chain(root, static), make_tls(folder)

    async def chat(socket: ServerConnection) -> None:
        try:
            await Connection(world, await Channel.open(socket, static, chain)).run()
        except ConnectionClosed:
            pass  # it never finished the handshake
        except Exception:  # noqa: BLE001 (what it is, the test is told)
            world.complaints.append(traceback.format_exc())

    # No pings and no compression, as WhatsApp; media goes elsewhere, so nothing here is large.
    chat_server = await serve(chat, HOST, 0, ssl=tls, ping_interval=None, compression=None)
    media_server = await asyncio.start_server(world.media.serve, HOST, 0, ssl=tls)
    proxy = Proxy({CHAT_HOST: _port(chat_server), MEDIA_HOST: _port(media_server)})
    proxy_server = await asyncio.start_server(proxy.serve, HOST, 0)
    control = await asyncio.start_server(Verbs(world, proxy).serve, HOST, 0)
    address = {
        "authority": str(folder / "ca.pem"),
        "root_key": root.public.hex(),
        "proxy": _port(proxy_server),
        "control": _port(control),
        "pid": os.getpid(),
    }
    draft = folder / "double.draft"
    draft.write_text(json.dumps(address))
    draft.rename(folder / "double.json")
    await asyncio.Future()  # for ever


def _port(server: object) -> int:
    return int(server.sockets[0].getsockname()[1])


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warm_up()
    asyncio.run(run(Path(sys.argv[1]).resolve()))
