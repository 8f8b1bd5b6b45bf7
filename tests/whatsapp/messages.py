"""Messages and receipts on their way from one device to others, and what may befall them."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from tests.whatsapp.accounts import PHONE, Account
from tests.whatsapp.binary import Node, Value
from tests.whatsapp.world import Send

if TYPE_CHECKING:
    from tests.whatsapp.connection import Connection
    from tests.whatsapp.world import World


async def take_message(connection: Connection, node: Node) -> None:
    troubles = connection.world.troubles
    send = _note(connection, node)
    ack: dict[str, Value] = {
        "class": "message", "id": send.id, "from": node.jid("to"), "t": int(time.time()),
    }  # fmt: skip
    if troubles.cut_next_send == "before it arrives":
        troubles.cut_next_send, send.outcome = "", "lost"
        connection.channel.cut()
    elif troubles.send_error:
        send.outcome = str(troubles.send_error)
        await connection.send(Node("ack", ack | {"error": send.outcome}))
    else:
        await _relay(connection, node)
        if troubles.cut_next_send:
            troubles.cut_next_send = ""
            connection.channel.cut()
        elif troubles.is_withholding:
            troubles.withheld.append((connection, Node("ack", ack)))
        else:
            await connection.send(Node("ack", ack))


async def take_receipt(connection: Connection, node: Node) -> None:
    """Passes on that a client got or read something, to the device it came from."""
    world, reader = connection.world, connection.account
    to, kind = node.jid("to"), node.text("type")
    ack = {"class": "receipt", "id": node.attrs["id"], "type": kind, "from": to}
    await connection.send(Node("ack", ack))
    writer = world.directory.of(to)
    if writer is None or writer is reader:
        return
    is_from_device = kind == "retry"  # asks for the message again, so it matters which device
    if is_from_device and to.device == PHONE:
        world.complaints.append(f"{reader.number} cannot read what {writer.number}'s phone wrote")
    attrs: dict[str, Value] = {
        "from": reader.lid_jid(connection.device if is_from_device else PHONE),
        "id": node.attrs["id"], "type": kind, "t": int(time.time()),
    }  # fmt: skip
    for device in list(writer.clients):
        if to.device in (PHONE, device):
            await world.deliver(writer, device, Node("receipt", attrs, node.content))


async def reach_phone(world: World, account: Account, message: Node) -> None:
    """Gives a message to a phone that is on, which confirms it; else it waits."""
    if not account.phone.is_on:
        account.waiting.setdefault(PHONE, []).append(message)
        return
    device, message_id = message.jid("from").device, message.text("id")
    writer = world.directory.of(message.jid("sender_pn"))
    if writer is None or device not in writer.clients:
        return  # it was unlinked while this waited
    identity = writer.clients[device].identity
    if account.phone.receive(writer.jid(device), identity, message_id, message.at("enc")):
        await confirm(world, account, message_id)


async def confirm(world: World, reader: Account, message_id: str, kind: str = "") -> None:
    """Sends a phone's receipt for a message: delivered, or of the kind that is named."""
    for received in reader.phone.received.values():
        writer = world.directory.of(received.sender)
        if received.id == message_id and writer:
            attrs = {"from": reader.lid_jid(), "id": message_id, "type": kind}
            receipt = Node("receipt", attrs | {"t": int(time.time())})
            await world.deliver(writer, received.sender.device, receipt)


async def write_from_phone(world: World, writer: Account, reader: Account, text: str) -> str:
    """Sends what a phone's owner writes to all clients of another account; returns its id."""
    message_id = secrets.token_hex(16).upper()
    attrs = _attrs(writer, PHONE, message_id, "text", by_lid=True)
    for device, bundle in list(reader.clients.items()):
        message = Node("message", dict(attrs), [writer.phone.write(text, bundle)])
        await world.deliver(reader, device, message)
    return message_id


def _note(connection: Connection, node: Node) -> Send:
    recipient = connection.world.directory.of(node.jid("to"))
    send = Send(
        id=node.text("id"),
        sender=connection.account.number,
        recipient=recipient.number if recipient else node.jid("to").user,
        tags=[child.tag for child in node.children],
    )
    connection.world.sends.append(send)
    return send


async def _relay(connection: Connection, node: Node) -> None:
    """Gives every device what was encrypted for it."""
    world, writer = connection.world, connection.account
    by_lid = node.jid("to").server == writer.lid_jid().server
    attrs = _attrs(writer, connection.device, node.text("id"), node.text("type"), by_lid=by_lid)
    participants = node.child("participants")
    for part in participants.children if participants else [node]:
        to = part.jid("jid" if participants else "to")
        account = world.directory.of(to)
        assert account, f"{to} was written to"
        message = Node("message", dict(attrs), [part.at("enc")])
        if to.device == PHONE:
            await reach_phone(world, account, message)
        elif to.device in account.clients:
            await world.deliver(account, to.device, message)


def _attrs(
    writer: Account, device: int, message_id: str, kind: str, *, by_lid: bool
) -> dict[str, Value]:
    return {
        "from": writer.lid_jid(device) if by_lid else writer.jid(device),
        "sender_pn": writer.jid(),
        "id": message_id, "type": kind, "t": int(time.time()),
    }  # fmt: skip
