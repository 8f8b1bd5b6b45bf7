from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns import composing
from campaigns.models import Campaign
from tests.campaigns.entering import entered
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory, NicheFactory

pytestmark = pytest.mark.django_db

NEW = reverse("campaigns:create")
PREVIEW = reverse("campaigns:preview")


def url(name: str, campaign: Campaign) -> str:
    return reverse(f"campaigns:{name}", args=[campaign.pk])


# The draft


def test_saving_keeps_a_draft_and_sends_nothing(operator_client: Client) -> None:
    niche = NicheFactory(name="VITAC")
    response = operator_client.post(NEW, entered(then="save", niches=[niche.pk]))
    campaign = Campaign.objects.get()
    assert response["Location"] == url("edit", campaign)
    assert (campaign.status, list(campaign.niches.all())) == ("draft", [niche])
    assert campaign.created_by
    assert campaign.created_by.username == "operator"
    assert LogEntry.objects.get().object_id == str(campaign.pk)


def test_review_is_the_next_page(operator_client: Client) -> None:
    response = operator_client.post(NEW, entered(then="review"))
    assert response["Location"] == url("review", Campaign.objects.get())


def test_without_javascript_a_button_counts_and_stores_nothing(operator_client: Client) -> None:
    LeadFactory.create_batch(2)
    LeadFactory(opted_out=True)
    text = operator_client.post(NEW, entered(then="count")).content.decode()
    assert "Review 2 messages" in text
    assert "opted out" in text
    assert not Campaign.objects.exists()


def test_a_placeholder_nobody_knows_is_an_error_at_the_field(operator_client: Client) -> None:
    response = operator_client.post(NEW, entered(then="save", message="Hi {nmae}"))
    text = response.content.decode()
    assert "Unknown: {nmae}." in text
    assert 'aria-invalid="true"' in text
    assert 'id="id_message_error"' in text
    assert not Campaign.objects.exists()


def test_the_errors_are_gathered_at_the_top_with_links_to_the_fields(
    operator_client: Client,
) -> None:
    text = operator_client.post(NEW, entered(then="save", title="")).content.decode()
    assert "Please mend" in text
    assert 'href="#id_title"' in text


def test_a_time_is_one_of_the_campaigns_own_zone(operator_client: Client) -> None:
    tomorrow = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT10:00")
    operator_client.post(
        NEW, entered(then="save", when="later", starts_at=tomorrow, timezone="America/New_York")
    )
    campaign = Campaign.objects.get()
    assert campaign.scheduled_at is not None
    local = campaign.scheduled_at.astimezone(campaign.zone)
    assert local.strftime("%Y-%m-%dT%H:%M") == tomorrow
    assert campaign.scheduled_at.astimezone(UTC).hour in (14, 15)
    assert tomorrow in operator_client.get(url("edit", campaign)).content.decode()


