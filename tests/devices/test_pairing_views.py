from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import Worker
from devices.models import Device
from devices.pairing import Pairing, Unlinking
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
QR = {"method": "qr", "accepted": "on"}


@pytest.fixture
def device(db: None) -> Device:
    return DeviceFactory(name="Sales WA", transport="neonize", phone=None)


@pytest.fixture
def page(operator_client: Client, device: Device) -> Callable[..., str]:
    """What the pairing page says to an operator."""
    return lambda **query: operator_client.get(
        reverse("devices:pair", args=[device.pk]), query
    ).content.decode()


def post(client: Client, name: str, device: Device, **data: object) -> str:
    response = client.post(reverse(f"devices:{name}", args=[device.pk]), data, follow=True)
    return response.content.decode()


def broadcaster(**values: object) -> Worker:
    now = timezone.now()
    return Worker.objects.create(
        id="w", hostname="h", pid=1, started_at=now, heartbeat_at=now, **values
    )


# Pairing


def test_nothing_is_started_before_the_notice_is_accepted(
    operator_client: Client, device: Device, page: Callable[..., str]
) -> None:
    assert "do not allow bulk or automated messages" in page()
    assert "Without this nothing is linked" in post(operator_client, "pair", device, method="qr")
    assert not Pairing.objects.exists()
    waiting = post(operator_client, "pair", device, **QR)
    assert "Waiting for a broadcaster" in waiting
    assert "do not allow bulk or automated messages" in waiting  # still to be read
    assert Pairing.objects.get().accepted_by == "operator"
    assert LogEntry.objects.count() == 1


def test_who_has_accepted_it_is_not_asked_again_but_everybody_else_is(
    operator_client: Client, admin_client: Client, device: Device, page: Callable[..., str]
) -> None:
    post(operator_client, "pair", device, **QR)
    Pairing.objects.get().cancel()
    assert "You accepted this on" in page()
    assert 'name="accepted"' not in page()
    url = reverse("devices:pair", args=[device.pk])
    assert 'name="accepted"' in admin_client.get(url).content.decode()


@pytest.mark.parametrize(
    ("phone", "words"),
    [
        ("", "WhatsApp makes the code for a number"),
        ("my phone", "This is not a phone number"),
        ("012-345", "There is no such number"),
        ("+60 12-345 6780", "another device"),
    ],
)
def test_a_code_needs_the_number_of_the_phone(
    operator_client: Client, device: Device, phone: str, words: str
) -> None:
    DeviceFactory(transport="neonize", phone="60123456780")
    said = post(operator_client, "pair", device, **QR | {"method": "code", "phone": phone})
    assert words in said
    assert not Pairing.objects.exists()


def test_a_code_is_made_for_the_number_of_the_device_in_any_spelling(
    operator_client: Client,
) -> None:
    device = DeviceFactory(transport="neonize", phone="60123456789")
    data = QR | {"method": "code", "phone": "012-345 6788"}
    assert "number is +60123456789" in post(operator_client, "pair", device, **data)
    post(operator_client, "pair", device, **data | {"phone": "012-345 6789"})
    assert Pairing.objects.get().phone == "60123456789"


def test_the_page_shows_the_code_and_asks_for_news_only(
    operator_client: Client, device: Device
) -> None:
    post(operator_client, "pair", device, **QR)
    pairing = Pairing.objects.claim("w")
    assert pairing
    pairing.show("https://wa.me/settings/linked_devices#abc", 60)
    url = reverse("devices:pair", args=[device.pk])
    response = operator_client.get(url)
    page = response.content.decode()
    for words in ('class="qr"', 'role="img"', 'fill="#fff"', 'data-seconds="60"', "Cancel"):
        assert words in page
    assert "no-store" in response["Cache-Control"]
    pairing.refresh_from_db()
    news = operator_client.get(url, {"seen": pairing.version}, headers=HTMX)
    assert (news.status_code, news.content) == (204, b"")
    pairing.show("https://wa.me/settings/linked_devices#def", 20)
    fragment = operator_client.get(url, {"seen": pairing.version}, headers=HTMX).content.decode()
    assert "<html" not in fragment
    assert "innerHTML:#pairing-state" in fragment
    assert "every 1s" in fragment


def test_eight_characters_are_shown_for_their_number(
    operator_client: Client, device: Device, page: Callable[..., str]
) -> None:
    post(operator_client, "pair", device, **QR | {"method": "code", "phone": "0123456789"})
    pairing = Pairing.objects.claim("w")
    assert pairing
    pairing.show("ABCD-EFGH", 160)
    said = page()
    for words in ("ABCD-EFGH", "+60123456789", "Link with phone number instead"):
        assert words in said


@pytest.mark.parametrize("reason", Pairing.Reason)
def test_each_failure_is_told_in_plain_words_and_can_be_tried_again(
    operator_client: Client, device: Device, page: Callable[..., str], reason: str
) -> None:
    post(operator_client, "pair", device, **QR)
    Pairing.objects.get().fail(reason)
    said = page()
    assert Pairing.Reason(reason).label.replace("'", "&#x27;") in said
    assert "Try again" in said
    assert "every 1s" not in said
    post(operator_client, "pair", device, method="qr")
    assert Pairing.objects.open().get().state == "requested"


