"""Cancelled in the middle of being queued, a campaign still lists everybody: nobody is missing, and
nobody gets it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone
from django_q.models import OrmQ

from campaigns import fanout
from campaigns.models import Campaign
from config import ledger
from devices.models import Device
from leads.models import Lead
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db(transaction=True)

# Between two chunks, or before the first: as the one with this number is about to be written.
Hook = Callable[[int, Callable[[], object]], None]


@pytest.fixture
def campaign(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Due, to 10 leads, the last of whom opted out: pages of 4, in chunks of 2."""
    monkeypatch.setattr(fanout, "PAGE", 4)
    monkeypatch.setattr(fanout, "CHUNK", 2)
    DeviceFactory()
    LeadFactory.create_batch(9, niches=["VITAC"])
    LeadFactory(opted_out=True)
    campaign: Campaign = CampaignFactory(message=getattr(request, "param", "Hi {name|there}"))
    assert campaign.schedule()
    return campaign


@pytest.fixture
def before_chunk(monkeypatch: pytest.MonkeyPatch) -> Hook:
    commit, chunks = fanout._commit_chunk, count(1)

    def at(number: int, then: Callable[[], object]) -> None:
        def look(*arguments: Any) -> bool:
            if next(chunks) == number:
                then()
            return commit(*arguments)

        monkeypatch.setattr(fanout, "_commit_chunk", look)

    return at


def kill() -> None:
    raise KeyboardInterrupt


def die(*, before_chunk: Hook, number: int) -> None:
    before_chunk(number, kill)
    with pytest.raises(KeyboardInterrupt):
        Campaign.objects.process()


def cancel(campaign: Campaign) -> None:
    assert Campaign.objects.get(pk=campaign.pk).cancel()


def states(campaign: Campaign) -> dict[str, int]:
    return {status: count for status, count in campaign.counts().items() if count}


def is_listed_whole(campaign: Campaign) -> bool:
    """Everybody has one message, of which nothing leaves any more, and the numbers say so."""
    campaign.refresh_from_db()
    recipients = list(campaign.messages.order_by("lead_id").values_list("lead", flat=True))
    return (
        (campaign.status, campaign.is_being_listed) == ("cancelled", False)
        and recipients == list(Lead.objects.order_by("pk").values_list("pk", flat=True))
        and campaign.audience_size == len(recipients)
        and states(campaign) == {"cancelled": 9, "skipped": 1}
        and ledger.violations(again_after_seconds=0) == []
    )


@pytest.mark.parametrize("chunk", range(2, 6))
@pytest.mark.parametrize("campaign", ["Hi {name|there}", "{first_name} of {niche}"], indirect=True)
def test_wherever_it_is_cancelled_the_rest_is_listed_by_the_next_pass(
    campaign: Campaign, before_chunk: Hook, chunk: int
) -> None:
    before_chunk(chunk, lambda: cancel(campaign))
    Campaign.objects.process()
    assert sum(campaign.counts().values()) == (chunk - 1) * 2

    Campaign.objects.process()
    assert is_listed_whole(campaign)


def test_who_is_listed_so_looks_like_whoever_is_cancelled_or_left_out_otherwise(
    campaign: Campaign, before_chunk: Hook
) -> None:
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    Campaign.objects.process()

    *_, late, left_out = campaign.messages.order_by("lead_id")
    assert (late.status, late.skip_reason) == ("cancelled", "")
    assert (left_out.status, left_out.skip_reason) == ("skipped", "opted_out")
    for message in (late, left_out):
        assert message.finished_at is not None
        assert message.device is None
        assert (message.recipient_phone, message.body) == (message.lead.phone, "")
        assert (message.expires_at, message.carried, message.attempts) == (None, None, 0)


def test_who_opts_out_before_they_are_listed_is_left_out(
    campaign: Campaign, before_chunk: Hook
) -> None:
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    Lead.objects.filter(pk=Lead.objects.order_by("pk")[8].pk).opt_out(source="STOP")

    Campaign.objects.process()
    assert states(campaign) == {"cancelled": 8, "skipped": 2}


def test_paused_in_the_middle_and_cancelled_then_it_is_listed_as_well(
    campaign: Campaign, before_chunk: Hook
) -> None:
    before_chunk(3, lambda: Campaign.objects.get(pk=campaign.pk).pause())
    Campaign.objects.process()
    Campaign.objects.process()
    assert states(campaign) == {"paused": 4}

    cancel(campaign)
    Campaign.objects.process()
    assert is_listed_whole(campaign)


def test_cancelled_before_the_first_is_written_everybody_is_listed(
    campaign: Campaign, before_chunk: Hook
) -> None:
    before_chunk(1, lambda: cancel(campaign))
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.checkpoint_lead_id, campaign.messages.count()) == (0, 0)

    Campaign.objects.process()
    assert is_listed_whole(campaign)


def test_cancelled_behind_the_last_it_is_only_written_down_that_all_are_listed(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = fanout._complete

    def cancel_first(of: Campaign) -> bool:
        cancel(of)
        return complete(of)

    monkeypatch.setattr(fanout, "_complete", cancel_first)
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.is_being_listed

    monkeypatch.setattr(fanout, "_complete", complete)
    Campaign.objects.process()
    assert is_listed_whole(campaign)


@pytest.mark.parametrize("has_begun", [False, True])
def test_cancelled_before_its_audience_was_settled_nobody_is_listed(
    campaign: Campaign, has_begun: bool
) -> None:
    Device.objects.update(enabled=False)
    if has_begun:
        Campaign.objects.process()  # it waits for a device
    cancel(campaign)
    Device.objects.update(enabled=True)

    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.audience_size, campaign.messages.count()) == (None, 0)
    assert ledger.violations(again_after_seconds=0) == []


