"""From the click in the browser to an account that is linked, and back: with a real broadcaster, a
process for each pairing, the real client, and a phone that scans what the page shows."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from devices.models import Device
from devices.pairing import Pairing, Unlinking
from tests.factories import BroadcastMessageFactory, DeviceFactory
from tests.processes import Process, broadcaster, start, wait_until
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def running(whatsapp: Double, sessions: Path) -> Iterator[Process]:
    with broadcasters(whatsapp, sessions) as process:
        yield process


@contextmanager
def broadcasters(whatsapp: Double, sessions: Path, *arguments: str) -> Iterator[Process]:
    """As an operator starts them: nobody tells them what neonize needs."""
    environment = whatsapp.environment | {"SESSION_DIR": str(sessions)}
    del environment["NEONIZE_BOT_TAG"]
    with broadcaster(*arguments, **environment) as process:
        yield process


@pytest.fixture
def browser(db: None) -> Client:
    """Somebody who may add devices, signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser("siti"))
    return client


@pytest.fixture
def device() -> Device:
    return linkable()


def linkable(**values: object) -> Device:
    values = {"phone": None, "min_delay_seconds": 1, "max_delay_seconds": 1} | values
    return DeviceFactory(transport="neonize", **values)


def ask(browser: Client, device: Device, method: str = "qr", phone: str = "") -> str:
    """Starts a pairing on the page; returns what is shown as soon as it shows a code."""
    data = {"method": method, "phone": phone, "accepted": "on"}
    answer = browser.post(reverse("devices:pair", args=[device.pk]), data)
    assert answer.status_code == 302, answer.content.decode()
    wait_until(lambda: state(device) == "showing")
    return browser.get(reverse("devices:pair", args=[device.pk])).content.decode()


def why_it_failed(browser: Client, device: Device) -> str:
    data = {"method": "qr", "accepted": "on"}
    browser.post(reverse("devices:pair", args=[device.pk]), data)
    wait_until(lambda: state(device) == "failed")
    return pairing(device).reason


def pairing(device: Device) -> Pairing:
    return Pairing.objects.filter(device=device).latest("pk")


def state(device: Device) -> str:
    return pairing(device).state


def files(sessions: Path) -> list[str]:
    return sorted(path.stem for path in sessions.glob("*.db"))


def all_is_unlinked() -> bool:
    return not Unlinking.objects.exclude(state="done").exists()


def test_a_device_is_added_linked_by_a_scan_and_sends(
    whatsapp: Double, running: Process, browser: Client, phone: PhoneOf, new_phone: NewPhone,
    sessions: Path,
) -> None:  # fmt: skip
    data = {
        "name": "Sales", "transport": "neonize", "phone": "", "min_delay_seconds": 1,
        "max_delay_seconds": 1, "sends_from": "", "sends_until": "", "timezone": "UTC",
    }  # fmt: skip
    answer = browser.post(reverse("devices:new"), data)
    device = Device.objects.get()
    assert answer["Location"] == reverse("devices:pair", args=[device.pk])

    assert 'class="qr"' in ask(browser, device)
    phone.scan(pairing(device).code)
    wait_until(lambda: state(device) == "done")

    device.refresh_from_db()
    assert (device.phone, files(sessions)) == (phone.number, [device.session])
    assert sessions.stat().st_mode & 0o777 == 0o700
    assert (sessions / f"{device.session}.db").stat().st_mode & 0o777 == 0o600
    assert pairing(device).code == ""
    page = browser.get(reverse("devices:pair", args=[device.pk])).content.decode()
    assert f"Linked to +{phone.number}" in page
    recipient = new_phone()
    message = BroadcastMessageFactory(device=device, recipient_phone=recipient.number)
    wait_until(lambda: recipient.texts() == [message.body])


def test_eight_characters_link_the_phone_they_were_made_for(
    running: Process, browser: Client, device: Device, phone: PhoneOf
) -> None:
    page = ask(browser, device, "code", f"+{phone.number}")
    (shown,) = re.findall(r'class="eight">([^<]+)<', page)
    assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}", shown)
    phone.type_code(shown)
    wait_until(lambda: state(device) == "done")
    device.refresh_from_db()
    assert device.phone == phone.number


