from __future__ import annotations

import ctypes.util
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.whatsapp.client import Client
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.paired import Original

HERE = Path(__file__).parent
PACKAGES = ["neonize", "websockets", "cryptography"]

_numbers = itertools.count(601_110_000_001)

NewPhone = Callable[[], PhoneOf]
NewClient = Callable[..., Client]


def why_not() -> str:
    """Returns what is missing here for these tests, if something is."""
    if sys.platform != "linux":
        return "needs Linux, where a process can look at its own memory"
    if missing := [name for name in PACKAGES if not find_spec(name)]:
        return f"needs {', '.join(missing)}: scripts/prepare whatsapp-double"
    if not ctypes.util.find_library("magic"):
        return "needs libmagic, which neonize loads: the Debian package libmagic1"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    reason = why_not() if ours else ""
    for item in ours:
        item.add_marker(pytest.mark.whatsapp)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def running_double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    with Double.start(tmp_path_factory.mktemp("whatsapp")) as double:
        yield double


@pytest.fixture
def whatsapp(running_double: Double) -> Iterator[Double]:
    """The double, well behaved at first. A test in which it stumbled fails."""
    yield running_double
    running_double.behave()
    assert running_double.complaints() == []


@pytest.fixture(scope="session")
def new_phone(running_double: Double) -> NewPhone:
    """Makes the phone of somebody else each time, with a number that is on WhatsApp."""
    return lambda: running_double.register(str(next(_numbers)))


@pytest.fixture
def phone(new_phone: NewPhone) -> PhoneOf:
    return new_phone()


@pytest.fixture
def start_client(running_double: Double, tmp_path: Path) -> Iterator[NewClient]:
    """Starts real clients, each with a store of its own unless it is named; ends them all."""
    with ExitStack() as stack:

        def start(store: str = "", **environment: str) -> Client:
            path = tmp_path / (store or f"{next(_numbers)}.db")
            return stack.enter_context(Client.start(path, running_double.environment | environment))

        yield start


@pytest.fixture(scope="session")
def sender_phone(new_phone: NewPhone) -> PhoneOf:
    return new_phone()


@pytest.fixture(scope="session")
def sender(
    running_double: Double, sender_phone: PhoneOf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A linked client that outlives every trouble it gets into: the tests share it."""
    store = tmp_path_factory.mktemp("sender") / "store.db"
    with Client.start(store, running_double.environment) as client:
        yield client.link(sender_phone)


@pytest.fixture(scope="session")
def original(
    running_double: Double, new_phone: NewPhone, tmp_path_factory: pytest.TempPathFactory
) -> Original:
    """A client's file that others are copied from."""
    return Original(running_double, new_phone(), tmp_path_factory.mktemp("original") / "store.db")
