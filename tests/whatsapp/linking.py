"""How a connection becomes a client of an account: offered, scanned or typed, confirmed.

The stanzas are those the wheel sends and expects (whatsmeow's pair.go and pair-code.go).
"""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.whatsapp.accounts import Account
from tests.whatsapp.binary import SERVER, Node
from tests.whatsapp.bundle import Bundle, Prekey
from tests.whatsapp.pairing import CodeExchange, QrCode, certify_client

if TYPE_CHECKING:
    from tests.whatsapp.connection import Connection

REFS = 6  # how many QR codes a client may show, one after the other
CODE_SECONDS = 10
PREFIX = "link_code_pairing_"


@dataclass
class Link:
    """A client on its way to an account."""

    refs: list[str] = field(default_factory=list)
    account: Account | None = None
    device: int = 0
    # By code: the client's key as it came, and what it sends back once the code has been typed.
    wrapped: bytes = b""
    bundle: asyncio.Future[bytes] | None = None


async def offer(connection: Connection) -> None:
    refs = [base64.b64encode(os.urandom(24)).decode() for _ in range(REFS)]
    connection.link = Link(refs)
    connection.world.by_ref |= dict.fromkeys(refs, connection)
    await connection.ask(Node("pair-device", {}, [Node("ref", {}, ref.encode()) for ref in refs]))


async def scan(account: Account, connection: Connection, code: QrCode) -> None:
    """The account's owner points the phone's camera at the code."""
    identity, secret = base64.b64decode(code.identity), base64.b64decode(code.secret)
    await _take_in(account, connection, identity, secret)


async def request_code(connection: Connection, query: Node) -> None:
    """A client says for whose typing it shows a code, or what it makes of the phone's answer."""
    request, link = query.at("link_code_companion_reg"), connection.link
    assert link, "a client that is linked asks for a code"
    if request.text("stage") == "companion_hello":
        link.wrapped = request.at(f"{PREFIX}wrapped_companion_ephemeral_pub").data
        connection.world.by_number[request.jid("jid").user] = connection
        ref = Node(f"{PREFIX}ref", {}, link.refs[0].encode())
        await connection.answer(query, Node("link_code_companion_reg", {}, [ref]))
    else:
        await connection.answer(query)
        if link.bundle and not link.bundle.done():
            link.bundle.set_result(request.at(f"{PREFIX}wrapped_key_bundle").data)


async def type_code(account: Account, connection: Connection, code: str) -> None:
    """The account's owner types the code that the client shows."""
    link = connection.link
    assert link, "it is linked already"
    exchange = CodeExchange(account.phone.identity, code, link.wrapped)
    link.bundle = asyncio.get_running_loop().create_future()
    parts = {
        f"{PREFIX}ref": link.refs[0].encode(),
        f"{PREFIX}wrapped_primary_ephemeral_pub": exchange.wrap_ephemeral(),
        "primary_identity_pub": account.phone.identity.public,
    }
    told = Node(
        "link_code_companion_reg",
        {"stage": "primary_hello"},
        [Node(tag, {}, data) for tag, data in parts.items()],
    )
    attrs = {"from": SERVER, "type": "link_code_companion_reg", "id": link.refs[0]}
    await connection.send(Node("notification", attrs, [told]))
    bundle = await asyncio.wait_for(link.bundle, CODE_SECONDS)
    await _take_in(account, connection, *exchange.find_secret(bundle))


async def finish(connection: Connection) -> None:
    """The client has confirmed; it is told to come again, as a client of the account."""
    link, keys = connection.link, connection.channel.hello.devicePairingData
    assert link
    assert link.account
    link.account.clients[link.device] = Bundle(
        keys.eIdent, keys.eRegid, Prekey(keys.eSkeyID, keys.eSkeyVal), keys.eSkeySig
    )
    for ref in link.refs:
        connection.world.by_ref.pop(ref, None)
    await connection.end(Node("stream:error", {"code": "515"}))


async def _take_in(
    account: Account, connection: Connection, identity: bytes, secret: bytes
) -> None:
    link = connection.link
    assert link
    link.account, link.device = account, account.next_client()
    certificate = certify_client(account.phone.identity, identity, secret, link.device)
    names = {"jid": account.jid(link.device), "lid": account.lid_jid(link.device)}
    is_there = await connection.ask(
        Node("pair-success", {}, [
            Node("device-identity", {}, certificate),
            Node("device", dict(names)),
            Node("platform", {"name": "android"}),
        ])
    )  # fmt: skip
    if not is_there:
        raise LookupError("the client that shows this code has gone")
