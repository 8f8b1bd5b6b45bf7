"""Files through our transport: uploaded once, opened by the phones they were sent to."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from devices.transports.base import Accepted, NotSent, Refused, Unknown
from tests.attachments.files import MP4, PDF, jpeg
from tests.factories import PNG
from tests.processes import wait_until
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.session import Sessions
from tests.whatsapp.test_transport import Start, account, connected, folder, session, start

__all__ = ["account", "folder", "session", "start"]  # fixtures


def file(kind: str, content_type: str, name: str, content: bytes, **more: int) -> dict[str, Any]:
    return {
        "id": 1, "kind": kind, "content_type": content_type, "name": name, "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "content": content, **more,
    }  # fmt: skip


PICTURE = file("image", "image/png", "Shop.png", PNG, width=1, height=1)
CAPTION = "*New* prices,\nRM 8 ✓"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (PICTURE, {"kind": "image", "mimetype": "image/png", "width": 1, "height": 1}),
        # None that a decoder would take: what the operator uploaded is what arrives.
        (file("image", "image/jpeg", "a.jpg", jpeg()), {"kind": "image", "mimetype": "image/jpeg"}),
        (file("video", "video/mp4", "a.mp4", MP4), {"kind": "video", "mimetype": "video/mp4"}),
        (
            file("document", "application/pdf", "Harga ✓.pdf", PDF + bytes(3_000_000)),
            {"kind": "document", "mimetype": "application/pdf", "fileName": "Harga ✓.pdf"},
        ),
    ],
)
def test_a_file_arrives_byte_by_byte_with_the_text_as_its_caption(
    session: Sessions, phone: PhoneOf, sent: dict[str, Any], told: dict[str, Any]
) -> None:
    outcome = session.send(phone.number, CAPTION, file=sent)

    assert isinstance(outcome, Accepted)
    (got,) = phone.received()
    assert (got.id, got.text, got.media == sent["content"]) == (
        outcome.provider_message_id, CAPTION, True,
    )  # fmt: skip
    assert got.file == told
    session.hears("Receipt", provider_message_id=outcome.provider_message_id, kind="delivered")


def test_a_picture_needs_no_caption(session: Sessions, phone: PhoneOf) -> None:
    assert isinstance(session.send(phone.number, "", file=PICTURE), Accepted)
    (got,) = phone.received()
    assert (got.text, got.media) == ("", PNG)


def test_a_file_is_read_and_uploaded_once_for_all_who_get_it(
    whatsapp: Double, session: Sessions, new_phone: NewPhone
) -> None:
    phones = [new_phone() for _ in range(3)]
    before = whatsapp.uploads()

    for number, phone in enumerate(phones):
        session.send(phone.number, f"Hi {number}", f"message-{number}", file=PICTURE)

    assert [phone.received()[0].media for phone in phones] == [PNG] * 3
    assert whatsapp.uploads() == before + 1
    assert session.process.call("reads") == 1


def test_a_file_survives_a_broken_connection(
    whatsapp: Double, session: Sessions, account: PhoneOf, phone: PhoneOf
) -> None:
    session.send(phone.number, key="message-1", file=PICTURE)
    before, seen = whatsapp.uploads(), session.process.mark()

    whatsapp.cut(account.number)
    session.hears("Connected", after=seen)

    assert isinstance(session.send(phone.number, key="message-2", file=PICTURE), Accepted)
    assert whatsapp.uploads() == before


def test_a_media_server_that_is_down_sends_nothing_and_is_tried_again(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    whatsapp.refuse_media(503)

    refused = session.send(phone.number, file=PICTURE)

    assert isinstance(refused, Refused)
    assert (refused.code, refused.retry_after is not None) == ("media_host_down", True)
    assert whatsapp.sends(phone.number) == []
    assert session.recall() == NotSent()
    whatsapp.behave()
    assert isinstance(session.send(phone.number, file=PICTURE), Accepted)


def test_a_slow_upload_is_nobody_s_message_and_goes_on_for_the_next_try(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    session.process.call("wait_for_uploads", seconds=0.2)
    before = whatsapp.uploads()
    whatsapp.withhold_media()

    refused = session.send(phone.number, file=PICTURE)

    assert isinstance(refused, Refused)
    assert (refused.code, session.recall()) == ("uploading", NotSent())
    whatsapp.behave()
    wait_until(lambda: whatsapp.uploads() == before + 1)
    session.process.call("wait_for_uploads", seconds=8)
    assert isinstance(session.send(phone.number, file=PICTURE), Accepted)
    assert (whatsapp.uploads(), len(phone.received())) == (before + 1, 1)


def test_a_message_whose_lease_ran_out_during_its_upload_does_not_leave(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    whatsapp.withhold_media()
    call = session.begin_send(phone.number, file=PICTURE)
    wait_until(lambda: session.process.call("reads") == 1)

    session.process.call("lose_the_lease")
    whatsapp.behave()

    assert session.process.result(call) == NotSent()
    assert (session.recall(), phone.received()) == (NotSent(), [])


def test_after_a_kill_it_is_known_whether_a_file_s_message_left(
    whatsapp: Double, account: PhoneOf, phone: PhoneOf, start: Start
) -> None:
    """As of a text: the token is in the message that names the file."""
    killed = connected(start())
    whatsapp.withhold_acks()
    killed.begin_send(phone.number, key="message-1", file=PICTURE)
    wait_until(phone.received)
    killed.process.process.kill()
    killed.process.process.wait()
    whatsapp.behave()

    heir = connected(start())

    memory = heir.recall("message-1")
    assert isinstance(memory, Unknown)
    assert memory.provider_message_id == phone.received()[0].id
    assert heir.recall("message-2") == NotSent()
