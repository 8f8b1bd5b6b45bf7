from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from attachments.models import Attachment
from broadcasts import shelf
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from broadcasts.shelf import FileGone, Shelf
from broadcasts.worker import Broadcaster
from devices.models import SimulatedMessage
from devices.transports import transport
from devices.transports.simulator import World
from tests.attachments.files import PDF
from tests.factories import (
    PNG,
    AttachmentFactory,
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    claimed_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


def with_file(attachment: Attachment | None) -> Claimed:
    return claimed_of(
        BroadcastMessageFactory(campaign__attachment=attachment, attachment=attachment)
    )


def test_a_message_with_a_file_is_packed_with_it() -> None:
    message, shelf = with_file(AttachmentFactory(name="a.png")), Shelf()
    shelf.know([message])
    packed = shelf.pack(message)
    assert packed.media
    assert (packed.media.kind, packed.media.name, packed.media.width) == ("image", "a.png", 1)
    assert packed.media.read() == PNG


def test_texts_cost_no_query_and_a_file_one() -> None:
    texts, files = [with_file(None)], [with_file(AttachmentFactory()) for _ in range(3)]
    shelf = Shelf()
    with CaptureQueriesContext(connection) as queries:
        shelf.know(texts)
        assert shelf.pack(texts[0]).media is None
    assert len(queries) == 0
    for expected in (1, 0):
        with CaptureQueriesContext(connection) as queries:
            shelf.know(files)
        assert len(queries) == expected


def test_a_claimed_message_says_which_file_it_carries_without_another_query() -> None:
    message = with_file(AttachmentFactory())
    (claimed,) = BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[message.device_id or 0]
    )
    with CaptureQueriesContext(connection) as queries:
        assert claimed.attachment_id == message.attachment_id
    assert len(queries) == 0


def test_many_who_want_a_file_at_once_have_it_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    from_database: Callable[[int], bytes] = shelf._read_from_database
    monkeypatch.setattr(
        shelf, "_read_from_database", lambda pk: (reads.append(pk), from_database(pk))[1]
    )
    message, own = with_file(AttachmentFactory()), Shelf()
    own.know([message])
    together = threading.Barrier(8)

    def read(_: int) -> bytes:
        together.wait(20)
        return own.pack(message).media.read()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(8))) == [PNG] * 8
    assert reads == [message.attachment_id]


def test_what_is_kept_in_memory_has_an_end() -> None:
    sizes = [400, 400, 400]
    messages = [
        with_file(AttachmentFactory(name=f"{n}.pdf", content=PDF + bytes([n]) * size))
        for n, size in enumerate(sizes)
    ]
    shelf = Shelf(most_bytes=1000)
    shelf.know(messages)
    for message in messages:
        assert (
            shelf.pack(message).media.read()
            == Attachment.objects.get(pk=message.attachment_id).read()
        )
    assert list(shelf._contents) == [message.attachment_id for message in messages[1:]]


def test_without_its_file_a_message_is_not_sent() -> None:
    message, shelf = with_file(AttachmentFactory()), Shelf()
    message.attachment_id = 999
    shelf.know([message])
    with pytest.raises(FileGone):
        shelf.pack(message)


@pytest.fixture
def fast(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SIMULATOR_SPEED = 1000
    kind = World(not_on_whatsapp=0, media_host_down=0, replies=0, opts_out=0)
    monkeypatch.setattr(transport("simulator"), "world", kind)


def test_the_simulator_s_phone_shows_what_came(fast: None, client: Client) -> None:
    attachment = AttachmentFactory(name="Shop front.png")
    lead = LeadFactory()
    campaign = CampaignFactory(sending=True, attachment=attachment)
    BroadcastMessageFactory(
        campaign=campaign, lead=lead, attachment=attachment, device=DeviceFactory()
    )

    Broadcaster(drain=True).run()

    client.force_login(User.objects.create_superuser("admin"))
    (received,) = SimulatedMessage.objects.filter(phone=lead.phone)
    assert received.media == f"{attachment.pk} image {attachment.sha256} Shop front.png"
    page = client.get(reverse("devices:phone"), {"phone": lead.phone}).content.decode()
    assert f'src="{reverse("attachments:content", args=[attachment.pk])}"' in page
    message = BroadcastMessage.objects.get()
    detail = client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    assert f'src="{reverse("attachments:content", args=[attachment.pk])}"' in detail


def test_a_message_whose_file_is_gone_fails_and_says_so(fast: None) -> None:
    message = BroadcastMessageFactory(device=DeviceFactory())
    BroadcastMessage.objects.update(attachment=999)

    Broadcaster(drain=True).run()

    message.refresh_from_db()
    assert (message.status, message.error_code) == ("failed", "file_gone")
    assert not SimulatedMessage.objects.exists()
