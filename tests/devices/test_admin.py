from __future__ import annotations

from typing import Any

import pytest
from django.forms import model_to_dict
from django.test import Client
from django.urls import reverse

from devices.models import Device
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db


def saved_with(client: Client, device: Device, **values: Any) -> Any:
    """The answer to saving the device's admin page with these values in it."""
    data = {name: "" if value is None else value for name, value in model_to_dict(device).items()}
    url = reverse("admin:devices_device_change", args=[device.pk])
    return client.post(url, data | values)


@pytest.mark.parametrize("number", ["-5", "0"])
@pytest.mark.parametrize("cap", ["hourly_limit", "daily_limit", "first_contact_limit"])
def test_a_cap_below_one_is_refused_once_with_what_to_do_instead(
    admin_client: Client, cap: str, number: str
) -> None:
    device = DeviceFactory()
    errors = saved_with(admin_client, device, **{cap: number}).context["adminform"].form.errors
    assert list(errors) == [cap]
    (said,) = errors[cap]
    assert "1 or more" in said
    assert "empty for no cap" in said


def test_a_number_that_somebody_made_up_stays_out(admin_client: Client) -> None:
    device = DeviceFactory(phone=None)
    page = saved_with(admin_client, device, phone="60123456789")
    assert "has no number" in page.context["adminform"].form.errors["phone"][0]


def test_a_pause_below_a_second_is_refused_as_a_pause(admin_client: Client) -> None:
    page = saved_with(admin_client, DeviceFactory(), min_delay_seconds="-1")
    assert page.context["adminform"].form.errors["min_delay_seconds"] == [
        "A pause is 1 second or more: nobody writes without one."
    ]


def test_caps_of_one_and_none_at_all_are_saved(admin_client: Client) -> None:
    device = DeviceFactory(daily_limit=100)
    answer = saved_with(admin_client, device, hourly_limit="1", daily_limit="")
    assert answer.status_code == 302
    device.refresh_from_db()
    assert (device.hourly_limit, device.daily_limit) == (1, None)
