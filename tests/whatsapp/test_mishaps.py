"""What goes wrong in the middle of a campaign, with a real broadcaster: what its operator is told,
and that after it is mended everybody has the message, once.

What else may happen is elsewhere: a broadcaster or one of its processes killed while WhatsApp has
not answered, in test_broadcaster.py; all of a host's, in test_crowd.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory
from tests.processes import Process, wait_until
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.paired import Original
from tests.whatsapp.test_broadcaster import running
from tests.whatsapp.test_chain import page

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = BroadcastMessage.Priority.CAMPAIGN_FIRST


@pytest.fixture
def device() -> Device:
    """Slow enough for something to happen between two messages."""
    return DeviceFactory(
        transport="neonize", session="paired", min_delay_seconds=2, max_delay_seconds=2
    )


@pytest.fixture
def account(original: Original, device: Device, tmp_path: Path, new_phone: NewPhone) -> PhoneOf:
    return original.copy(new_phone(), tmp_path / f"{device.session}.db")


@pytest.fixture
def browser(db: None) -> Browser:
    client = Browser()
    client.force_login(User.objects.create_superuser("siti"))
    return client


@pytest.fixture
def phones(new_phone: NewPhone) -> list[PhoneOf]:
    return [new_phone() for _ in range(3)]


@pytest.fixture
def campaign(device: Device, phones: list[PhoneOf]) -> Campaign:
    campaign: Campaign = CampaignFactory(sending=True, audience_size=len(phones))
    for phone in phones:
        lead = LeadFactory(phone=phone.number)
        BroadcastMessageFactory(campaign=campaign, device=device, lead=lead, priority=FIRST)
    return campaign


def copies(phones: list[PhoneOf]) -> list[list[int]]:
    return [[message.copies for message in phone.received()] for phone in phones]


def unlink(whatsapp: Double, account: PhoneOf) -> None:
    whatsapp.log_out(account.number)


def ban(whatsapp: Double, account: PhoneOf) -> None:
    whatsapp.ban(account.number, code=101, seconds=3600)
    whatsapp.cut(account.number)


def ban_for_good(whatsapp: Double, account: PhoneOf) -> None:
    whatsapp.refuse_logins(406, account.number)
    whatsapp.cut(account.number)


def outgrow(whatsapp: Double, account: PhoneOf) -> None:
    whatsapp.refuse_logins(405)
    whatsapp.cut(account.number)


@pytest.mark.parametrize(
    ("go_wrong", "state", "said", "mended_by"),
    [
        (unlink, "logged_out", "Logged out. It was unlinked on the phone", "pairing"),
        (ban, "banned", "Banned. Banned for a while: too many messages to people", "button"),
        (ban_for_good, "banned", "Banned. WhatsApp has banned this number.", "pairing"),
        (outgrow, "offline", "no longer talks to this version of neonize", "restart"),
    ],
)
def test_a_device_that_can_send_no_more_says_why_and_sends_the_rest_once_it_can(
    whatsapp: Double, device: Device, account: PhoneOf, campaign: Campaign, phones: list[PhoneOf],
    browser: Browser, original: Original, tmp_path: Path,
    go_wrong: Callable[[Double, PhoneOf], None], state: str, said: str,
    mended_by: Literal["pairing", "button", "restart"],
) -> None:  # fmt: skip
    with running(whatsapp, tmp_path) as process:
        wait_until(phones[0].received)
        go_wrong(whatsapp, account)

        wait_until(lambda: said in page(browser, "devices:detail", device.pk))
        device.refresh_from_db()
        assert device.state == state
        # Nobody is missed: each is in one state, and the page says what they wait for.
        wait_until(lambda: adds_up(campaign, sent=1, pending=2))
        shown = page(browser, "campaigns:detail", campaign.pk)
        assert f"{device} is {state.replace('_', ' ')}. Its 2 messages wait" in shown
        assert copies(phones) == [[1], [], []]
        if mended_by == "restart":  # with a newer version
            stop(process)

        whatsapp.behave()
        if mended_by == "pairing":
            original.copy(account, tmp_path / "again.db")
            Device.objects.filter(pk=device.pk).pair("again")
        elif mended_by == "button":
            browser.post(reverse("devices:works_again", args=[device.pk]))
        if mended_by != "restart":
            wait_until(lambda: adds_up(campaign, sent=3))
            stop(process)
    if mended_by == "restart":
        with running(whatsapp, tmp_path) as process:
            wait_until(lambda: adds_up(campaign, sent=3))
            stop(process)

    assert copies(phones) == [[1], [1], [1]]
    assert all(len(whatsapp.sends(phone.number)) == 1 for phone in phones)


def test_a_campaign_whose_device_may_write_to_nobody_new_goes_on_when_its_operator_says_so(
    whatsapp: Double, device: Device, account: PhoneOf, campaign: Campaign, phones: list[PhoneOf],
    browser: Browser, tmp_path: Path,
) -> None:  # fmt: skip
    with running(whatsapp, tmp_path) as process:
        wait_until(phones[0].received)
        whatsapp.answer_sends_with(463)

        said = "WhatsApp lets this account write only to people it has talked with."
        wait_until(lambda: said in page(browser, "devices:detail", device.pk))
        wait_until(lambda: adds_up(campaign, sent=1, pending=2))
        assert "online nobody new" in page(browser, "campaigns:detail", campaign.pk)
        whatsapp.answer_sends_with(None)
        # It writes to whom it knows meanwhile, and never tries the others by force.
        lead = campaign.messages.get(recipient_phone=phones[0].number).lead
        known = BroadcastMessageFactory(device=device, lead=lead, body="You again")
        wait_until(lambda: phones[0].texts()[1:] == [known.body])
        assert [len(whatsapp.sends(phone.number)) for phone in phones] == [2, 1, 0]

        browser.post(reverse("devices:works_again", args=[device.pk]))
        wait_until(lambda: adds_up(campaign, sent=3))
        stop(process)

    assert copies(phones) == [[1, 1], [1], [1]]


@pytest.mark.parametrize("when", ["before it arrives", "after it arrived"])
def test_a_message_whose_connection_was_cut_in_mid_send_is_shown_once(
    whatsapp: Double, device: Device, account: PhoneOf, campaign: Campaign, phones: list[PhoneOf],
    tmp_path: Path, when: Literal["before it arrives", "after it arrived"],
) -> None:  # fmt: skip
    """The library sends it again by itself, under the same id: an app shows it once."""
    whatsapp.cut_next_send(when)

    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: adds_up(campaign, sent=3))
        assert Device.objects.online().filter(pk=device.pk).exists()
        stop(process)

    for message in campaign.messages.all():
        (shown,) = whatsapp.phone(message.recipient_phone).received()
        assert (shown.id, shown.text) == (message.provider_message_id, message.body)
        sends = whatsapp.sends(message.recipient_phone)
        assert {send.id for send in sends} == {message.provider_message_id}


def test_what_was_on_the_wire_when_its_device_was_unlinked_waits_for_a_receipt_or_a_person(
    whatsapp: Double, device: Device, account: PhoneOf, campaign: Campaign, phones: list[PhoneOf],
    browser: Browser, original: Original, tmp_path: Path,
) -> None:  # fmt: skip
    phones[0].switch_off()  # so that no receipt tells
    whatsapp.withhold_acks()
    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: whatsapp.sends(phones[0].number))
        whatsapp.log_out(account.number)

        wait_until(lambda: Device.objects.get().state == "logged_out")
        wait_until(lambda: adds_up(campaign, unknown=1, pending=2))
        message = campaign.messages.get(status="unknown")
        assert "Did it arrive?" in page(browser, "messages:detail", message.pk)

        whatsapp.behave()
        original.copy(account, tmp_path / "again.db")
        Device.objects.filter(pk=device.pk).pair("again")
        wait_until(lambda: adds_up(campaign, unknown=1, sent=2))
        browser.post(reverse("messages:arrived", args=[message.pk]))
        assert adds_up(campaign, sent=3)
        stop(process)

    assert [len(whatsapp.sends(phone.number)) for phone in phones] == [1, 1, 1]


def adds_up(campaign: Campaign, **expected: int) -> bool:
    """Whether so many messages are in these states, and none in any other."""
    return {status: count for status, count in campaign.counts().items() if count} == expected


def stop(process: Process) -> None:
    process.terminate()
    assert process.wait(timeout=60) == 0