def test_two_who_pair_at_once_get_each_their_own(
    whatsapp: Double, browser: Client, new_phone: NewPhone, sessions: Path
) -> None:
    devices, phones = [linkable(), linkable()], [new_phone(), new_phone()]
    with broadcasters(whatsapp, sessions, "--workers=2") as process:
        for device in devices:
            data = {"method": "qr", "accepted": "on"}
            browser.post(reverse("devices:pair", args=[device.pk]), data)
        wait_until(lambda: [state(device) for device in devices] == ["showing"] * 2)
        codes = [pairing(device).code for device in devices]
        for code, phone in zip(codes, phones, strict=True):
            phone.scan(code)
        wait_until(lambda: [state(device) for device in devices] == ["done"] * 2)
        wait_until(lambda: Device.objects.online().count() == 2)
        process.terminate()
        assert process.wait(60) == 0
    for device, phone in zip(devices, phones, strict=True):
        device.refresh_from_db()
        assert device.phone == phone.number


def test_what_is_cancelled_leaves_nothing_and_the_earlier_session_works_on(
    whatsapp: Double, running: Process, browser: Client, device: Device, phone: PhoneOf,
    sessions: Path,
) -> None:  # fmt: skip
    ask(browser, device)
    phone.scan(pairing(device).code)
    wait_until(lambda: state(device) == "done" and whatsapp.online(phone.number) == 1)
    device.refresh_from_db()

    ask(browser, device)
    browser.post(reverse("devices:cancel_pairing", args=[device.pk]))
    assert state(device) == "cancelled"
    wait_until(lambda: files(sessions) == [device.session] and all_is_unlinked())
    assert Device.objects.get(pk=device.pk).session == device.session
    assert whatsapp.online(phone.number) == 1


def test_another_number_is_refused_and_logged_out_again(
    whatsapp: Double, running: Process, browser: Client, new_phone: NewPhone, sessions: Path
) -> None:
    right, wrong = new_phone(), new_phone()
    device = linkable(phone=right.number)
    ask(browser, device)
    wrong.scan(pairing(device).code)
    wait_until(lambda: state(device) == "failed")
    page = browser.get(reverse("devices:pair", args=[device.pk])).content.decode()
    assert "Another number was scanned" in page
    assert f"+{wrong.number}" in page
    wait_until(lambda: all_is_unlinked() and files(sessions) == [])
    assert whatsapp.clients(wrong.number) == 0
    assert not Device.objects.get(pk=device.pk).is_paired

    # Now the right one, which another device of ours cannot have as well.
    ask(browser, device)
    right.scan(pairing(device).code)
    wait_until(lambda: state(device) == "done")
    other = linkable()
    ask(browser, other)
    right.scan(pairing(other).code)
    wait_until(lambda: state(other) == "failed")
    assert pairing(other).reason == Pairing.Reason.OTHER_DEVICE
    wait_until(lambda: whatsapp.clients(right.number) == 1)


def test_pairing_again_moves_the_lease_to_the_new_session_and_logs_the_old_one_out(
    whatsapp: Double, running: Process, browser: Client, device: Device, phone: PhoneOf,
    new_phone: NewPhone, sessions: Path,
) -> None:  # fmt: skip
    for _time in range(2):
        ask(browser, device)
        phone.scan(pairing(device).code)
        wait_until(lambda: state(device) == "done")
        wait_until(lambda: Device.objects.online().filter(pk=device.pk).exists())
    device.refresh_from_db()
    wait_until(lambda: files(sessions) == [device.session] and all_is_unlinked())
    assert whatsapp.clients(phone.number) == 1
    recipient = new_phone()
    BroadcastMessageFactory(device=device, recipient_phone=recipient.number)
    wait_until(lambda: len(recipient.received()) == 1)


def test_a_device_is_logged_out_and_keeps_its_number(
    whatsapp: Double, running: Process, browser: Client, device: Device, phone: PhoneOf,
    sessions: Path,
) -> None:  # fmt: skip
    ask(browser, device)
    phone.scan(pairing(device).code)
    wait_until(lambda: Device.objects.online().filter(pk=device.pk).exists())

    browser.post(reverse("devices:log_out", args=[device.pk]))
    wait_until(lambda: files(sessions) == [] and all_is_unlinked())
    assert whatsapp.clients(phone.number) == 0
    device.refresh_from_db()
    assert (device.state, device.phone) == ("unpaired", phone.number)
    page = browser.get(reverse("devices:detail", args=[device.pk])).content.decode()
    assert "WhatsApp knows" in page


