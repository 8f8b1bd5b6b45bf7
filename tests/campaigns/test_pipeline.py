"""Where nobody's transaction is open, as in a scheduler, two threads take turns: one writes a page,
the other prepares the next. On SQLite it goes in line, with the same promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

import pytest
from django.db import OperationalError, connection, connections

from campaigns import fanout
from campaigns.models import Campaign
from campaigns.pipeline import pipeline
from leads.models import Lead
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db(transaction=True)

Hook = Callable[[int, Callable[[], object]], None]

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


def is_here() -> bool:
    connection.ensure_connection()
    return True


def is_at_work() -> bool:
    return any(thread.name.startswith("pipeline") for thread in threading.enumerate())


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


@pytest.fixture
def before_page(monkeypatch: pytest.MonkeyPatch) -> Hook:
    """Has something done as soon as the page of this number is going to be written, by whoever
    writes it."""
    commit, pages = fanout._commit_page, count(1)

    def at(page: int, then: Callable[[], object]) -> None:
        def look(campaign: Campaign, entries: fanout.Page) -> bool:
            if next(pages) == page:
                then()
            return commit(campaign, entries)

        monkeypatch.setattr(fanout, "_commit_page", look)

    return at


@pytest.mark.mysql
def test_the_next_page_is_prepared_while_the_one_before_is_written() -> None:
    second = threading.Event()
    prepared: list[str] = []
    written: list[str] = []

    def prepare() -> str | None:
        prepared.append(threading.current_thread().name)
        if len(prepared) == 2:
            second.set()
        return None if len(prepared) > 3 else f"page {len(prepared)}"

    def write(page: str) -> bool:
        assert second.wait(20)
        assert prepared[len(written)] == threading.current_thread().name  # where it was staged
        written.append(page)
        return True

    assert pipeline(prepare, write, leads_here=is_here)
    assert written == ["page 1", "page 2", "page 3"]
    assert not is_at_work()


@pytest.mark.mysql
@pytest.mark.parametrize("pages_written", [1, 2, 5])
def test_the_threads_and_their_connections_end_with_the_work(pages_written: int) -> None:
    used = set()
    pages = iter(range(5))

    def prepare() -> int | None:
        connection.ensure_connection()
        used.add(connections["default"])
        return next(pages, None)

    def write(page: int) -> bool:
        return page + 1 < pages_written

    assert not pipeline(prepare, write, leads_here=is_here)
    assert not is_at_work()
    assert len(used) == 2
    assert connections["default"] not in used
    assert {own.connection for own in used} == {None}


@pytest.mark.mysql
@pytest.mark.parametrize("started", [0, 1])
def test_a_host_that_gives_no_more_threads_works_in_line(
    started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, threads = threading.Thread.start, count()

    def refuse(thread: threading.Thread) -> None:
        if next(threads) == started:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert at_work_in_line(is_here)


@pytest.mark.mysql
@pytest.mark.parametrize("here", [0, 1])
def test_where_a_connection_leads_to_another_node_it_works_in_line(here: int) -> None:
    used = []

    def leads_here() -> bool:
        connection.ensure_connection()
        used.append(connections["default"])
        return len(used) <= here

    assert at_work_in_line(leads_here)
    assert [own.connection for own in used] == [None] * (here + 1)


@pytest.mark.mysql
def test_a_server_that_gives_no_more_connections_works_in_line() -> None:
    def refuse() -> bool:
        raise OperationalError(1040, "Too many connections")

    assert at_work_in_line(refuse)


def at_work_in_line(leads_here: Callable[[], bool]) -> bool:
    pages, done = iter("ab"), []

    def prepare() -> str | None:
        done.append(threading.current_thread().name)
        return next(pages, None)

    def write(page: str) -> bool:
        done.append(page)
        return True

    assert pipeline(prepare, write, leads_here=leads_here)
    assert not is_at_work()
    return done == ["MainThread", "a", "MainThread", "b", "MainThread"]


def test_a_page_that_cannot_be_read_is_everybodys_trouble() -> None:
    pages, written = iter("a"), []

    def prepare() -> str | None:
        if page := next(pages, None):
            return page
        raise OperationalError(2013, "lost")

    def write(page: str) -> bool:
        written.append(page)
        return True

    with pytest.raises(OperationalError, match="lost"):
        pipeline(prepare, write, leads_here=is_here)
    assert written == ["a"]
    assert not is_at_work()


@pytest.mark.mysql
def test_a_connection_that_is_lost_while_two_others_work_costs_nothing(
    campaign: Campaign, before_page: Hook
) -> None:
    """As by a proxy that ends what says nothing for a while."""
    connection.ensure_connection()
    number = connection.connection.thread_id()

    def kill() -> None:
        with connection.cursor() as cursor:
            cursor.execute("KILL %s", [number])

    before_page(2, kill)
    assert Campaign.objects.process()["queued"] == 1
    assert is_queued_whole(campaign)


@pytest.mark.django_db(transaction=False)
def test_inside_of_a_transaction_it_reads_in_line_what_that_has_written() -> None:
    lead = LeadFactory()
    read: list[object] = []

    def prepare() -> Lead | None:
        return None if read else Lead.objects.get()

    def write(page: Lead) -> bool:
        read.extend([page, threading.current_thread().name])
        return True

    assert pipeline(prepare, write, leads_here=is_here)
    assert read == [lead, "MainThread"]


def test_another_node_is_asked_for_nothing(
    campaign: Campaign,
    before_page: Hook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may not have heard of all leads: whoever is connected to it in the middle of a pass stops
    there, and a campaign of which a part is written is not taken for a whole one."""
    moved = threading.Event()
    monkeypatch.setattr(fanout, "server", moved.is_set)
    before_page(1, moved.set)

    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.status == "queuing"
    # In line 4; two threads may have prepared the next page before.
    assert campaign.messages.count() in (4, 8)

    Campaign.objects.process()  # which is there from its beginning
    assert is_queued_whole(campaign)


