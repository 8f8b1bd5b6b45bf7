"""Adding a device, and changing its name and pace."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices import forms
from devices.models import Device
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db

PACE = {
    "min_delay_seconds": 5, "max_delay_seconds": 15, "hourly_limit": "", "daily_limit": 1000,
    "first_contact_limit": "", "warmup_started_on": "", "sends_from": "08:00",
    "sends_until": "22:00", "timezone": "Asia/Kuala_Lumpur",
}  # fmt: skip


@pytest.mark.parametrize(
    ("installed", "linked", "chosen"),
    [
        (True, False, "neonize"),
        (False, False, "simulator"),
        (False, True, "neonize"),  # on another host
    ],
)
def test_a_new_device_begins_as_what_can_work_here(
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
    linked: bool,
    chosen: str,
) -> None:
    monkeypatch.setattr(forms, "missing", lambda: [] if installed else ["neonize is not there."])
    if linked:
        DeviceFactory(transport="neonize", session="file")
    form = admin_client.get(reverse("devices:new")).content.decode()
    assert re.findall(r'value="(\w+)"[^>]* checked', form) == [chosen]
    assert ("neonize is not there." in form) == (chosen == "simulator")


def test_an_admin_adds_a_whatsapp_device_and_is_led_to_pairing_it(admin_client: Client) -> None:
    data = PACE | {"name": "Sales", "transport": "neonize", "phone": "left in there"}
    response = admin_client.post(reverse("devices:new"), data)
    device = Device.objects.get()
    assert response["Location"] == reverse("devices:pair", args=[device.pk])
    assert (device.phone, device.max_delay_seconds, device.state) == (None, 15, "unpaired")
    assert LogEntry.objects.get().change_message


def test_a_simulated_device_is_ready_at_once_and_has_no_number(admin_client: Client) -> None:
    """One that was made up could be a real account's, and stand in the way of pairing that."""
    assert 'name="phone"' not in admin_client.get(reverse("devices:new")).content.decode()
    data = PACE | {"name": "Sales", "transport": "simulator", "phone": "012-345 6789"}
    response = admin_client.post(reverse("devices:new"), data)
    device = Device.objects.get()
    assert response["Location"] == reverse("devices:detail", args=[device.pk])
    assert device.phone is None
    assert "no number" not in admin_client.get(reverse("devices:list")).content.decode()


