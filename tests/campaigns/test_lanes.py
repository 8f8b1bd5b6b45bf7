"""People whom a device has written to go before strangers, whichever campaign came first: what is
said before sending, and of who waits, against the order in which they are really claimed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from broadcasts.timeline import outlooks
from campaigns import fanout
from campaigns.audience import Audience
from campaigns.forecast import Forecast, forecast
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Niche
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceFactory,
)

pytestmark = pytest.mark.django_db

GAP = timedelta(minutes=10)
FIRST = BroadcastMessage.Priority.CAMPAIGN_FIRST


@pytest.fixture(autouse=True)
def real_pauses(settings: LazySettings) -> None:
    settings.SIMULATOR_SPEED = 1


@pytest.fixture
def device() -> Device:
    pause = int(GAP.total_seconds())
    device: Device = DeviceFactory(
        online=True, min_delay_seconds=pause, max_delay_seconds=pause, timezone="UTC"
    )
    return device


@pytest.fixture
def older(device: Device) -> Campaign:
    """Waits on the device with six strangers."""
    LeadFactory.create_batch(6, niches=["OLD"])
    return queued("OLD")


def people(known: int, strangers: int, device: Device) -> None:
    """Leads of the new campaign: the strangers stand first in the list."""
    LeadFactory.create_batch(strangers, niches=["NEW"])
    LeadFactory.create_batch(known, niches=["NEW"], device=device, replied_to=device)


def queued(niche: str) -> Campaign:
    campaign: Campaign = CampaignFactory(title=niche)
    campaign.niches.set(Niche.objects.filter(name=niche))
    assert campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.status == "sending"
    return campaign


def foretold(starts_at: datetime) -> Forecast:
    return forecast(Audience(niches=list(Niche.objects.filter(name="NEW"))), starts_at)


def claimed(device: Device) -> list[tuple[int, int]]:
    """Returns (campaign, lane) of what the broadcaster takes, one after the other."""
    taken: list[int] = []
    while got := BroadcastMessage.objects.claim(worker_id="worker", device_ids=[device.pk]):
        taken += (each.pk for each in got)
    rows = BroadcastMessage.objects.in_bulk(taken)
    return [(rows[pk].campaign_id, rows[pk].priority) for pk in taken]


@pytest.mark.parametrize(
    ("known", "strangers"), [(3, 0), (0, 3), (3, 4), (1, 1)], ids=lambda count: str(count)
)
def test_a_campaign_leaves_when_the_forecast_said(
    device: Device, older: Campaign, known: int, strangers: int
) -> None:
    people(known, strangers, device)
    now = timezone.now()
    said = foretold(now)
    new = queued("NEW")
    end = outlooks([device], now)[new.pk].ends_at

    order = claimed(device)

    turns = [n for n, (campaign_id, _) in enumerate(order) if campaign_id == new.pk]
    assert len(turns) == known + strangers
    assert [said.first_at, said.half_at, said.finish_at, end] == [
        now + n * GAP for n in (turns[0], turns[len(turns) // 2], turns[-1], turns[-1])
    ]
    assert said.passes[:1] == (str(known) if known else "")


def test_those_of_a_device_that_may_not_send_leave_behind_the_known(device: Device) -> None:
    LeadFactory.create_batch(3, niches=["NEW"], device=DeviceFactory(enabled=False))
    people(4, 0, device)
    now = timezone.now()
    said = foretold(now)
    new = queued("NEW")

    assert said.finish_at == outlooks([device], now)[new.pk].ends_at == now + 6 * GAP
    assert [(share.count, share.finish_at) for share in said.per_device] == [(7, now + 6 * GAP)]


def test_the_older_campaign_s_expected_finish_waits_for_them(
    device: Device, older: Campaign
) -> None:
    people(3, 4, device)
    now = timezone.now()
    alone = outlooks([device], now)[older.pk].ends_at
    queued("NEW")
    later = outlooks([device], now)[older.pk].ends_at

    order = claimed(device)

    last = max(n for n, (campaign_id, _) in enumerate(order) if campaign_id == older.pk)
    assert (alone, later) == (now + 5 * GAP, now + last * GAP)
    assert last == 8


# Deadlines


def last_minute_of_each(order: list[tuple[int, int]], now: datetime) -> None:
    """Holds that what leaves in this order, one after the other, leaves before it expires."""
    rows = BroadcastMessage.objects.order_by("priority", "scheduled_at", "pk")
    assert len(rows) == len(order)
    late = [
        (n, row.priority)
        for n, row in enumerate(rows)
        if row.expires_at is None or row.expires_at <= now + n * GAP
    ]
    assert late == []


def test_strangers_do_not_expire_because_their_own_campaign_s_known_people_go_first(
    device: Device,
) -> None:
    people(60, 6, device)
    now = timezone.now()
    queued("NEW")

    last_minute_of_each(claimed(device), now)


@pytest.mark.parametrize("is_paused", [False, True])
def test_nor_because_those_of_newer_campaigns_do(
    device: Device, older: Campaign, is_paused: bool
) -> None:
    now = timezone.now()
    if is_paused:
        older.pause()
    for niche in ("NEW", "NEWER"):
        LeadFactory.create_batch(30, niches=[niche], device=device, replied_to=device)
        queued(niche)
    if is_paused:
        older.resume()

    last_minute_of_each(claimed(device), now)


def test_nor_over_closing_time(device: Device) -> None:
    now = timezone.now()
    closes = (now + timedelta(hours=1)).time()
    opens = (now - timedelta(hours=1)).time()
    Device.objects.update(sends_from=opens, sends_until=closes)
    LeadFactory(niches=["OLD"])
    older = queued("OLD")
    LeadFactory.create_batch(9, niches=["NEW"], device=device, replied_to=device)
    queued("NEW")

    # Six of them leave before closing, three tomorrow; then it has its three hours, two of them on
    # the day after.
    expires_at = older.messages.get().expires_at
    opens_again = now + timedelta(days=2, hours=-1)
    assert expires_at
    assert opens_again < expires_at < opens_again + timedelta(hours=2)


def test_what_nobody_overtakes_keeps_its_deadline(device: Device, older: Campaign) -> None:
    before = list(older.messages.order_by("pk").values_list("expires_at", flat=True))
    people(0, 3, device)
    other = DeviceFactory(online=True)
    LeadFactory.create_batch(3, niches=["NEW"], device=other, replied_to=other)
    queued("NEW")

    assert list(older.messages.order_by("pk").values_list("expires_at", flat=True)) == before


def test_a_list_that_is_not_whole_puts_nobody_off(
    device: Device, older: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was cancelled this moment, or a later pass goes on with it."""
    before = list(older.messages.order_by("pk").values_list("expires_at", flat=True))
    people(3, 0, device)
    campaign: Campaign = CampaignFactory()
    campaign.niches.set(Niche.objects.filter(name="NEW"))
    assert campaign.schedule()
    complete = fanout._complete

    def cancel_first(of: Campaign) -> bool:
        assert Campaign.objects.get(pk=of.pk).cancel()
        return complete(of)

    monkeypatch.setattr(fanout, "_complete", cancel_first)
    Campaign.objects.process()

    assert campaign.counts()["cancelled"] == 3
    assert list(older.messages.order_by("pk").values_list("expires_at", flat=True)) == before