def test_a_device_that_is_deleted_is_logged_out_and_its_file_goes(
    whatsapp: Double, running: Process, browser: Client, device: Device, phone: PhoneOf,
    sessions: Path,
) -> None:  # fmt: skip
    ask(browser, device)
    phone.scan(pairing(device).code)
    wait_until(lambda: Device.objects.online().filter(pk=device.pk).exists())
    message = BroadcastMessageFactory(device=device, status="sent")

    browser.post(reverse("devices:delete", args=[device.pk]))
    wait_until(lambda: files(sessions) == [] and all_is_unlinked())
    assert whatsapp.clients(phone.number) == 0
    message.refresh_from_db()
    assert message.device_id == device.pk
    assert not Device.objects.kept().exists()


def test_a_pairing_whose_process_is_killed_is_told_and_can_be_tried_again(
    running: Process, browser: Client, device: Device, phone: PhoneOf, sessions: Path
) -> None:
    ask(browser, device)
    first = pairing(device)
    (pid,) = processes_of("pair", first.pk)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state(device) == "failed")
    page = browser.get(reverse("devices:pair", args=[device.pk])).content.decode()
    assert "The pairing process ended" in page
    wait_until(lambda: files(sessions) == [])

    ask(browser, device)
    phone.scan(pairing(device).code)
    wait_until(lambda: state(device) == "done")


def test_time_runs_out_when_nobody_scans(whatsapp: Double, device: Device, sessions: Path) -> None:
    Pairing.start(device, "qr", "", User.objects.create_user("siti"))
    started = Pairing.objects.claim("worker")
    environment = whatsapp.environment | {"SESSION_DIR": str(sessions)}
    sessions.mkdir(mode=0o700)
    (sessions / f"{started.session}.db").touch(0o600)
    process = start("manage.py", "run_errand", "pair", str(started.pk), "--within=4", **environment)
    assert process.wait(60) == 0
    started.refresh_from_db()
    assert (started.state, started.reason) == ("failed", Pairing.Reason.TIMED_OUT)


def test_a_library_that_whatsapp_turns_away_is_told_so(
    whatsapp: Double, running: Process, browser: Client, device: Device
) -> None:
    whatsapp.refuse_logins(405)
    assert why_it_failed(browser, device) == Pairing.Reason.OUTDATED


def test_whatsapp_that_cannot_be_reached_is_told_so(
    whatsapp: Double, running: Process, browser: Client, device: Device
) -> None:
    whatsapp.go_away()
    assert why_it_failed(browser, device) == Pairing.Reason.UNREACHABLE


def test_a_session_is_deleted_also_where_whatsapp_cannot_be_told(
    whatsapp: Double, running: Process, browser: Client, device: Device, phone: PhoneOf,
    sessions: Path,
) -> None:  # fmt: skip
    ask(browser, device)
    phone.scan(pairing(device).code)
    wait_until(lambda: state(device) == "done")
    whatsapp.go_away()
    browser.post(reverse("devices:log_out", args=[device.pk]))
    wait_until(lambda: files(sessions) == [])
    wait_until(lambda: Unlinking.objects.get().state == "failed")
    page = browser.get(reverse("devices:detail", args=[device.pk])).content.decode()
    assert "Remove it on the phone" in page


def test_a_broadcaster_that_is_stopped_says_so_to_who_is_pairing(
    running: Process, browser: Client, device: Device
) -> None:
    ask(browser, device)
    running.terminate()
    assert running.wait(60) == 0
    assert (state(device), pairing(device).reason) == ("failed", Pairing.Reason.ENDED)
    assert processes_of("pair", pairing(device).pk) == []


def processes_of(what: str, pk: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended this moment
        if words[-4:-1] == ["run_errand", what, str(pk)]:
            found.append(int(path.parent.name))
    return found
