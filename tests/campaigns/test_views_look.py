from __future__ import annotations

import csv
import html
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    NicheFactory,
)

pytestmark = pytest.mark.django_db

LIST = reverse("campaigns:list")


def page(client: Client, name: str, campaign: Campaign, **query: str) -> str:
    response = client.get(reverse(f"campaigns:{name}", args=[campaign.pk]), query)
    assert response.status_code in (200, 286)
    return response.content.decode()


def with_messages(**counts: int) -> Campaign:
    campaign = CampaignFactory(sending=True, audience_size=sum(counts.values()))
    for status, count in counts.items():
        closed = status not in ("pending", "processing", "queued", "paused")
        BroadcastMessageFactory.create_batch(
            count,
            campaign=campaign,
            status=status,
            finished_at=timezone.now() if closed else None,
            device=None if status == "skipped" else DeviceFactory(online=True),
            skip_reason="opted_out" if status == "skipped" else "",
        )
    return campaign


# The list


def test_an_empty_list_offers_the_first_campaign(operator_client: Client) -> None:
    text = operator_client.get(LIST).content.decode()
    assert "No campaigns yet" in text
    assert reverse("campaigns:create") in text


def test_the_list_is_searched_and_filtered(viewer_client: Client) -> None:
    CampaignFactory(title="October restock")
    for title in ("October letter", "Raya"):
        BroadcastMessageFactory(campaign=CampaignFactory(title=title, sending=True))
    text = viewer_client.get(LIST, {"q": "october", "status": "sending"}).content.decode()
    assert "October letter" in text
    assert "October restock" not in text
    assert "Raya" not in text


def test_a_filter_that_is_not_offered_is_no_error(viewer_client: Client) -> None:
    CampaignFactory(title="Raya")
    response = viewer_client.get(LIST, {"status": "nonsense", "page": "abc"})
    assert "Raya" in response.content.decode()


def test_pages_keep_the_search(viewer_client: Client) -> None:
    CampaignFactory.create_batch(30, title="October")
    text = viewer_client.get(LIST, {"q": "october"}).content.decode()
    assert "1 to 25 of 30" in text
    assert "?q=october&amp;page=2" in text


def test_only_rows_that_run_ask_again(viewer_client: Client) -> None:
    with_messages(sent=1, pending=1)
    CampaignFactory(status="finished", finished_at=timezone.now())
    CampaignFactory(status="paused", paused_at=timezone.now())
    assert viewer_client.get(LIST).content.decode().count("every 2s") == 1


