"""That a real client takes the double for WhatsApp: is linked, writes, and is written to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.processes import ROOT, wait_until
from tests.whatsapp.client import Client, ClientError
from tests.whatsapp.conftest import NewClient, NewPhone
from tests.whatsapp.double import Double, DoubleError, PhoneOf

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cf"
    "c0f01f00050001ff56c72f0d0000000049454e44ae426082"
)


def test_a_client_is_linked_when_its_qr_code_is_scanned(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client()
    client.connect()

    phone.scan(client.wait_for("QR")["text"])

    assert client.wait_for("PairStatus")["ID"]["User"] == phone.number
    client.wait_for("Connected")
    assert whatsapp.online(phone.number) == 1


def test_a_client_is_linked_when_its_code_is_typed(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client()
    client.connect()
    client.wait_for("QR")

    code = client.call("pair_phone", number=phone.number)
    assert len(code) == len("ABCD-EFGH")
    phone.type_code(code)

    client.wait_for("Connected")
    assert whatsapp.online(phone.number) == 1


def test_a_code_typed_wrongly_links_nobody(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client()
    client.connect()
    client.wait_for("QR")
    code = client.call("pair_phone", number=phone.number)

    with pytest.raises(DoubleError, match="WrongCode"):
        phone.type_code("1" * 8 if code != "1111-1111" else "2" * 8)

    assert "PairStatus" not in client.names()
    assert whatsapp.logins(phone.number) == 0


def test_the_code_of_a_client_that_has_gone_links_nobody(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client()
    client.connect()
    code = client.wait_for("QR")["text"]
    client.process.kill()
    client.process.wait()

    wait_until(lambda: is_refused(phone, code))

    assert whatsapp.logins(phone.number) == 0


def test_a_client_that_does_not_trust_the_double_gives_up(
    whatsapp: Double, start_client: NewClient
) -> None:
    client = start_client(WHATSAPP_DOUBLE_ROOT_KEY="11" * 32)

    client.connect()

    with pytest.raises(ClientError, match="cert"):
        client.end()


def test_the_root_key_is_replaced_once_or_not_at_all(whatsapp: Double) -> None:
    again = "import neonize; from tests.whatsapp import memory; print('once'); memory.trust()"

    process = subprocess.run(
        [sys.executable, "-c", again],
        cwd=ROOT, env=os.environ | whatsapp.environment, capture_output=True, text=True,
    )  # fmt: skip

    assert process.stdout == "once\n"
    assert "LookupError: the root key is 0 times in this build of neonize" in process.stderr


def test_a_message_reaches_whom_it_is_for_once(
    whatsapp: Double, sender: Client, sender_phone: PhoneOf, new_phone: NewPhone
) -> None:
    ali, siti = new_phone(), new_phone()

    first = sender.call("send_text", to=ali.number, text="Hi Ali")
    second = sender.call("send_text", to=ali.number, text="Hi again")

    assert [(m.id, m.sender, m.text, m.copies) for m in ali.received()] == [
        (first, sender_phone.number, "Hi Ali", 1),
        (second, sender_phone.number, "Hi again", 1),
    ]
    assert siti.received() == []
    assert sender_phone.received() == []  # its own copy is not a message to it
    assert [send.outcome for send in whatsapp.sends(ali.number)] == ["accepted", "accepted"]


def test_a_message_says_that_a_bot_wrote_it_unless_neonize_is_told_not_to(
    whatsapp: Double, sender: Client, start_client: NewClient, new_phone: NewPhone
) -> None:
    told = new_phone()
    sender.call("send_text", to=told.number, text="Hi")
    assert "bot" not in whatsapp.sends(told.number)[0].tags

    untold = new_phone()
    talkative = start_client(NEONIZE_BOT_TAG="on").link(new_phone())
    talkative.call("send_text", to=untold.number, text="Hi")
    assert "bot" in whatsapp.sends(untold.number)[0].tags


def test_another_client_of_the_recipient_reads_it_too(
    whatsapp: Double, sender: Client, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)

    sent = sender.call("send_text", to=phone.number, text="Hi both")

    read = client.wait_for("Message", lambda event: event["Info"]["ID"] == sent)
    assert "Hi both" in str(read["Message"])
    assert phone.texts() == ["Hi both"]


def test_a_picture_and_a_document_arrive(
    whatsapp: Double, sender: Client, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)

    picture = sender.call("send_image", to=phone.number, image=PNG, caption="Look")
    paper = sender.call("send_document", to=phone.number, content=b"%PDF-1.4 it", name="a.pdf")

    assert [(m.text, m.media) for m in phone.received()] == [
        ("Look", PNG),
        ("a.pdf", b"%PDF-1.4 it"),
    ]
    for sent, content in ((picture, PNG), (paper, b"%PDF-1.4 it")):
        client.wait_for("Message", lambda event, sent=sent: event["Info"]["ID"] == sent)
        assert client.call("download", message_id=sent) == content


def test_who_got_it_and_who_read_it_comes_back(
    whatsapp: Double, sender: Client, phone: PhoneOf
) -> None:
    phone.switch_off()
    sent = sender.call("send_text", to=phone.number, text="Hi")
    assert phone.received() == []

    phone.switch_on()
    sender.wait_for_receipt(sent, "DELIVERED")
    assert phone.texts() == ["Hi"]

    phone.read(sent)
    sender.wait_for_receipt(sent, "READ")


def test_a_person_writes_back_and_is_answered(
    whatsapp: Double, sender: Client, sender_phone: PhoneOf, phone: PhoneOf
) -> None:
    sender.call("send_text", to=phone.number, text="Hi")

    for word in ("STOP", "please"):
        reply = phone.write(sender_phone.number, word)
        heard = sender.wait_for("Message", lambda event, reply=reply: event["Info"]["ID"] == reply)
        assert word in str(heard["Message"])
        assert phone.number in str(heard["Info"]["MessageSource"])

    sender.call("send_text", to=phone.number, text="Sorry")
    sender.call("send_text", to=phone.number, text="Bye")
    assert phone.texts() == ["Hi", "Sorry", "Bye"]


def test_receipts_of_a_real_client_come_back(
    whatsapp: Double, sender: Client, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)
    sent = sender.call("send_text", to=phone.number, text="Hi")
    client.wait_for("Message", lambda event: event["Info"]["ID"] == sent)

    client.call("mark_read", message_id=sent)

    sender.wait_for_receipt(sent, "READ")


def test_who_is_not_on_whatsapp_is_known_and_cannot_be_written_to(
    whatsapp: Double, sender: Client, phone: PhoneOf
) -> None:
    nobody = "60199999999"

    assert sender.call("is_on_whatsapp", numbers=[phone.number, nobody]) == {
        phone.number: True,
        nobody: False,
    }
    with pytest.raises(ClientError, match=f"no LID found for {nobody}@s.whatsapp.net from server"):
        sender.call("send_text", to=nobody, text="Hi")
    assert whatsapp.sends(nobody) == []


def test_a_client_started_again_needs_no_code_and_gets_what_it_missed(
    whatsapp: Double, start_client: NewClient, new_phone: NewPhone
) -> None:
    owner, friend = new_phone(), new_phone()
    client = start_client("one.db").link(owner)
    friend.switch_off()
    sent = client.call("send_text", to=friend.number, text="Hi")
    client.process.kill()
    client.process.wait()
    wait_until(lambda: whatsapp.online(owner.number) == 0)
    friend.switch_on()

    again = start_client("one.db")
    again.connect()

    again.wait_for("Connected")
    again.wait_for_receipt(sent, "DELIVERED")


def is_refused(phone: PhoneOf, code: str) -> bool:
    """Whether a scan fails: the double may not have noticed yet that somebody has gone."""
    try:
        phone.scan(code)
    except DoubleError:
        return True
    return False


def test_a_receipt_that_the_client_has_confirmed_does_not_come_again(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf, new_phone: NewPhone
) -> None:
    def receipts() -> int:
        return client.names().count("Receipt")

    writer = new_phone()
    client = start_client().link(writer)
    message_id = client.call("send_text", to=phone.number, text="Hi")
    client.wait_for_receipt(message_id, "DELIVERED")
    after = client.mark()

    whatsapp.cut(writer.number)
    client.wait_for("Connected", after=after)
    phone.read(message_id)
    client.wait_for_receipt(message_id, "READ")

    assert receipts() == 2