def test_success_is_told_until_somebody_pairs_again(
    operator_client: Client, device: Device, page: Callable[..., str]
) -> None:
    post(operator_client, "pair", device, **QR)
    pairing = Pairing.objects.claim("w")
    assert pairing
    pairing.succeed("60123456789")
    assert "Linked to +60123456789" in page()
    assert "Show the code" in page(again="")
    Pairing.objects.update(finished_at=timezone.now() - timedelta(hours=1))
    assert "Show the code" in page()


def test_the_second_to_pair_a_device_is_shown_the_running_one(
    operator_client: Client, admin_client: Client, device: Device
) -> None:
    post(operator_client, "pair", device, **QR)
    said = post(admin_client, "pair", device, **QR)
    assert "It is being linked already" in said
    assert "Started by operator" in said
    assert Pairing.objects.count() == 1


def test_cancelling_ends_it_once(operator_client: Client, device: Device) -> None:
    post(operator_client, "pair", device, **QR)
    assert "Cancelled. Nothing was linked." in post(operator_client, "cancel_pairing", device)
    assert "Cancelled" not in post(operator_client, "cancel_pairing", device)
    assert Pairing.objects.get().state == "cancelled"


@pytest.mark.parametrize("is_waiting", [False, True])
def test_the_page_says_when_no_broadcaster_can_pair(
    operator_client: Client, device: Device, page: Callable[..., str], is_waiting: bool
) -> None:
    if is_waiting:
        post(operator_client, "pair", device, **QR)
        assert "Waiting for a broadcaster" in page()
    missing = "No broadcaster with WhatsApp support is running."
    worker = broadcaster()
    assert missing in page()
    Worker.objects.update(can_pair=True)
    assert missing not in page()
    worker.stopped_at = timezone.now()
    worker.save(update_fields=["stopped_at"])
    assert missing in page()


def test_a_simulated_device_has_nothing_to_pair(operator_client: Client) -> None:
    for name in ("pair", "log_out"):
        url = reverse(f"devices:{name}", args=[DeviceFactory().pk])
        assert operator_client.get(url).status_code == 404


# Logging out and deleting


def test_logging_out_asks_first_and_is_shown_until_whatsapp_knows(operator_client: Client) -> None:
    device = DeviceFactory(transport="neonize", session="s1")
    url = reverse("devices:log_out", args=[device.pk])
    assert (
        "The device, its number and its history stay." in operator_client.get(url).content.decode()
    )
    assert Device.objects.get().session == "s1"
    assert "WhatsApp is being told" in post(operator_client, "log_out", device)
    assert "nothing to do" in operator_client.get(url).content.decode()
    for state, words in (("done", "WhatsApp knows"), ("failed", "Remove it on the phone")):
        Unlinking.objects.update(state=state, finished_at=timezone.now())
        detail = operator_client.get(reverse("devices:detail", args=[device.pk]))
        assert words in detail.content.decode()


def test_a_device_that_was_unlinked_on_the_phone_is_to_be_paired_again(
    operator_client: Client,
) -> None:
    device = DeviceFactory(transport="neonize", session="s1", status="logged_out")
    said = operator_client.get(reverse("devices:detail", args=[device.pk])).content.decode()
    assert "Pair it again" in said
    assert reverse("devices:works_again", args=[device.pk]) not in said


def test_deleting_asks_and_says_what_waits_and_the_history_keeps_the_device(
    admin_client: Client, operator_client: Client
) -> None:
    device = DeviceFactory(name="Sales 01", phone="60123456789")
    message = BroadcastMessageFactory(device=device)
    url = reverse("devices:delete", args=[device.pk])
    asked = admin_client.get(url).content.decode()
    for words in ("1 message waits for it.", "+60123456789", "cannot be brought back"):
        assert words in asked
    assert operator_client.post(url).status_code == 403
    assert "Deleted: Sales 01 (+60123456789)." in post(admin_client, "delete", device)
    assert (
        "Sales 01"
        not in operator_client.get(reverse("devices:list"), headers=HTMX).content.decode()
    )
    shown = operator_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    assert "Sales 01 (deleted" in shown
    detail = operator_client.get(reverse("devices:detail", args=[device.pk])).content.decode()
    assert "its history stays" in detail
    for name in ("edit", "delete", "switch", "works_again"):
        response = admin_client.post(reverse(f"devices:{name}", args=[device.pk]))
        assert response.status_code == 404


def test_when_it_last_sent_is_shown(operator_client: Client) -> None:
    device = DeviceFactory()
    url = reverse("devices:detail", args=[device.pk])
    assert "nothing so far" in operator_client.get(url).content.decode()
    sent_at = timezone.now() - timedelta(minutes=7)
    BroadcastMessageFactory(device=device, status="sent", sent_at=sent_at)
    assert "7\xa0minutes ago" in operator_client.get(url).content.decode()


def test_who_accepted_what_is_listed_in_the_admin_without_the_codes(
    client: Client, device: Device, operator: User
) -> None:
    Pairing.start(device, "qr", "", operator)
    pairing = Pairing.objects.claim("w")
    assert pairing
    pairing.show("SECRET", 60)
    operator.is_staff = True
    operator.save(update_fields=["is_staff"])
    client.force_login(operator)
    assert not Permission.objects.filter(content_type__model="pairing").exists()
    for url in (
        reverse("admin:devices_pairing_changelist"),
        reverse("admin:devices_pairing_change", args=[pairing.pk]),
    ):
        page = client.get(url).content.decode()
        assert "operator" in page
        assert "SECRET" not in page