# What the pages say


@pytest.mark.parametrize(
    ("known", "strangers", "brake"),
    [(3, 0, "pauses that 1 device makes"), (0, 3, "what waits on 1 device already"),
     (2, 3, "what waits on 1 device already"), (5, 3, "pauses that 1 device makes")],
)  # fmt: skip
def test_the_largest_part_of_the_time_is_named(
    device: Device, older: Campaign, known: int, strangers: int, brake: str
) -> None:
    people(known, strangers, device)

    assert brake in foretold(timezone.now()).brake


@pytest.mark.parametrize("known", [0, 1, 3])
def test_the_review_says_whom_it_goes_before(
    operator_client: Client, device: Device, older: Campaign, known: int
) -> None:
    people(known, 2, device)
    draft = CampaignFactory()
    draft.niches.set(Niche.objects.filter(name="NEW"))

    text = operator_client.get(reverse("campaigns:review", args=[draft.pk])).content.decode()

    assert ("other campaigns have waiting there for new people" in text) is (known > 0)
    said = {1: "1 message goes to somebody whom", 3: "3 messages go to people whom"}
    assert said.get(known, "") in text


def test_of_what_leaves_before_it_begins_nothing_is_said(device: Device, older: Campaign) -> None:
    people(2, 0, device)
    later = timezone.now() + 7 * GAP

    assert foretold(timezone.now() + 5 * GAP).passes
    said = foretold(later)
    assert (said.passes, said.first_at) == ("", later)