def test_no_device_is_needed_for_it(campaign: Campaign, before_chunk: Hook) -> None:
    die(before_chunk=before_chunk, number=3)
    Device.objects.update(enabled=False)
    cancel(campaign)

    Campaign.objects.process()
    assert is_listed_whole(campaign)


def test_who_comes_in_meanwhile_is_not_part_of_it(campaign: Campaign, before_chunk: Hook) -> None:
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    late = LeadFactory()

    Campaign.objects.process()
    late.delete()
    assert is_listed_whole(campaign)


@pytest.mark.parametrize("chunk", range(3, 6))
def test_killed_while_it_is_listed_it_goes_on_from_the_checkpoint(
    campaign: Campaign, before_chunk: Hook, chunk: int
) -> None:
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    die(before_chunk=before_chunk, number=chunk)
    campaign.refresh_from_db()
    assert campaign.is_being_listed

    Campaign.objects.process()
    assert is_listed_whole(campaign)


def test_a_pass_that_was_slow_writes_nothing_behind_one_that_listed_the_rest(
    campaign: Campaign, before_chunk: Hook
) -> None:
    """It has a page ready to be sent; the campaign is cancelled, and listed, before it goes on."""

    def cancel_and_list() -> None:
        cancel(campaign)
        Campaign.objects.process()

    before_chunk(2, cancel_and_list)
    Campaign.objects.process()

    assert is_listed_whole(campaign)


@pytest.mark.mysql
def test_a_cancel_in_the_middle_of_a_chunk_waits_for_it_and_takes_it_back(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk has moved the checkpoint and not written its messages yet, on another connection."""
    enqueue, go_on, numbers = fanout.enqueue_staged, threading.Event(), count(1)
    in_the_middle = threading.Event()

    def hold(*arguments: Any, **named: Any) -> None:
        if next(numbers) == 2:
            in_the_middle.set()
            assert go_on.wait(20)
        enqueue(*arguments, **named)

    monkeypatch.setattr(fanout, "enqueue_staged", hold)
    with ThreadPoolExecutor(2) as threads:
        queuing = threads.submit(apart, Campaign.objects.process)
        assert in_the_middle.wait(20)
        cancelling = threads.submit(apart, lambda: cancel(campaign))
        with pytest.raises(TimeoutError):
            cancelling.result(timeout=1)
        go_on.set()
        queuing.result()
        cancelling.result()
    assert states(campaign) == {"cancelled": 4}

    Campaign.objects.process()
    assert is_listed_whole(campaign)


def apart(act: Callable[[], object]) -> None:
    try:
        act()
    finally:
        connections.close_all()


def test_of_two_schedulers_that_list_it_at_once_each_chunk_is_one_s(
    campaign: Campaign, before_chunk: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    together = threading.Barrier(2, timeout=20)
    freeze = fanout._freeze_audience

    def freeze_together(campaign: Campaign) -> bool:
        is_frozen = freeze(campaign)
        together.wait()
        return is_frozen

    monkeypatch.setattr(fanout, "_freeze_audience", freeze_together)
    done: list[bool] = []
    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            one = Campaign.objects.get(pk=campaign.pk)
            threads.submit(apart, lambda one=one: done.append(fanout.fan_out(one)))

    assert Counter(done) == {True: 1, False: 1}
    assert is_listed_whole(campaign)


@pytest.mark.parametrize("then", ["cancel", "resume"])
def test_the_scheduler_is_asked_to_go_on_with_the_list_at_once(
    campaign: Campaign, before_chunk: Hook, then: str
) -> None:
    before_chunk(2, lambda: Campaign.objects.get(pk=campaign.pk).pause())
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert not OrmQ.objects.exists()

    assert getattr(campaign, then)()
    assert [task.func() for task in OrmQ.objects.all()] == ["campaigns.tasks.process_campaigns"]


def test_whoever_is_to_get_something_is_listed_before_whoever_is_not(
    campaign: Campaign, before_chunk: Hook
) -> None:
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    cancelled, queuing = campaign, CampaignFactory()
    assert queuing.schedule()
    queuing.start()

    assert list(Campaign.objects.being_listed()) == [queuing, cancelled]


def test_a_cancelled_campaign_that_nobody_lists_breaks_a_rule(
    campaign: Campaign, before_chunk: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the scheduler has had its passes; and whoever is at it this moment is let be."""
    before_chunk(2, lambda: cancel(campaign))
    Campaign.objects.process()
    assert ledger.violations(again_after_seconds=0) == []
    Campaign.objects.update(finished_at=timezone.now() - timedelta(hours=1))

    [violation] = ledger.violations(again_after_seconds=0)
    assert violation.rule == "Of a cancelled campaign the whole audience is listed"

    before_chunk(4, kill)

    def go_on(_seconds: float) -> None:
        with pytest.raises(KeyboardInterrupt):
            Campaign.objects.process()

    monkeypatch.setattr(ledger.time, "sleep", go_on)
    assert ledger.violations() == []
    assert Campaign.objects.get().is_being_listed


@pytest.mark.parametrize("status", ["queuing", "paused", "cancelled"])
def test_also_a_list_that_is_not_whole_adds_up_to_what_was_counted(
    campaign: Campaign, before_chunk: Hook, status: str
) -> None:
    die(before_chunk=before_chunk, number=3)
    Campaign.objects.update(status=status)
    assert ledger.violations(again_after_seconds=0) == []

    campaign.messages.order_by("pk")[:1].get().delete()

    [violation] = ledger.violations(again_after_seconds=0)
    assert violation.examples == [f"{campaign}: 3 messages for an audience of 4"]
