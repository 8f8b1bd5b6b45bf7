"""What docs/transports.md promises of a transport, held against each that we ship and against the
example that the page itself gives.

To add one: a fixture that yields a Lab, and its name in `lab`. Real WhatsApp's runs in a process of
its own, which tests/whatsapp/test_contract.py starts.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from devices.models import Device, SimulatedMessage
from devices.transports.base import (
    Accepted,
    Connected,
    Event,
    Media,
    Memory,
    NotSent,
    Outcome,
    OutgoingMessage,
    Refused,
    Report,
    Session,
    Transport,
    Unknown,
)
from devices.transports.neonize import NeonizeTransport
from devices.transports.simulator import SimulatorTransport, World
from tests.answers import outcome_of
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parent.parent.parent
MANY, FEW = 200, 20
MESSAGE = OutgoingMessage("message-1", "60123456789", "Hi Aminah,\nthe shop is open. ✓")


@dataclass
class Lab:
    """A transport, and a look at what a device's messages to a number became: their texts."""

    transport: Transport
    received: Callable[[Device, str], list[str]]
    # Which files came with them, by hash.
    files: Callable[[Device, str], list[str]] = lambda device, phone: []
    device: Callable[[], Device] = DeviceFactory  # makes one that can be opened
    # Its recall() can tell that a message never left; None: not always at once.
    is_sure: bool | None = True
    threads: int = 0  # that its library needs for each session
    many: int = MANY
    _open: ExitStack = field(default_factory=ExitStack)

    def open(self, device: Device, report: Report | None = None) -> Session:
        """Opens a session and waits until it may send."""
        session, connected = self.begin(device, report)
        assert connected.wait(20)
        return session

    def begin(
        self, device: Device, report: Report | None = None
    ) -> tuple[Session, threading.Event]:
        """Opens a session; the event is set once it may send."""
        connected = threading.Event()

        def tell(event: Event) -> None:
            if isinstance(event, Connected):
                connected.set()
            if report:
                report(event)

        session = self.transport.open(device, tell)
        self._open.callback(session.close)
        return session, connected