@pytest.mark.parametrize(
    ("starts_at", "zone", "problem"),
    [
        ("2020-01-01T10:00", "Asia/Kuala_Lumpur", "This time is past"),
        ("", "Asia/Kuala_Lumpur", "Give a date and time"),
        ("2099-03-29T02:30", "Europe/Berlin", "be interpreted"),
        ("2099-01-01T10:00", "Kuala Lumpur", "Not a time zone"),
        ("2199-01-01T10:00", "Asia/Kuala_Lumpur", "more than a year away"),
        ("9999-12-31T23:59", "Pacific/Honolulu", "more than a year away"),
        ("0001-01-01T00:00", "Pacific/Kiritimati", "This time is past"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(
    operator_client: Client, starts_at: str, zone: str, problem: str
) -> None:
    response = operator_client.post(
        NEW, entered(then="save", when="later", starts_at=starts_at, timezone=zone)
    )
    assert problem in response.content.decode()
    assert not Campaign.objects.exists()


def test_now_takes_back_a_time_given_earlier(operator_client: Client) -> None:
    draft = CampaignFactory(scheduled_at=timezone.now() + timedelta(days=1))
    operator_client.post(url("edit", draft), entered(then="save", when="now"))
    draft.refresh_from_db()
    assert draft.scheduled_at is None


def test_correcting_a_word_keeps_a_device_that_is_off(operator_client: Client) -> None:
    """Left out of the form, it would be sent from every other one."""
    chosen, _off = DeviceFactory(name="Chosen", enabled=False), DeviceFactory(enabled=False)
    draft = CampaignFactory()
    draft.devices.set([chosen])
    form = operator_client.get(url("edit", draft)).context["form"]
    assert [str(label) for _value, label in form["devices"].field.choices] == ["Chosen"]

    operator_client.post(url("edit", draft), entered(then="save", devices=[chosen.pk]))

    assert list(draft.devices.all()) == [chosen]


def test_a_campaign_that_is_no_draft_is_not_edited(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True, title="Before")
    response = operator_client.post(url("edit", campaign), entered(then="save", title="After"))
    campaign.refresh_from_db()
    assert response["Location"] == url("detail", campaign)
    assert (campaign.title, campaign.status) == ("Before", "sending")


def test_a_draft_scheduled_while_somebody_edits_stays_as_it_was_reviewed() -> None:
    from campaigns.forms import CampaignForm

    draft = CampaignFactory(title="Before")
    form = CampaignForm(entered(title="After"), instance=Campaign.objects.get(pk=draft.pk))
    assert form.is_valid()
    assert draft.schedule()
    assert not form.save_draft(draft.created_by)
    draft.refresh_from_db()
    assert (draft.title, draft.status) == ("Before", "scheduled")


def test_a_copy_is_a_draft_with_the_same_audience(operator_client: Client) -> None:
    original = CampaignFactory(sending=True, title="Raya")
    niche, device = NicheFactory(), DeviceFactory()
    original.niches.add(niche)
    original.devices.add(device)
    operator_client.post(url("clone", original))
    copy = Campaign.objects.exclude(pk=original.pk).get()
    assert (copy.title, copy.status, copy.scheduled_at) == ("Raya (copy)", "draft", None)
    assert (list(copy.niches.all()), list(copy.devices.all())) == ([niche], [device])


def test_the_pages_of_the_form_have_no_inline_style_or_script(
    operator_client: Client,
) -> None:
    draft = CampaignFactory()
    for address in (NEW, url("edit", draft), url("review", draft)):
        text = operator_client.get(address).content.decode()
        assert " style=" not in text
        assert "<script>" not in text


# What somebody with a few rights sees


def with_rights(*names: str) -> Client:
    user = User.objects.create_user("some")
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("right", ["add_campaign", "change_campaign"])
def test_whoever_writes_or_edits_sees_the_preview_and_no_number(right: str) -> None:
    LeadFactory(name="Siti", phone="60123456789")
    response = with_rights(right).post(PREVIEW, entered())
    text = response.content.decode()
    assert response.status_code == 200
    assert "Hi Siti, it is back." in text
    assert "+60 12-345 6789" not in text


def test_whoever_may_see_leads_sees_whose_preview_it_is() -> None:
    LeadFactory(name="Siti", phone="60123456789")
    text = with_rights("change_campaign", "view_lead").post(PREVIEW, entered()).content.decode()
    assert "Siti · +60 12-345 6789" in text


def test_what_the_history_says_of_a_copy_is_translated(
    operator_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composing, "_", lambda words: f"<{words}>")
    campaign = CampaignFactory()
    operator_client.post(url("clone", campaign))
    said = f"<Copied from campaign {campaign.pk}.>"
    assert LogEntry.objects.get().get_change_message() == said


@pytest.mark.parametrize("field", ["min_delay_seconds", "max_delay_seconds"])
def test_a_pause_beyond_reason_is_an_error_at_the_field(
    operator_client: Client, field: str
) -> None:
    pauses = {"min_delay_seconds": "0", "max_delay_seconds": "999999999999"}
    if field == "min_delay_seconds":
        pauses["min_delay_seconds"] = "999999999999"

    saved = operator_client.post("/campaigns/new/", entered(then="save", **pauses))
    shown = operator_client.post(PREVIEW, entered(**pauses))

    assert saved.status_code == shown.status_code == 200
    assert "A pause is 3,600 seconds at most: one hour." in saved.content.decode()
    assert not Campaign.objects.exists()
