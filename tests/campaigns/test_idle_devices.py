"""Which devices get nothing, and why, said before the campaign is sent."""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.idle import IdleDevices
from campaigns.models import Campaign
from campaigns.preview import preview_of
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db


def draft(*, stays: bool = False, **rules: Any) -> Campaign:
    """A draft to one lead from two chosen devices: one that may send, and this one."""
    device = DeviceFactory(online=True, name="Busy")
    LeadFactory(device=device if stays else None)
    campaign: Campaign = CampaignFactory()
    campaign.devices.add(device, DeviceFactory(name="Idle", **{"online": True, **rules}))
    return campaign


def reasons(campaign: Campaign) -> list[tuple[str, str]]:
    return [(idle.card.device.name, idle.why) for idle in preview_of(campaign).idle.named]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"enabled": False}, "Idle is switched off."),
        ({"status": "logged_out"}, "Idle is logged out."),
        ({"status": "banned"}, "Idle is banned."),
        ({"timezone": "Mars/Olympus_Mons"},
         "Idle is in the time zone Mars/Olympus_Mons, which this host does not know."),
        ({"daily_limit": 60, "usage_day_count": 60},
         "Daily cap reached, goes on tomorrow at 00:00. The others are done before."),
        ({"first_contact_limit": 20, "usage_day_count": 20, "usage_first_count": 20},
         "Daily cap on new people reached, goes on tomorrow at 00:00. The others are done before."),
        ({"next_send_at": timezone.now() + timedelta(hours=1)},
         "The others are done before its turn comes."),
    ],
    ids=str,
)  # fmt: skip
def test_a_chosen_device_that_gets_nothing_is_named_with_the_reason(
    operator_client: Client, rules: dict[str, Any], said: str
) -> None:
    campaign = draft(**{"usage_day": timezone.localdate(), **rules})

    assert reasons(campaign) == [("Idle", said)]
    page = operator_client.get(reverse("campaigns:review", args=[campaign.pk])).content.decode()
    assert said in html.unescape(page)


def test_where_all_stay_with_another_device_that_is_the_reason() -> None:
    campaign = draft(stays=True, daily_limit=60, usage_day=timezone.localdate(), usage_day_count=60)
    assert reasons(campaign) == [("Idle", "Everybody in this audience stays with another device.")]


def test_what_whatsapp_has_blocked_for_a_time_says_until_when() -> None:
    until = timezone.now() + timedelta(days=2)
    [(_name, said)] = reasons(draft(status="restricted", restricted_until=until))
    local = timezone.localtime(until)
    assert said == f"WhatsApp lets it send nothing before {local:%-d %b, %H:%M}."


def test_what_waits_on_a_device_already_lets_the_others_go_first() -> None:
    campaign = draft()
    idle = campaign.devices.get(name="Idle")
    BroadcastMessageFactory.create_batch(3, device=idle, priority=0)
    assert reasons(campaign) == [("Idle", "The others are done before its turn comes.")]


def test_a_device_that_gets_something_or_was_not_chosen_is_not_named() -> None:
    campaign = draft()
    LeadFactory(device=campaign.devices.get(name="Idle"))
    DeviceFactory(enabled=False)
    assert reasons(campaign) == []


def test_where_no_device_may_send_at_all_none_is_singled_out() -> None:
    campaign = draft(enabled=False)
    campaign.devices.update(enabled=False)
    assert reasons(campaign) == []
    assert preview_of(campaign).blockers


def test_where_none_was_chosen_one_line_says_how_many_get_nothing_and_why(
    operator_client: Client,
) -> None:
    campaign = draft()
    campaign.devices.clear()
    DeviceFactory.create_batch(3, enabled=False)
    DeviceFactory.create_batch(2, transport="neonize")
    DeviceFactory(status="banned")
    page = operator_client.get(reverse("campaigns:review", args=[campaign.pk])).content.decode()
    assert (
        "7 devices get nothing of it: switched off (3), not paired (2), the others are done before "
        "(1), banned (1)."
    ) in page
    assert "is switched off." not in page


def test_of_very_many_chosen_devices_the_last_are_one_line(operator_client: Client) -> None:
    campaign = draft()
    campaign.devices.add(*DeviceFactory.create_batch(20, enabled=False))
    page = operator_client.get(reverse("campaigns:review", args=[campaign.pk])).content.decode()
    assert page.count("is switched off.") == 19
    assert "1 more device gets nothing of it: switched off (1)." in page


def test_where_every_device_gets_something_nothing_is_said() -> None:
    campaign = draft()
    campaign.devices.clear()
    LeadFactory(device=Device.objects.get(name="Idle"))
    assert preview_of(campaign).idle == IdleDevices([])


def test_a_campaign_of_the_same_text_is_a_link_to_it(operator_client: Client) -> None:
    other = CampaignFactory(title="<b>October", sending=True)
    page = operator_client.get(reverse("campaigns:review", args=[draft().pk])).content.decode()
    address = reverse("campaigns:detail", args=[other.pk])
    assert f'<a href="{address}">“&lt;b&gt;October”</a> says the same, word for word.' in page


@pytest.mark.parametrize(
    ("pauses", "said"),
    [
        ((0, 0), "pauses as its devices have them"),
        ((20, 40), "pauses of 20 to 40 seconds at least"),
        ((0, 40), "pauses of 0 to 40 seconds at least"),
        ((30, 30), "pauses of 30 seconds at least"),
    ],
)
def test_pauses_that_it_asks_for_are_on_its_review_and_on_its_page(
    operator_client: Client, pauses: tuple[int, int], said: str
) -> None:
    campaign = draft()
    Campaign.objects.update(min_delay_seconds=pauses[0], max_delay_seconds=pauses[1])
    for name in ("review", "detail"):
        page = operator_client.get(reverse(f"campaigns:{name}", args=[campaign.pk]))
        assert said in page.content.decode()
