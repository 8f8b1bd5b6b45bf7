from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.leases import LOOK_AROUND_SECONDS, REFRESH_SECONDS
from broadcasts.models import BroadcastMessage
from devices.cards import WAITING, Card, cards
from devices.models import Device, SimulatedMessage
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def test_the_waiting_statuses_are_those_of_the_queue() -> None:
    assert set(WAITING) == set(BroadcastMessage.OPEN)


def test_each_device_has_a_card_with_its_state_and_queue(viewer_client: Client) -> None:
    busy = DeviceFactory(name="Sales 01", online=True)
    DeviceFactory(name="Sales 02", status="restricted", status_reason="Too many new people.")
    campaign = CampaignFactory(sending=True)
    for status in ("pending", "pending", "processing", "sent"):
        BroadcastMessageFactory(device=busy, campaign=campaign, status=status)
    page = viewer_client.get(reverse("devices:list"))
    assert [card.waiting for card in page.context["cards"]] == [3, 0]
    for words in ("Sales 01", "online", "restricted", "Too many new people."):
        assert words in page.content.decode()


def test_the_list_takes_two_queries_however_many_devices(
    django_assert_num_queries: object,
) -> None:
    DeviceFactory.create_batch(20)
    with django_assert_num_queries(2):  # type: ignore[operator]
        cards(Device.objects.all())


def test_the_list_is_searched_by_name_and_polls_a_fragment(viewer_client: Client) -> None:
    DeviceFactory(name="Sales 01")
    DeviceFactory(name="Support")
    page = viewer_client.get(reverse("devices:list"), {"q": "sal"}, headers=HTMX).content.decode()
    assert "Sales 01" in page
    assert "Support" not in page
    assert "<html" not in page


def test_a_lease_shows_how_long_ago_its_holder_was_seen(settings: object) -> None:
    now = timezone.now()
    assert Card(DeviceFactory(lease_expires_at=now + timedelta(seconds=20)), 0).lease_age == "10 s"
    gone = DeviceFactory(lease_expires_at=now - timedelta(hours=2))
    assert Card(gone, 0).lease_age.startswith("2\xa0hours")
    assert Card(DeviceFactory(), 0).lease_age == ""


def test_a_device_shows_its_pace_and_why_it_does_not_send(viewer_client: Client) -> None:
    device = DeviceFactory(status="banned", status_reason="Spam.", daily_limit=1200)
    url = reverse("devices:detail", args=[device.pk])
    page = viewer_client.get(url).content.decode()
    for words in ("Banned", "Spam.", "1,200", "5 to 15 seconds"):
        assert words in page
    assert reverse("devices:switch", args=[device.pk]) not in page
    assert "<html" not in viewer_client.get(url, headers=HTMX).content.decode()


def test_a_saved_pace_is_promised_no_sooner_than_broadcasters_look(
    operator_client: Client,
) -> None:
    url = reverse("devices:edit", args=[DeviceFactory(name="Sales 01").pk])
    data = {"name": "Sales", "min_delay_seconds": 5, "max_delay_seconds": 9, "timezone": "UTC"}
    before = operator_client.get(url).content.decode()
    after = operator_client.post(url, data, follow=True).content.decode()
    for page in (before, after):
        (promised,) = re.findall(r"Broadcasters go by it within (\d+) seconds", page)
        assert int(promised) >= REFRESH_SECONDS + LOOK_AROUND_SECONDS


def test_switching_off_and_on_is_noted_and_a_second_click_changes_nothing(
    operator_client: Client,
) -> None:
    device = DeviceFactory()
    url = reverse("devices:switch", args=[device.pk])
    for enabled, notes in (("0", 1), ("0", 1), ("1", 2), ("1", 2)):
        response = operator_client.post(url, {"enabled": enabled})
        assert response["Location"] == reverse("devices:detail", args=[device.pk])
        device.refresh_from_db()
        assert device.enabled == (enabled == "1")
        assert LogEntry.objects.filter(object_id=str(device.pk)).count() == notes


def test_that_it_is_switched_off_is_said_once(operator_client: Client) -> None:
    url = reverse("devices:switch", args=[DeviceFactory().pk])
    page = operator_client.post(url, {"enabled": "0"}, follow=True).content.decode()
    assert page.count("Switched off") == 1
    page = operator_client.post(url, {"enabled": "1"}, follow=True).content.decode()
    assert page.count("Switched on.") == 1


