"""What a test can do to the double, and ask it, from another process: a line of JSON each way.

double.py has the same verbs for tests to call, and says what each means.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import asdict, replace
from typing import Any, Literal

from tests.whatsapp import linking
from tests.whatsapp.accounts import PHONE, Account
from tests.whatsapp.binary import Node
from tests.whatsapp.messages import confirm, reach_phone, write_from_phone
from tests.whatsapp.pairing import QrCode
from tests.whatsapp.proxy import Proxy
from tests.whatsapp.world import Troubles, World


class Verbs:
    """Every public method without an underscore but `serve` is a verb."""

    def __init__(self, world: World, proxy: Proxy) -> None:
        self._world, self._proxy = world, proxy

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        try:
            verb = getattr(self, request["verb"])
            answer = {"answer": await verb(**request["arguments"])}
        except Exception as error:  # noqa: BLE001 (raised again where it was called)
            answer = {"error": f"{type(error).__name__}: {error}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    # People and their phones

    async def register(self, numbers: list[str]) -> None:
        for number in numbers:
            self._world.directory.register(number)

    async def add_alias(self, number: str, alias: str) -> None:
        self._world.directory.add_alias(number, alias)

    async def scan(self, number: str, text: str) -> None:
        code = QrCode.read(text)
        connection = self._world.by_ref.get(code.ref)
        if connection is None:
            raise LookupError("this QR code is nobody's, or was used")
        await linking.scan(self._account(number), connection, code)

    async def type_code(self, number: str, code: str) -> None:
        connection = self._world.by_number.get(number)
        if connection is None:
            raise LookupError(f"no client asked {number} for a code")
        await linking.type_code(self._account(number), connection, code)

    async def copy_client(self, number: str, to: str) -> dict[str, str]:
        """Takes whoever has the keys of this account's client for a client of the other as well."""
        (bundle,), account = self._account(number).clients.values(), self._account(to)
        device = account.next_client()
        account.clients[device] = replace(bundle, prekeys=list(bundle.prekeys))
        jid, lid = account.jid(device), account.lid_jid(device)
        return {"jid": str(jid), "lid": str(lid), "lid_user": lid.user}

    async def received(self, number: str) -> list[dict[str, Any]]:
        return [
            asdict(message)
            | {"sender": message.sender.user, "media": base64.b64encode(message.media).decode()}
            for message in self._account(number).phone.received.values()
        ]

    async def write(self, number: str, to: str, text: str) -> str:
        writer, reader = self._account(number), self._account(to)
        return await write_from_phone(self._world, writer, reader, text)

    async def confirm(self, number: str, message_id: str, kind: str) -> None:
        await confirm(self._world, self._account(number), message_id, kind)

    async def switch_off(self, number: str) -> None:
        self._account(number).phone.is_on = False

    async def switch_on(self, number: str) -> None:
        account = self._account(number)
        account.phone.is_on = True
        for message in account.waiting.pop(PHONE, []):
            await reach_phone(self._world, account, message)

    async def log_out(self, number: str) -> None:
        account = self._account(number)
        connections = list(self._world.connections_of(number))
        for device in list(account.clients):
            account.remove_client(device)
        removed = Node("conflict", {"type": "device_removed"})
        for connection in connections:
            await connection.end(Node("stream:error", {"code": "401"}, [removed]))

    # What the server does wrong

    async def answer_sends_with(self, code: int | None) -> None:
        self._world.troubles.send_error = code

    async def withhold_acks(self) -> None:
        self._world.troubles.is_withholding = True

    async def release_acks(self) -> None:
        troubles = self._world.troubles
        troubles.is_withholding, withheld = False, troubles.withheld
        troubles.withheld = []
        for connection, ack in withheld:
            await connection.send(ack)

    async def cut_next_send(self, when: Literal["before it arrives", "after it arrived"]) -> None:
        self._world.troubles.cut_next_send = when

    async def cut(self, number: str) -> None:
        for connection in self._world.connections_of(number):
            connection.channel.cut()

    async def replace(self, number: str) -> None:
        replaced = Node("conflict", {"type": "replaced"})
        for connection in self._world.connections_of(number):
            await connection.end(Node("stream:error", {}, [replaced]))

    async def refuse_logins(self, number: str | None, reason: str, **more: str) -> None:
        refusal = {"reason": reason, **more}
        if number is None:
            self._world.troubles.refusal = refusal
        else:
            self._world.troubles.refusals[number] = refusal

    async def refuse_media(self, status: int) -> None:
        self._world.media.status = status

    async def withhold_media(self) -> None:
        self._world.media.is_open.clear()

    async def go_away(self) -> None:
        self._proxy.is_open = False
        for connection in list(self._world.online.values()):
            connection.channel.cut()

    async def come_back(self) -> None:
        self._proxy.is_open = True

    async def behave(self) -> None:
        await self.release_acks()
        self._world.troubles = Troubles()
        self._world.media.status = 200
        self._world.media.is_open.set()
        self._proxy.is_open = True

    # What it has seen

    async def sends(self, recipient: str | None) -> list[dict[str, Any]]:
        return [asdict(send) for send in self._world.sends if recipient in (None, send.recipient)]

    async def logins(self, number: str) -> int:
        return self._world.logins.count(number)

    async def online(self, number: str) -> int:
        return len(list(self._world.connections_of(number)))

    async def clients(self, number: str) -> int:
        return len(self._account(number).clients)

    async def uploads(self) -> int:
        return len(self._world.media.files)

    async def complaints(self) -> list[str]:
        complaints = self._world.complaints + [f"asked for {host}" for host in self._proxy.refused]
        self._world.complaints, self._proxy.refused = [], []
        return complaints

    def _account(self, number: str) -> Account:
        account = self._world.directory.of_number(number)
        if account is None:
            raise LookupError(f"{number} is not on WhatsApp: register it")
        return account