@pytest.fixture
def simulator() -> Iterator[Lab]:
    def received(device: Device, phone: str) -> list[str]:
        rows = SimulatedMessage.objects.filter(device=device, phone=phone, from_device=True)
        return list(rows.values_list("body", flat=True))

    world = World(latency_seconds=(0, 0), not_on_whatsapp=0, media_host_down=0, delivered=0)

    def files(device: Device, phone: str) -> list[str]:
        rows = SimulatedMessage.objects.filter(device=device, phone=phone).exclude(media="")
        return [row.media.split()[2] for row in rows]

    lab = Lab(SimulatorTransport(world), received, files)
    with lab._open:
        yield lab


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The folder transport, as docs/transports.md has it."""
    monkeypatch.setenv("FOLDER_TRANSPORT", str(tmp_path))
    (tmp_path / "folder_transport.py").write_text(example_code())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "folder_transport", raising=False)
    transport: type[Transport] = importlib.import_module("folder_transport").FolderTransport

    def received(device: Device, phone: str) -> list[str]:
        files = [path for path in (tmp_path / str(device.pk)).glob("*") if path.name[0] != "."]
        texts = [path.read_text().partition("\n") for path in files]
        return [body for to, _, body in texts if to == phone]

    lab = Lab(transport(), received, is_sure=False)
    with lab._open:
        yield lab


@pytest.fixture
def neonize(settings: LazySettings, tmp_path: Path) -> Iterator[Lab]:
    """Our transport of real WhatsApp, against the double that this process was started with."""
    from tests.whatsapp.lab import accounts_here

    if not (accounts := accounts_here(tmp_path)):
        pytest.skip("tests/whatsapp/test_contract.py starts the process that this needs")
    settings.SESSION_DIR = tmp_path
    accounts.register(MESSAGE.phone, *(phone_of(number) for number in range(FEW)))
    lab = Lab(
        NeonizeTransport(), accounts.received, accounts.files, accounts.device,
        is_sure=None, threads=2, many=FEW,
    )  # fmt: skip
    with lab._open:
        yield lab


@pytest.fixture(
    params=["simulator", "example", pytest.param("neonize", marks=pytest.mark.whatsapp)]
)
def lab(request: pytest.FixtureRequest) -> Lab:
    found: Lab = request.getfixturevalue(request.param)
    return found


def phone_of(number: int) -> str:
    """Returns the number of one of the many."""
    return f"6012{number:07}"


def is_remembered(memory: Memory, sent: Outcome) -> bool:
    """Whether it is said of a message that was accepted: that it was, or under which id it may have
    been."""
    assert isinstance(sent, Accepted)
    if isinstance(memory, Unknown):
        return memory.provider_message_id == sent.provider_message_id
    return memory == sent


def example_code() -> str:
    """Returns the complete example of docs/transports.md, as somebody would copy it."""
    page = (ROOT / "docs" / "transports.md").read_text()
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "class FolderTransport" in block
    ]
    return code


def test_it_connects_and_what_it_sends_arrives_once(lab: Lab) -> None:
    device = lab.device()
    session = lab.open(device)

    outcome = outcome_of(session.send(MESSAGE))

    assert isinstance(outcome, Accepted)
    assert 0 < len(outcome.provider_message_id) <= 64
    assert lab.received(device, MESSAGE.phone) == [MESSAGE.body]


@pytest.mark.parametrize("kind", ["image", "video", "document"])
def test_a_file_arrives_with_its_text_or_nothing_does(lab: Lab, kind: Any) -> None:
    """Never the text alone: without its picture it says something else."""
    device = lab.device()
    content = b"any bytes"
    media = Media(
        1, kind, "any/type", "Shop ✓.bin", len(content), hashlib.sha256(content).hexdigest(),
        lambda: content,
    )  # fmt: skip

    outcome = outcome_of(lab.open(device).send(replace(MESSAGE, media=media)))

    if isinstance(outcome, Accepted):
        assert lab.files(device, MESSAGE.phone) == [media.sha256]
        assert lab.received(device, MESSAGE.phone) == [MESSAGE.body]
    else:
        assert isinstance(outcome, Refused)
        assert lab.received(device, MESSAGE.phone) == []


def test_it_remembers_what_it_sent_also_in_a_later_session(lab: Lab) -> None:
    device = lab.device()
    session = lab.open(device)
    sent = outcome_of(session.send(MESSAGE))

    assert is_remembered(session.recall(MESSAGE.key), sent)
    session.close()
    assert is_remembered(lab.open(device).recall(MESSAGE.key), sent)


def test_it_knows_nothing_of_another_device_s_messages(lab: Lab) -> None:
    outcome_of(lab.open(lab.device()).send(MESSAGE))

    memory = lab.open(lab.device()).recall(MESSAGE.key)

    assert memory is None or isinstance(memory, NotSent)


def test_what_it_says_was_not_sent_no_older_session_can_send_any_more(lab: Lab) -> None:
    device = lab.device()
    older = lab.open(device)
    newer = lab.open(device)

    memory = newer.recall(MESSAGE.key)
    outcome = outcome_of(older.send(MESSAGE))

    arrived = lab.received(device, MESSAGE.phone)
    if isinstance(memory, NotSent):
        assert isinstance(outcome, Refused | NotSent)
        assert arrived == []
    else:
        assert memory is None
        assert arrived == [MESSAGE.body] or not isinstance(outcome, Accepted)


def send(session: Session, message: OutgoingMessage) -> Outcome:
    return outcome_of(session.send(message))


def test_a_send_while_it_is_replaced_is_either_refused_or_remembered(lab: Lab) -> None:
    """Whatever the order is in which the two meet: a NotSent is the last word."""
    memories = []
    for number in range(20):
        device = lab.device()
        older = lab.open(device)
        message = OutgoingMessage(f"message-{number}", "60123456789", "Hi")
        with ThreadPoolExecutor(1) as thread:
            if number % 2:
                outcome = thread.submit(send, older, message)
                newer = lab.open(device)
            else:
                newer, connected = lab.begin(device)
                outcome = thread.submit(send, older, message)
                assert connected.wait(20)
            memory = newer.recall(message.key)
        if isinstance(memory, NotSent):
            assert isinstance(outcome.result(), Refused | NotSent)
            assert lab.received(device, message.phone) == []
        memories.append(memory)
    # Else nothing was tried here.
    if lab.is_sure is not None:
        assert any(isinstance(memory, NotSent) for memory in memories) == lab.is_sure


def test_what_it_refuses_left_nothing(lab: Lab) -> None:
    device = lab.device()
    session = lab.open(device)
    session.close()

    outcome = outcome_of(session.send(MESSAGE))

    assert isinstance(outcome, Refused | NotSent | Unknown)
    if not isinstance(outcome, Unknown):
        assert lab.received(device, MESSAGE.phone) == []


def test_nothing_is_reported_once_it_is_closed(lab: Lab) -> None:
    events: list[Event] = []
    sessions = [lab.transport.open(lab.device(), events.append) for _ in range(20)]
    for session in sessions:
        session.close()
    at_the_close = len(events)

    # A session that was opened later connects: whatever the others had to say has had its time.
    lab.open(lab.device())

    assert len(events) == at_the_close


def test_close_waits_for_a_report_that_is_under_way(lab: Lab) -> None:
    reporting, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def report(event: Event) -> None:
        reporting.set()
        go_on.wait(20)
        over.set()

    session = lab.transport.open(lab.device(), report)
    assert reporting.wait(20)
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(session.close)
        with pytest.raises(TimeoutError):
            closing.result(0.1)
        go_on.set()
        closing.result(20)
        assert over.is_set()


def test_it_may_be_closed_from_a_report_and_again(lab: Lab) -> None:
    closed = threading.Event()
    opened: list[Session] = []
    ready = threading.Event()

    def report(event: Event) -> None:
        ready.wait(20)
        opened[0].close()
        closed.set()

    opened.append(lab.transport.open(lab.device(), report))
    ready.set()

    assert closed.wait(20)
    opened[0].close()


def test_open_does_not_wait_for_the_reports_of_others(lab: Lab) -> None:
    """A report that hangs may hold up others', but never the thread that opens sessions."""
    go_on, hangs = threading.Event(), threading.Event()

    def hang(event: Event) -> None:
        hangs.set()
        go_on.wait(20)

    first = lab.transport.open(lab.device(), hang)
    assert hangs.wait(20)
    device = lab.device()
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(lab.transport.open, device, lambda event: None)
        try:
            second = opening.result(5)
        finally:
            go_on.set()
    first.close()
    second.close()