def test_a_device_that_is_given_back_is_offline_since_then() -> None:
    before = timezone.now() - timedelta(hours=1)
    online = DeviceFactory(online=True, status_changed_at=before)
    banned = DeviceFactory(online=True, status_changed_at=before)
    Device.objects.filter(pk=banned.pk).update(status="banned")

    Device.objects.release_leases({online.pk: 1, banned.pk: 1}, "worker")

    online.refresh_from_db()
    banned.refresh_from_db()
    assert (online.status, banned.status) == ("offline", "banned")
    assert online.state_since
    assert timezone.now() - online.state_since < timedelta(minutes=1)
    assert banned.state_since == before


def test_a_viewer_may_not_switch_and_a_link_does_not(
    viewer_client: Client, operator_client: Client
) -> None:
    url = reverse("devices:switch", args=[DeviceFactory().pk])
    assert viewer_client.post(url, {"enabled": "0"}).status_code == 403
    assert operator_client.get(url).status_code == 405
    assert Device.objects.get().enabled


@pytest.mark.parametrize("status", Device.BLOCKED)
def test_a_block_that_nobody_knows_the_end_of_is_lifted_by_hand(
    operator_client: Client, status: str
) -> None:
    device = DeviceFactory(status=status, status_reason="Spam.")
    url = reverse("devices:works_again", args=[device.pk])
    assert url in operator_client.get(reverse("devices:detail", args=[device.pk])).content.decode()
    for _click in range(2):
        operator_client.post(url)
        device.refresh_from_db()
        assert (device.status, device.status_reason) == ("offline", "")
    assert LogEntry.objects.filter(object_id=str(device.pk)).count() == 1
    page = operator_client.get(reverse("devices:detail", args=[device.pk])).content.decode()
    assert url not in page


def test_a_viewer_is_not_offered_to_lift_a_block(viewer_client: Client) -> None:
    device = DeviceFactory(status="banned")
    page = viewer_client.get(reverse("devices:detail", args=[device.pk])).content.decode()
    assert reverse("devices:works_again", args=[device.pk]) not in page


def test_blocks_are_lifted_in_the_admin(admin_client: Client) -> None:
    banned, online = DeviceFactory(status="banned"), DeviceFactory(online=True)
    data = {"action": "work_again", "_selected_action": [banned.pk, online.pk], "confirmed": "1"}
    admin_client.post(reverse("admin:devices_device_changelist"), data)
    assert [Device.objects.get(pk=each.pk).status for each in (banned, online)] == [
        "offline",
        "online",
    ]


def test_the_phone_shows_what_it_received_and_wrote_in_order(viewer_client: Client) -> None:
    first, second = DeviceFactory(name="Sales 01"), DeviceFactory(name="Sales 02")
    phone = "60123456789"
    for device, from_device, body in (
        (first, True, "Hi *Ali*"),
        (first, False, "<b>How much?</b>"),
        (second, True, "RM 10"),
    ):
        SimulatedMessage.objects.create(
            device=device, phone=phone, from_device=from_device, body=body
        )
    SimulatedMessage.objects.create(device=first, phone="60133456789", body="Not for Ali")
    page = viewer_client.get(reverse("devices:phone"), {"phone": "+60 12-345 6789"})
    text = page.content.decode().split('class="handset"')[1]
    places = [
        text.index(words)
        for words in ("Sales 01", "Hi <strong>Ali</strong>", "&lt;b&gt;How", "Sales 02", "RM 10")
    ]
    assert places == sorted(places)
    assert text.count("bubble them") == 2
    assert "Not for Ali" not in text


def test_the_phone_page_opens_on_the_latest_number_and_polls(viewer_client: Client) -> None:
    page = viewer_client.get(reverse("devices:phone"))
    assert "received nothing" in page.content.decode()
    assert 'hx-trigger="every 2s"' in page.content.decode()
    for phone in ("60123456781", "60123456782"):
        SimulatedMessage.objects.create(device=DeviceFactory(), phone=phone, body=f"to {phone}")
    fragment = viewer_client.get(reverse("devices:phone"), headers=HTMX)
    assert fragment.context["chosen"].phone == "60123456782"
    assert "<html" not in fragment.content.decode()
