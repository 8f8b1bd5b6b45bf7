"""Where nobody's transaction is open, as in a scheduler, a thread reads pages ahead. On SQLite they
are read in line, with the same promises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from campaigns import fanout
from campaigns.models import Campaign
from campaigns.read_ahead import read_ahead
from leads.models import Lead
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db(transaction=True)

MESSAGES = ["Hi {name|there}", "Hi {first_name} of {niche}"]


@pytest.fixture
def campaign(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Due, to 10 leads: pages of 4, in chunks of 2."""
    monkeypatch.setattr(fanout, "PAGE", 4)
    monkeypatch.setattr(fanout, "CHUNK", 2)
    DeviceFactory.create_batch(2)
    LeadFactory.create_batch(10, niches=["VITAC"])
    campaign: Campaign = CampaignFactory(message=getattr(request, "param", MESSAGES[0]))
    assert campaign.schedule()
    return campaign


def knows() -> bool:
    connection.ensure_connection()
    return True


def is_reading() -> bool:
    return any(thread.name.startswith("read-ahead") for thread in threading.enumerate())


def is_queued_whole(campaign: Campaign) -> bool:
    """Everybody has one message, and the counts say so."""
    campaign.refresh_from_db()
    recipients = list(campaign.messages.order_by("lead").values_list("lead", flat=True))
    everybody = list(Lead.objects.order_by("pk").values_list("pk", flat=True))
    return (
        campaign.status == "sending"
        and recipients == everybody
        and campaign.audience_size == len(everybody)
    )


def when_staged(page: int, then: Callable[[], object]) -> Callable[..., Any]:
    """Returns an execute_wrapper that does something as soon as the page is going to be written."""
    pages = count(1)

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "CREATE TEMPORARY" in sql and next(pages) == page:
            then()
        return execute(sql, *arguments)

    return look


@pytest.mark.mysql
def test_the_next_page_is_read_while_the_one_before_is_written() -> None:
    second = threading.Event()

    def pages() -> Iterator[str]:
        yield threading.current_thread().name
        second.set()
        yield "the second"

    with closing(read_ahead(pages(), is_up_to_date=knows)) as read:
        assert next(read).startswith("read-ahead")
        assert second.wait(20)
        assert list(read) == ["the second"]
    assert not is_reading()


@pytest.mark.mysql
@pytest.mark.parametrize("pages_written", [1, 5])
def test_the_thread_and_its_connection_end_with_the_writer(pages_written: int) -> None:
    used = []

    def pages() -> Iterator[int]:
        for page in range(5):
            connection.ensure_connection()
            used.append(connections["default"])
            yield page

    with closing(read_ahead(pages(), is_up_to_date=knows)) as read:
        assert [next(read) for _ in range(pages_written)] == list(range(pages_written))

    assert not is_reading()
    assert len(used) <= pages_written + 1
    assert connections["default"] not in used
    assert {own.connection for own in used} == {None}


@pytest.mark.mysql
def test_a_host_that_gives_no_more_threads_reads_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    names = (threading.current_thread().name for _ in range(2))

    assert list(read_ahead(names, is_up_to_date=knows)) == ["MainThread"] * 2


@pytest.mark.mysql
def test_a_node_that_has_not_heard_of_the_audience_yet_reads_nothing() -> None:
    used = []

    def has_not_heard() -> bool:
        connection.ensure_connection()
        used.append(connections["default"])
        return False

    names = (threading.current_thread().name for _ in range(2))

    assert list(read_ahead(names, is_up_to_date=has_not_heard)) == ["MainThread"] * 2
    assert [own.connection for own in used] == [None]
    assert not is_reading()


