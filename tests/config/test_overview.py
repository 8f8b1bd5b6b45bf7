from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import Worker
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    SequenceContactFactory,
    SequenceFactory,
)

URL = reverse("overview")


def test_an_outsider_may_not_look(outsider_client: Client) -> None:
    response = outsider_client.get(URL)
    assert response.status_code == 403
    assert "Sign out" in response.content.decode()


def test_an_empty_installation_says_what_to_do_first(operator_client: Client) -> None:
    page = operator_client.get(URL).content.decode()
    assert "No campaign is being sent" in page
    assert "No device yet" in page
    assert "Nothing is sent: no broadcaster is running" in page


def test_the_figures_are_those_of_the_database(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True, title="October restock")
    for status in ("sent", "sent", "failed"):
        BroadcastMessageFactory(campaign=campaign, status=status, finished_at=timezone.now())
    BroadcastMessageFactory(campaign=campaign)
    context = _context(viewer_client)
    assert (context["today"].sent, context["today"].failed) == (2, 1)
    assert context["queue"].due == 1
    [progress] = context["running"]
    assert (progress.campaign, progress.sent, progress.remaining) == (campaign, 2, 1)
    assert context["days"][-1].sent == 2


def test_what_waits_leaves_only_where_a_broadcaster_runs(viewer_client: Client) -> None:
    device = DeviceFactory(sends_from=None, sends_until=None)
    BroadcastMessageFactory(campaign=CampaignFactory(sending=True), device=device)
    page = viewer_client.get(URL).content.decode()
    assert "none leave: no broadcaster runs" in page
    assert "can leave today" not in page

    now = timezone.now()
    Worker.objects.create(id="one", hostname="host", pid=1, started_at=now, heartbeat_at=now)
    assert "all can leave today" in viewer_client.get(URL).content.decode()


def test_a_sequence_shows_who_is_in_it_and_who_is_due(viewer_client: Client) -> None:
    sequence = SequenceFactory(name="COLDVITAC")
    SequenceContactFactory(sequence=sequence, next_due_at=timezone.now())
    SequenceContactFactory(sequence=sequence, status="completed")
    [line] = _context(viewer_client)["sequences"]
    assert (line.sequence, line.contacts, line.due_today) == (sequence, 1, 1)


def test_htmx_gets_the_figures_that_move_and_no_page(viewer_client: Client) -> None:
    page = viewer_client.get(URL, headers={"HX-Request": "true"}).content.decode()
    assert 'id="tiles"' in page
    assert "<html" not in page
    assert "Two weeks" not in page


def test_ten_times_the_rows_cost_not_one_query_more(viewer_client: Client) -> None:
    _busy(1)
    few = _queries(viewer_client)
    _busy(5)
    assert _queries(viewer_client) == few


def test_the_page_has_no_inline_style_or_script(viewer_client: Client) -> None:
    _busy(1)
    page = viewer_client.get(URL).content.decode()
    assert " style=" not in page
    assert "<style" not in page
    assert "onclick" not in page
    assert "<script>" not in page


def _busy(number: int) -> None:
    for campaign in CampaignFactory.create_batch(number, sending=True):
        BroadcastMessageFactory.create_batch(2, campaign=campaign)
        DeviceFactory(status="logged_out")
        SequenceContactFactory()


def _context(client: Client) -> Any:
    response = client.get(URL)
    assert response.status_code == 200
    return response.context


def _queries(client: Client) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(URL).status_code == 200
    return len(queries)


@pytest.mark.usefixtures("_scheduler_is_late")
def test_a_scheduler_that_is_late_is_not_said_to_run(viewer_client: Client) -> None:
    assert ">not running<" in viewer_client.get(URL).content.decode()


def test_a_device_that_nobody_has_paired_is_not_said_to_rest(viewer_client: Client) -> None:
    DeviceFactory(transport="neonize", session="")
    page = viewer_client.get(URL).content.decode()
    assert "1 without a phone" in page
    assert "not paired" in page
    assert "at rest" not in page