@pytest.mark.parametrize("campaign", MESSAGES, indirect=True)
def test_everybody_has_one_message(campaign: Campaign) -> None:
    Campaign.objects.process()

    assert is_queued_whole(campaign)
    assert not campaign.messages.exclude(body__startswith="Hi ").exists()


def test_each_page_lies_ready_when_it_is_its_turn(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes it need not wait for that."""
    commit, ready = fanout._commit_page, list[bool]()

    def look(campaign: Campaign, page: fanout.Page) -> bool:
        ready.append(page.is_staged)
        return commit(campaign, page)

    monkeypatch.setattr(fanout, "_commit_page", look)
    Campaign.objects.process()

    assert ready == [True, True, True]
    assert is_queued_whole(campaign)


def test_killed_in_the_second_page_it_goes_on_from_the_checkpoint(
    campaign: Campaign, before_page: Hook
) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    before_page(2, kill)
    with pytest.raises(KeyboardInterrupt):
        Campaign.objects.process()
    assert not is_at_work()
    assert campaign.messages.count() == 4

    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_paused_while_a_page_lies_ready_nothing_of_it_is_written(
    campaign: Campaign, before_page: Hook
) -> None:
    before_page(2, lambda: Campaign.objects.get(pk=campaign.pk).pause())
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("paused", 4)
    assert not is_at_work()

    campaign.resume()
    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_a_lead_that_is_deleted_between_reading_and_writing_stops_the_pass(
    campaign: Campaign, before_page: Hook
) -> None:
    """The next one reads the audience anew: nobody is missing, and the counts add up."""
    gone = Lead.objects.order_by("pk")[5]
    before_page(2, gone.delete)
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("queuing", 4)

    Campaign.objects.process()
    assert is_queued_whole(campaign)


def test_whose_last_leads_are_deleted_before_their_page_it_is_complete_without_them(
    campaign: Campaign, before_page: Hook
) -> None:
    """Its checkpoint comes to the end of the audience that was frozen, though nobody is there."""
    before_page(1, Lead.objects.filter(pk__gt=Lead.objects.order_by("pk")[7].pk).delete)
    for _minute in range(2):
        Campaign.objects.process()

    assert is_queued_whole(campaign)
    assert campaign.messages.count() == 8


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


def test_of_two_schedulers_at_once_each_chunk_is_one_s(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.start()
    together = threading.Barrier(2, timeout=20)
    done: list[bool] = []
    freeze = fanout._freeze_audience

    def freeze_together(campaign: Campaign) -> bool:
        frozen = freeze(campaign)
        together.wait()
        return frozen

    monkeypatch.setattr(fanout, "_freeze_audience", freeze_together)

    def schedule() -> None:
        try:
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
