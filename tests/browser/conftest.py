from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder, and passes over them where there is no Chromium."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="needs Chromium"))


@pytest.fixture
def browser(transactional_db: None) -> Iterator[Browser]:
    """A Chromium of its own for each test.

    Playwright runs an event loop in this thread. Django refuses its ORM there unless it is told
    otherwise, and has connections of its own there, so the database is made ready before.
    """
    # Tests with transactions leave an empty database behind: groups and schedules come back.
    call_command("migrate", "config", "zero", verbosity=0)
    call_command("migrate", "config", verbosity=0)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        # As root, and in containers with a small /dev/shm, Chromium starts only like this.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        connections.close_all()
        browser.close()


@pytest.fixture
def page(browser: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A new window on the live server. Fails its test at the end if a page complained, broke the
    Content-Security-Policy, asked for something that is not there, or asked anybody else."""
    context = browser.new_context(base_url=live_server.url)
    page = context.new_page()
    complaints: list[str] = []
    # A violation of the Content-Security-Policy is an error on the console as well.
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"{error}"))

    def check_request(url: str) -> None:
        if not url.startswith((f"{live_server.url}/", "data:")):
            complaints.append(f"asked another origin: {url}")

    page.on("request", lambda request: check_request(request.url))
    yield page
    context.close()
    assert complaints == []
