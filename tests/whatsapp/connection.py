"""One client's connection: linked or logged in, its stanzas read one after the other."""

from __future__ import annotations

import asyncio
import itertools
import time
import traceback

from websockets.exceptions import ConnectionClosed

from tests.whatsapp import linking, messages, queries
from tests.whatsapp.accounts import Account
from tests.whatsapp.binary import SERVER, Node, decode, encode
from tests.whatsapp.noise import Channel
from tests.whatsapp.world import World

# The client hangs up by itself after most last words. It may overlook one that comes with the end.
LAST_WORD_SECONDS = 1.0
LOGGED_OUT = {"reason": "401", "location": "double"}

_numbers = itertools.count(1)


class Connection:
    def __init__(self, world: World, channel: Channel) -> None:
        self.world, self.channel = world, channel
        self.link: linking.Link | None = None  # while it is not an account's yet
        self.device = 0
        self.unconfirmed: dict[tuple[str, str], Node] = {}  # receipts, by id and type
        self._account: Account | None = None

    @property
    def account(self) -> Account:
        assert self._account is not None, "it has not logged in"
        return self._account

    async def run(self) -> None:
        try:
            if self.channel.hello.HasField("devicePairingData"):
                if refusal := self.world.troubles.refusal:
                    await self.end(Node("failure", dict(refusal)))
                    return
                await linking.offer(self)
            elif not await self._log_in():
                return
            while True:
                await self._take(decode(await self.channel.receive()))
        except ConnectionClosed:
            pass
        finally:
            if self._account and self.world.online.get(self._place) is self:
                del self.world.online[self._place]
            for receipt in self.unconfirmed.values():
                await self.world.deliver(self.account, self.device, receipt)

    async def send(self, node: Node) -> bool:
        """Returns False if nobody is there any more."""
        try:
            await self.channel.send(encode(node))
        except ConnectionClosed:
            return False
        return True

    async def ask(self, content: Node) -> bool:
        number = f"double-{next(_numbers)}"
        return await self.send(
            Node("iq", {"from": SERVER, "type": "set", "id": number, "t": now()}, [content])
        )

    async def answer(self, query: Node, *content: Node) -> None:
        attrs = {"from": SERVER, "type": "result", "id": query.attrs["id"]}
        await self.send(Node("iq", attrs, list(content) or None))

    async def end(self, last_word: Node) -> None:
        """Says why, gives the client time to hear it, and hangs up."""
        await self.send(last_word)
        try:
            await asyncio.wait_for(self.channel.socket.wait_closed(), LAST_WORD_SECONDS)
        except TimeoutError:
            await self.channel.close()

    @property
    def _place(self) -> tuple[str, int]:
        return self.account.number, self.device

    async def _log_in(self) -> bool:
        number, device = str(self.channel.hello.username), self.channel.hello.device
        self.world.logins.append(number)
        troubles = self.world.troubles
        refusal = troubles.refusals.get(number) or troubles.refusal
        account = self.world.directory.of_number(number)
        if refusal is None and (account is None or device not in account.clients):
            refusal = LOGGED_OUT
        if refusal or not account:
            await self.end(Node("failure", dict(refusal or LOGGED_OUT)))
            return False

        self._account, self.device = account, device
        former = self.world.online.get(self._place)
        self.world.online[self._place] = self
        if former:
            replaced = Node("conflict", {"type": "replaced"})
            await former.end(Node("stream:error", {}, [replaced]))
        await self.send(Node("success", {"t": now(), "lid": account.lid_jid(device)}))
        for node in account.waiting.pop(device, []):
            await self.world.deliver(account, device, node)
        return True

    async def _take(self, node: Node) -> None:
        try:
            match node.tag:
                case "iq" if self.link and node.child("pair-device-sign"):
                    await linking.finish(self)
                case "iq" if node.text("type") in ("get", "set"):
                    await queries.answer(self, node)
                case "message":
                    await messages.take_message(self, node)
                case "receipt":
                    await messages.take_receipt(self, node)
                case "ack":
                    self.unconfirmed.pop((node.text("id"), node.text("type")), None)
        except ConnectionClosed:
            raise
        except Exception:  # noqa: BLE001 (what it is, the test is told)
            self.world.complaints.append(f"{node.tag} {node.attrs}: {traceback.format_exc()}")


def now() -> int:
    return int(time.time())