BUSY = "its devices first send what goes before it"


def overtaken(device: Device) -> Campaign:
    """Began half an hour ago, and nothing of it was sent; a stranger waits on the device."""
    campaign: Campaign = CampaignFactory(
        sending=True, started_at=timezone.now() - timedelta(minutes=30)
    )
    BroadcastMessageFactory(campaign=campaign, device=device, priority=FIRST)
    return campaign


@pytest.mark.parametrize("name", ["detail", "progress"])
def test_a_campaign_says_that_its_devices_send_others_first(
    viewer_client: Client, device: Device, name: str
) -> None:
    campaign = overtaken(device)
    headers = {"HX-Request": "true"}
    url = reverse(f"campaigns:{name}", args=[campaign.pk])

    def page() -> str:
        return viewer_client.get(url, headers=headers).content.decode()

    assert "nothing was sent" in page()
    assert BUSY not in page()
    BroadcastMessageFactory(device=device)
    assert BUSY in page()
    Device.objects.update(lease_expires_at=None)
    assert BUSY not in page(), "it is away: that is said"


def test_what_is_tried_again_is_not_said_to_stand_behind_what_it_goes_before(
    viewer_client: Client, device: Device
) -> None:
    campaign = overtaken(device)
    campaign.messages.update(
        priority=BroadcastMessage.Priority.CAMPAIGN_AGAIN,
        scheduled_at=timezone.now() + timedelta(minutes=5),
    )
    BroadcastMessageFactory(device=device)
    url = reverse("campaigns:detail", args=[campaign.pk])
    page = viewer_client.get(url).content.decode()

    assert "nothing was sent" in page
    assert BUSY not in page


@pytest.mark.parametrize(
    ("other", "is_before"),
    [
        ({"priority": BroadcastMessage.Priority.TEST}, True),
        ({"priority": FIRST, "scheduled_at": timezone.now() - timedelta(days=1)}, True),
        ({"priority": FIRST, "scheduled_at": timezone.now() + timedelta(days=1)}, False),
        ({"scheduled_at": timezone.now() + timedelta(days=1)}, False),
        ({"status": "paused"}, False),
        ({"status": "sent"}, False),
    ],
    ids=str,
)
def test_only_what_really_goes_before_is_a_reason(
    viewer_client: Client, device: Device, other: dict[str, object], is_before: bool
) -> None:
    campaign = overtaken(device)
    BroadcastMessageFactory(device=device, **other)
    page = viewer_client.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert (BUSY in page) is is_before


def test_a_sequence_that_goes_before_is_one_too(viewer_client: Client, device: Device) -> None:
    campaign = overtaken(device)
    drip = BroadcastMessage.Priority.SEQUENCE
    BroadcastMessageFactory(device=device, campaign=None, sequence=SequenceFactory(), priority=drip)
    page = viewer_client.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert BUSY in page