def test_many_sessions_send_at_once_and_each_gets_its_own_answer(lab: Lab) -> None:
    devices = [lab.device() for _ in range(lab.many)]
    connected = threading.Semaphore(0)
    sessions = [lab.transport.open(device, lambda _: connected.release()) for device in devices]
    assert all(connected.acquire(timeout=20) for _ in sessions)

    def send(number: int) -> Outcome:
        message = OutgoingMessage(f"message-{number}", phone_of(number), f"Hi {number}")
        return outcome_of(sessions[number].send(message))

    with ThreadPoolExecutor(30) as threads:
        outcomes = list(threads.map(send, range(lab.many)))

    for number, device in enumerate(devices):
        assert is_remembered(sessions[number].recall(f"message-{number}"), outcomes[number])
        assert lab.received(device, phone_of(number)) == [f"Hi {number}"]
    for session in sessions:
        session.close()


def test_threads_do_not_grow_with_the_sessions(lab: Lab) -> None:
    lab.open(lab.device())
    most = threading.active_count() + 30 * lab.threads + 5
    sessions = [lab.open(lab.device()) for _ in range(30)]

    deadline = time.monotonic() + 20
    while threading.active_count() > most and time.monotonic() < deadline:
        threading.Event().wait(0.01)  # those that only connected end by themselves
    assert threading.active_count() <= most
    for session in sessions:
        session.close()