def test_the_account_of_another_transport_is_added_with_its_number_in_any_spelling(
    admin_client: Client, settings: LazySettings
) -> None:
    settings.TRANSPORTS = settings.TRANSPORTS | {"folder": "no.such.module.Class"}
    assert 'name="phone"' in admin_client.get(reverse("devices:new")).content.decode()
    data = PACE | {"name": "Sales", "transport": "folder", "phone": "012-345 6789"}
    admin_client.post(reverse("devices:new"), data)
    assert Device.objects.get().phone == "60123456789"
    again = admin_client.post(reverse("devices:new"), data | {"name": "Support"})
    assert "This number is another device&#x27;s." in again.content.decode()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "Sales 01", "Another device has this name."),
        ("min_delay_seconds", "0", "nobody writes without one"),
        ("daily_limit", "0", "switch the device off"),
        ("max_delay_seconds", "2", "shorter than the shortest"),
        ("timezone", "Moon/Base", "Not a time zone"),
        ("sends_until", "08:00", "leave no time to send"),
        ("hourly_limit", "3601", "3,600 messages an hour at most"),
        ("daily_limit", "99999999999999999999", "86,400 messages a day at most"),
        ("first_contact_limit", "86401", "86,400 messages a day at most"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_nothing_is_lost(
    admin_client: Client, field: str, value: str, words: str
) -> None:
    DeviceFactory(name="Sales 01")
    data = PACE | {"name": "Sales 02", "transport": "simulator", field: value}
    page = admin_client.post(reverse("devices:new"), data).content.decode()
    assert words in page
    assert data["name"] in page
    assert Device.objects.count() == 1


@pytest.mark.parametrize(
    ("shortest", "longest", "refused"),
    [
        ("3601", "3601", {"min_delay_seconds", "max_delay_seconds"}),
        ("99999999999", "99999999999", {"min_delay_seconds", "max_delay_seconds"}),
        ("3601", "3600", {"min_delay_seconds"}),
        ("5", "3601", {"max_delay_seconds"}),
        ("3600", "3600", set()),
    ],
)
def test_each_pause_that_is_too_long_says_how_long_it_may_be(
    operator_client: Client, shortest: str, longest: str, refused: set[str]
) -> None:
    device = DeviceFactory(name="Sales 01")
    url = reverse("devices:edit", args=[device.pk])
    pauses = {"min_delay_seconds": shortest, "max_delay_seconds": longest}
    response = operator_client.post(url, PACE | {"name": "Sales 01"} | pauses)
    errors = response.context["form"].errors if refused else {}
    assert errors.keys() == refused
    assert all(said == ["A pause is 3,600 seconds at most: one hour."] for said in errors.values())
    device.refresh_from_db()
    assert device.max_delay_seconds == (15 if refused else 3600)


def test_a_warm_up_begins_today_at_the_latest_by_the_devices_own_calendar(
    operator_client: Client,
) -> None:
    device = DeviceFactory(name="Sales 01")
    url = reverse("devices:edit", args=[device.pk])
    # A day ahead of the other at any time.
    ahead, behind = "Pacific/Kiritimati", "Pacific/Honolulu"
    today = timezone.localdate(timezone=ZoneInfo(ahead))
    for zone in (ahead, behind):
        data = PACE | {"name": "Sales 01", "timezone": zone, "warmup_started_on": str(today)}
        page = operator_client.post(url, data, follow=True).content.decode()
        assert ("This day is still to come" in page) == (zone == behind)
    device.refresh_from_db()
    assert (device.timezone, device.warmup_started_on) == (ahead, today)


def test_an_operator_renames_and_paces_a_device_and_adds_none(operator_client: Client) -> None:
    device = DeviceFactory(
        name="Sales 01", transport="neonize", phone="60123456789", worker_id="w", lease_epoch=3
    )
    url = reverse("devices:edit", args=[device.pk])
    assert 'value="Sales 01"' in operator_client.get(url).content.decode()
    operator_client.post(url, PACE | {"name": "Support", "min_delay_seconds": 10})
    device.refresh_from_db()
    assert (device.name, device.min_delay_seconds, device.phone) == ("Support", 10, "60123456789")
    assert operator_client.get(reverse("devices:new")).status_code == 403
    assert (
        reverse("devices:new") not in operator_client.get(reverse("devices:list")).content.decode()
    )


def test_a_form_that_lay_open_takes_nothing_back_that_a_broadcaster_wrote(
    operator_client: Client,
) -> None:
    device = DeviceFactory(status="banned", session_epoch=4)
    operator_client.post(
        reverse("devices:edit", args=[device.pk]), PACE | {"name": device.name, "status": "online"}
    )
    device.refresh_from_db()
    assert (device.status, device.session_epoch) == ("banned", 4)


# What was stored before it was refused


@pytest.fixture
def old() -> Device:
    """With a cap above what is allowed today, a warm-up to come, and a time zone that is gone."""
    tomorrow = timezone.localdate() + timedelta(days=2)
    return DeviceFactory(
        name="Sales 01", daily_limit=100_000, warmup_started_on=tomorrow, timezone="Moon/Base"
    )


def as_stored(device: Device, **changes: object) -> dict[str, object]:
    stands = {"name": device.name, "daily_limit": device.daily_limit, "timezone": device.timezone,
              "warmup_started_on": device.warmup_started_on}  # fmt: skip
    return PACE | stands | changes


def test_what_stays_as_it_was_does_not_keep_another_field_from_being_changed(
    operator_client: Client, old: Device
) -> None:
    url = reverse("devices:edit", args=[old.pk])
    page = html.unescape(operator_client.get(url).content.decode())
    assert "86,400 messages a day at most. Leave it empty for no cap. It stays like this" in page
    assert "Write it like Asia/Kuala_Lumpur. It stays like this" in page

    operator_client.post(url, as_stored(old, name="Support", hourly_limit=50))

    saved = Device.objects.get()
    assert (saved.name, saved.hourly_limit) == ("Support", 50)
    assert (saved.daily_limit, saved.timezone) == (100_000, "Moon/Base"), "nobody said to lower it"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"daily_limit": 99_999}, "daily_limit", "86,400 messages a day at most"),
        ({"timezone": "Mars/Base"}, "timezone", "Not a time zone"),
        ({"timezone": "Asia/Tokyo"}, "warmup_started_on", "This day is still to come"),
    ],
)
def test_what_is_changed_goes_by_the_rules_of_today(
    operator_client: Client, old: Device, changes: dict[str, object], field: str, words: str
) -> None:
    url = reverse("devices:edit", args=[old.pk])
    errors = operator_client.post(url, as_stored(old, **changes)).context["form"].errors
    assert errors.keys() == {field}
    assert words in errors[field][0]


def test_a_warm_up_to_come_stands_until_somebody_changes_it(
    operator_client: Client, old: Device
) -> None:
    Device.objects.update(timezone="Asia/Kuala_Lumpur", daily_limit=10)
    old.refresh_from_db()
    url = reverse("devices:edit", args=[old.pk])
    assert "This day is still to come." in operator_client.get(url).content.decode()
    operator_client.post(url, as_stored(old, name="Support"))
    assert Device.objects.get().name == "Support"
    later = as_stored(old, warmup_started_on=old.warmup_started_on + timedelta(days=1))
    assert "warmup_started_on" in operator_client.post(url, later).context["form"].errors


def test_the_administration_lets_stand_what_was_stored_as_well(
    admin_client: Client, old: Device
) -> None:
    url = reverse("admin:devices_device_change", args=[old.pk])
    data = as_stored(old, name="Support", transport="simulator", phone="", enabled="on")
    data |= {"sends_from": "", "sends_until": ""}
    assert admin_client.post(url, data).status_code == 302
    assert Device.objects.get().name == "Support"
    refused = admin_client.post(url, data | {"daily_limit": 99_999})
    assert "86,400 messages a day at most" in refused.content.decode()


def test_a_device_that_is_right_is_shown_without_such_words(operator_client: Client) -> None:
    url = reverse("devices:edit", args=[DeviceFactory().pk])
    assert "It stays like this" not in operator_client.get(url).content.decode()