def test_who_has_not_heard_of_the_frozen_audience_is_behind(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []

    def ask(pages: Iterator[Any], *, is_up_to_date: Callable[[], bool]) -> Iterator[Any]:
        this = Campaign.objects.filter(pk=campaign.pk)
        frozen = this.get().audience_max_lead_id
        for heard in (None, (frozen or 0) - 1, frozen):
            this.update(audience_max_lead_id=heard)
            said.append(is_up_to_date())
        return read_ahead(pages, is_up_to_date=is_up_to_date)

    monkeypatch.setattr(fanout, "read_ahead", ask)

    Campaign.objects.process()

    assert said == [False, False, True]
    assert is_queued_whole(campaign)


def test_a_page_that_cannot_be_read_is_the_writers_trouble() -> None:
    def pages() -> Iterator[int]:
        yield 1
        raise OperationalError(2013, "lost")

    read = read_ahead(pages(), is_up_to_date=knows)
    assert next(read) == 1
    with pytest.raises(OperationalError, match="lost"):
        next(read)
    assert not is_reading()


@pytest.mark.django_db(transaction=False)
def test_inside_of_a_transaction_it_reads_in_line_what_that_has_written() -> None:
    lead = LeadFactory()

    def pages() -> Iterator[tuple[Lead, str]]:
        yield Lead.objects.get(), threading.current_thread().name

    assert list(read_ahead(pages(), is_up_to_date=knows)) == [
        (lead, threading.current_thread().name)
    ]


@pytest.mark.parametrize("campaign", MESSAGES, indirect=True)
def test_everybody_has_one_message(campaign: Campaign) -> None:
    Campaign.objects.process()

    assert is_queued_whole(campaign)
    assert not campaign.messages.exclude(body__startswith="Hi ").exists()


def test_killed_in_the_second_page_it_goes_on_from_the_checkpoint(campaign: Campaign) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    with connection.execute_wrapper(when_staged(2, kill)), pytest.raises(KeyboardInterrupt):
        Campaign.objects.process()
    assert not is_reading()
    assert campaign.messages.count() == 4

    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_paused_while_a_page_is_read_ahead_nothing_of_it_is_written(campaign: Campaign) -> None:
    pause = when_staged(2, lambda: Campaign.objects.get(pk=campaign.pk).pause())
    with connection.execute_wrapper(pause):
        Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("paused", 4)
    assert not is_reading()

    campaign.resume()
    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_a_lead_that_is_deleted_between_reading_and_writing_stops_the_pass(
    campaign: Campaign,
) -> None:
    """The next one reads the audience anew: nobody is missing, and the counts add up."""
    gone = Lead.objects.order_by("pk")[5]
    with connection.execute_wrapper(when_staged(2, gone.delete)):
        Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("queuing", 4)

    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_trouble_in_reading_ends_the_pass_behind_what_was_read_before(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, pages = fanout.known, count(1)

    def lost(leads: list[int]) -> set[tuple[int, int]]:
        if next(pages) == 2:
            raise OperationalError(2013, "lost")
        return known(leads)

    monkeypatch.setattr(fanout, "known", lost)
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("queuing", 4)

    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_of_two_schedulers_at_once_each_chunk_is_one_s(campaign: Campaign) -> None:
    campaign.start()
    together = threading.Barrier(2, timeout=20)
    done: list[bool] = []

    def schedule() -> None:
        try:
            with connection.execute_wrapper(when_staged(1, together.wait)):
                done.append(fanout.fan_out(Campaign.objects.get(pk=campaign.pk)))
        finally:
            connection.close()

    schedulers = [threading.Thread(target=schedule) for _ in range(2)]
    for thread in schedulers:
        thread.start()
    for thread in schedulers:
        thread.join(30)

    assert sorted(done) == [False, True]
    assert is_queued_whole(campaign)


def test_a_pass_whose_time_is_over_leaves_the_rest_to_the_next(campaign: Campaign) -> None:
    campaign.start()
    campaign.refresh_from_db()

    assert not fanout.fan_out(campaign, stop_at=0)
    assert campaign.messages.count() == 0
    assert fanout.fan_out(campaign)
    assert is_queued_whole(campaign)