def test_more_campaigns_cost_no_more_queries(viewer_client: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            viewer_client.get(LIST)
        return len(captured)

    with_messages(sent=1)
    few = queries()
    for _ in range(5):
        with_messages(sent=1, pending=1).niches.add(NicheFactory())
    assert queries() == few


# The fragments that poll


def test_a_row_that_is_done_ends_its_polling(viewer_client: Client) -> None:
    campaign = with_messages(sent=1, queued=1)
    url = reverse("campaigns:row", args=[campaign.pk])
    assert viewer_client.get(url).status_code == 200
    campaign.messages.update(status="sent")
    response = viewer_client.get(url)
    assert response.status_code == 286
    assert "hx-get" not in response.content.decode()


@pytest.mark.parametrize("name", ["progress", "activity"])
def test_the_page_of_a_finished_campaign_asks_no_more(viewer_client: Client, name: str) -> None:
    campaign = with_messages(sent=2)
    url = reverse(f"campaigns:{name}", args=[campaign.pk])
    response = viewer_client.get(url)
    assert (response.status_code, "hx-get" in response.content.decode()) == (200, True)
    Campaign.objects.update(status="finished", finished_at=timezone.now())
    response = viewer_client.get(url)
    assert (response.status_code, "hx-get" in response.content.decode()) == (286, False)


def test_a_cancelled_campaign_is_watched_until_what_was_in_hand_is_done(
    viewer_client: Client,
) -> None:
    campaign = with_messages(queued=1)
    Campaign.objects.update(status="cancelled", finished_at=timezone.now())
    url = reverse("campaigns:progress", args=[campaign.pk])
    assert viewer_client.get(url).status_code == 200
    campaign.messages.update(status="sent")
    assert viewer_client.get(url).status_code == 286


def test_buttons_are_replaced_only_when_the_state_has_changed(operator_client: Client) -> None:
    campaign = with_messages(pending=1)
    url = reverse("campaigns:progress", args=[campaign.pk])
    asked = {"headers": {"HX-Request": "true"}}
    same = operator_client.get(
        url, {"was": "sending/sending", "step": "0"}, **asked
    ).content.decode()
    assert "<dialog" not in same  # an open question would be torn from under the cursor
    assert "aria-live" not in same
    for was in ("paused/paused", "finished/sending", "sending/finished"):
        changed = operator_client.get(url, {"was": was, "step": "0"}, **asked).content.decode()
        assert "<dialog" in changed


def test_what_a_dialog_says_moves_with_the_page(operator_client: Client) -> None:
    campaign = with_messages(pending=3)
    url = reverse("campaigns:progress", args=[campaign.pk])
    htmx = {"HX-Request": "true"}
    was = operator_client.get(url, headers=htmx).context["progress"].states
    BroadcastMessage.objects.filter(pk=campaign.messages.first().pk).update(status="queued")
    text = operator_client.get(url, {"was": was}, headers=htmx).content.decode()
    assert "<dialog" not in text
    for name in ("pause", "cancel"):
        said = re.search(rf'<p id="effect-{name}" hx-swap-oob="true">(.*?)</p>', text)
        assert said
        assert said[1].startswith("2 waiting messages")
        assert "1 that is being sent now will finish" in said[1]


def test_a_scheduled_page_is_loaded_anew_when_the_campaign_begins(viewer_client: Client) -> None:
    campaign = CampaignFactory(status="scheduled", scheduled_at=timezone.now() + timedelta(hours=1))
    url = reverse("campaigns:progress", args=[campaign.pk])
    response = viewer_client.get(url, {"was": "scheduled"})
    assert (response.status_code, response.get("HX-Refresh")) == (204, None)
    Campaign.objects.update(status="sending")
    assert viewer_client.get(url, {"was": "scheduled"})["HX-Refresh"] == "true"


# One campaign


@pytest.mark.parametrize("status", Campaign.Status.values)
def test_a_campaign_has_a_page_in_every_state(operator_client: Client, status: str) -> None:
    now = timezone.now()
    campaign = CampaignFactory(
        title="October restock", status=status, scheduled_at=now, started_at=now,
        paused_at=now, finished_at=now, fanned_out_at=now,
    )  # fmt: skip
    assert "October restock" in page(operator_client, "detail", campaign)


def test_the_numbers_are_the_audience(viewer_client: Client) -> None:
    campaign = with_messages(sent=3, failed=1, unknown=1, pending=4, queued=1, skipped=2)
    text = page(viewer_client, "detail", campaign)
    assert "12 in the audience, all accounted for" in text
    assert "3 Sent, 1 Failed, 1 Unknown, 1 Being sent, 4 Waiting, 2 Left out" in text


def test_the_rows_of_the_devices_add_up_to_those_who_match(viewer_client: Client) -> None:
    campaign = with_messages(sent=3, failed=2, pending=4, expired=1, cancelled=1, skipped=2)
    skipped = {"status": "skipped", "skip_reason": "not_on_whatsapp"}
    BroadcastMessageFactory(campaign=campaign, device=DeviceFactory(name="Zoe"), **skipped)
    table = page(viewer_client, "detail", campaign).split('id="device-rows"')[1]
    rows = table.split("</tbody>")[0].split("</tr>")[:-1]
    numbers = [[int(n) for n in re.findall(r'class="num">(\d+)', row)] for row in rows]

    for planned, *became, _left_out in numbers:
        assert planned == sum(became)
    assert "Without a device" in rows[-1]
    assert [sum(row[column] for row in numbers) for column in (0, -1)] == [11, 3]
    assert '1 <span class="small muted">expired' in table


def test_nothing_claims_to_add_up_before_all_are_queued(viewer_client: Client) -> None:
    campaign = with_messages(pending=1)
    Campaign.objects.update(fanned_out_at=None, status="queuing")
    assert "accounted for" not in page(viewer_client, "detail", campaign)


def test_failed_and_unknown_messages_are_named_with_their_reason(viewer_client: Client) -> None:
    campaign = with_messages(sent=1)
    BroadcastMessageFactory(
        campaign=campaign, status="failed", finished_at=timezone.now(),
        lead=LeadFactory(name="Ahmad"), error_message="WhatsApp does not know this number.",
    )  # fmt: skip
    text = page(viewer_client, "detail", campaign)
    assert "What needs you" in text
    assert "Ahmad" in text
    assert "WhatsApp does not know this number." in text


def test_a_device_that_is_away_is_said_with_what_waits_for_it(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    device = DeviceFactory(name="Sales 07", status="logged_out")
    BroadcastMessageFactory(campaign=campaign, device=device)
    text = page(viewer_client, "detail", campaign)
    assert "Sales 07 is logged out." in text
    assert "Its 1 message waits" in text


def test_text_of_others_is_never_markup(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True, title="<b>T", message="<script>1</script>")
    BroadcastMessageFactory(
        campaign=campaign, status="failed", lead=LeadFactory(name="<img src=x>")
    )
    for name in ("detail", "recipients"):
        text = page(viewer_client, name, campaign)
        assert "<b>T" not in text
        assert "<script>1" not in text
        assert "<img src=x>" not in text


# The recipients


def test_tabs_count_and_narrow_the_recipients(viewer_client: Client) -> None:
    campaign = with_messages(sent=2, processing=1, queued=1, skipped=1)
    text = page(viewer_client, "recipients", campaign, status="working")
    assert text.count("<tr>") == 3  # the heading, and two that are being sent
    assert "5 leads in the audience, every one accounted for." in text


def test_an_empty_state_that_was_asked_for_says_that_nobody_is_in_it(
    viewer_client: Client,
) -> None:
    text = page(viewer_client, "recipients", with_messages(sent=1), status="unknown")
    assert "Nobody here" in text
    assert 'href="?status=unknown" aria-current="page"' in text


def test_recipients_are_found_by_number(viewer_client: Client) -> None:
    campaign = with_messages(sent=2)
    found = BroadcastMessageFactory(campaign=campaign, lead=LeadFactory(phone="6599998888"))
    text = page(viewer_client, "recipients", campaign, q="+65 9999")
    assert found.display_phone in text
    assert text.count("<tr>") == 2


def test_more_recipients_cost_no_more_queries(viewer_client: Client) -> None:
    campaign = with_messages(sent=1)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(viewer_client, "recipients", campaign)
        return len(captured)

    few = queries()
    BroadcastMessageFactory.create_batch(10, campaign=campaign, status="failed")
    assert queries() == few


def test_long_lists_come_in_pages(viewer_client: Client) -> None:
    campaign = with_messages(sent=55)
    text = page(viewer_client, "recipients", campaign, status="sent")
    assert text.count("<tr>") == 51
    assert "Older" in text
    assert "status=sent&amp;before=" in text


def exported(client: Client, campaign: Campaign, **query: str) -> list[list[str]]:
    response = client.get(reverse("campaigns:export", args=[campaign.pk]), query)
    assert response.streaming
    assert response["Content-Type"].startswith("text/csv")
    text = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[arg-type]
    return list(csv.reader(io.StringIO(text)))


def test_the_export_has_every_recipient_with_its_outcome(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    sent_at = datetime(2026, 11, 23, 2, 3, 4, tzinfo=UTC)
    sent = BroadcastMessageFactory(campaign=campaign, status="sent", sent_at=sent_at)
    BroadcastMessageFactory(campaign=campaign, status="skipped", skip_reason="opted_out")
    heading, first, second = exported(viewer_client, campaign)
    assert heading[0] == "Phone"
    assert first[:3] == [sent.recipient_phone, sent.recipient_name, "sent"]
    assert "2026-11-23T02:03:04+00:00" in first
    assert second[2:4] == ["skipped", "Opted out"]


def test_the_export_says_why_in_the_words_of_the_page(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True, timezone="Asia/Tokyo")
    today = timezone.localdate(timezone=UTC)
    device = DeviceFactory(
        name="Sales 01", online=True, timezone="UTC", daily_limit=60, usage_day=today,
        usage_day_count=60,
    )  # fmt: skip
    BroadcastMessageFactory(campaign=campaign, device=device)
    BroadcastMessageFactory(campaign=campaign, status="unknown")
    BroadcastMessageFactory(campaign=campaign, status="expired")
    text = html.unescape(page(viewer_client, "recipients", campaign))
    _heading, *lines = exported(viewer_client, campaign)
    whys = [line[3] for line in lines]
    assert "Sales 01 has sent its 60 messages of today. Sales 01 goes on" in whys[0]
    assert "at 09:00" in whys[0]  # midnight of the device, as the campaign's clock shows it
    assert "Nobody can tell whether it arrived." in whys[1]
    assert all(why and why in text for why in whys)


def test_a_longer_export_asks_nothing_more(viewer_client: Client) -> None:
    campaign = with_messages(pending=1)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            exported(viewer_client, campaign)
        return len(captured)

    few = queries()
    BroadcastMessageFactory.create_batch(5, campaign=campaign)
    assert queries() == few


def test_the_export_is_narrowed_as_the_page_is(viewer_client: Client) -> None:
    campaign = with_messages(sent=2, failed=1)
    assert len(exported(viewer_client, campaign, status="failed")) == 2


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_runs_what_a_lead_is_called(viewer_client: Client, name: str) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign, recipient_name=name)
    assert exported(viewer_client, campaign)[1][1] == f"'{name}"


@pytest.mark.parametrize("q", ["012-345", "0060 12 345", "6012345"])
def test_recipients_are_found_and_exported_by_a_number_as_people_write_it(
    viewer_client: Client, q: str
) -> None:
    campaign = CampaignFactory(sending=True)
    for phone in ("60123456789", "60133456789"):
        BroadcastMessageFactory(campaign=campaign, status="sent", lead=LeadFactory(phone=phone))
    text = page(viewer_client, "recipients", campaign, q=q, status="sent")
    assert text.count("<tr>") == 2
    assert "+60 12-345 6789" in text
    address = reverse("campaigns:export", args=[campaign.pk])
    [link] = re.findall(f'href="({address}[^"]*)"', text)
    response = viewer_client.get(html.unescape(link))
    lines = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[arg-type,attr-defined]
    assert [line.split(",")[0] for line in lines[1:]] == ["60123456789"]


def test_a_viewer_is_offered_nothing_that_changes(viewer_client: Client) -> None:
    shown = page(viewer_client, "detail", CampaignFactory(sending=True))
    assert "Cancel" not in shown
    assert "Copy" not in shown


@pytest.mark.parametrize("name", ["detail", "row", "progress", "recipients", "review", "pause"])
def test_a_campaign_that_is_not_there_is_a_page_that_says_so(
    operator_client: Client, name: str
) -> None:
    response = operator_client.get(reverse(f"campaigns:{name}", args=[404404]))
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()
