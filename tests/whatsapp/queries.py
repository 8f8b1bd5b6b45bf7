"""What clients ask the server: for keys, for who is on WhatsApp, for where files go.

Which questions there are, and the shape of each answer, was found out with the wheel. To what is
not in the table it is enough to say that it was heard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.whatsapp import linking
from tests.whatsapp.accounts import Account
from tests.whatsapp.binary import JID, USER_SERVER, Node
from tests.whatsapp.bundle import Prekey
from tests.whatsapp.certificates import MEDIA_HOST

if TYPE_CHECKING:
    from tests.whatsapp.connection import Connection


async def answer(connection: Connection, query: Node) -> None:
    for child in query.children:
        reply = ANSWERS.get((query.text("xmlns"), child.tag))
        if reply:
            await reply(connection, query)
            return
    await connection.answer(query)


async def _count_prekeys(connection: Connection, query: Node) -> None:
    left = len(connection.account.clients[connection.device].prekeys)
    await connection.answer(query, Node("count", {"value": str(left)}))


async def _take_prekeys(connection: Connection, query: Node) -> None:
    bundle, signed = connection.account.clients[connection.device], query.at("skey")
    bundle.registration = query.at("registration").data
    bundle.identity = query.at("identity").data
    bundle.signed_prekey, bundle.signature = _prekey(signed), signed.at("signature").data
    bundle.prekeys += map(_prekey, query.at("list").children)
    await connection.answer(query)


def _prekey(node: Node) -> Prekey:
    return Prekey(node.at("id").data, node.at("value").data)


async def _give_keys(connection: Connection, query: Node) -> None:
    users = []
    for asked in query.at("key").children:
        jid = asked.jid("jid")
        account = connection.world.directory.of(jid)
        bundle = account.devices.get(jid.device) if account else None
        missing = Node("error", {"code": "404", "text": "item-not-found"})
        users.append(Node("user", {"jid": jid}, bundle.nodes() if bundle else [missing]))
    await connection.answer(query, Node("list", {}, users))


async def _look_up(connection: Connection, query: Node) -> None:
    """Tells (in "usync") what is known of some people, asked for by number or by JID."""
    topics = {topic.tag for topic in query.at("usync", "query").children}
    users = []
    for asked in query.at("usync", "list").children:
        if isinstance(jid := asked.attrs.get("jid"), JID):
            account, told = connection.world.directory.of(jid), []
        else:
            written = asked.at("contact").data
            number = written.decode().lstrip("+").partition("@")[0]
            account = connection.world.directory.look_up(number)
            jid = account.jid() if account else JID(number, USER_SERVER)
            told = [Node("contact", {"type": "in" if account else "out"}, written)]
        users.append(Node("user", {"jid": jid}, [*told, *_known(topics, account)]))
    await connection.answer(query, Node("usync", {}, [Node("list", {}, users)]))


def _known(topics: set[str], account: Account | None) -> list[Node]:
    known = []
    if "devices" in topics:
        devices = account.devices if account else {}
        numbers = [Node("device", {"id": str(number)}) for number in devices]
        known.append(Node("devices", {}, [Node("device-list", {}, numbers)]))
    if account and "lid" in topics:
        known.append(Node("lid", {"val": account.lid_jid()}))
    return known


async def _tell_media_host(connection: Connection, query: Node) -> None:
    attrs = {"auth": "double", "ttl": "300", "auth_ttl": "300", "max_buckets": "12"}
    host = Node("host", {"hostname": MEDIA_HOST})
    await connection.answer(query, Node("media_conn", dict(attrs), [host]))


async def _unlink(connection: Connection, query: Node) -> None:
    await connection.answer(query)
    connection.account.remove_client(connection.device)


ANSWERS: dict[tuple[str, str], Callable[[Connection, Node], Awaitable[None]]] = {
    ("encrypt", "count"): _count_prekeys,
    ("encrypt", "list"): _take_prekeys,
    ("encrypt", "key"): _give_keys,
    ("usync", "usync"): _look_up,
    ("w:m", "media_conn"): _tell_media_host,
    ("md", "remove-companion-device"): _unlink,
    ("md", "link_code_companion_reg"): linking.request_code,
}
