"""A browser, and pages in it that watch for what no page of ours may do."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from support.served_process import ServedProcess, served_process

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class WatchedPage:
    """A tab, what went wrong in it, and whom it asked."""

    page: Page
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, as `make test` installs it on Debian. Its driver turns an event loop on this thread, so it
    ends with the module: asynchronous tests need a thread without one.
    """
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def watched(browser: Browser) -> Iterator[WatchedPage]:
    """A tab with a memory of its own. Errors in its console, and requests to other hosts, fail the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 760}, reduced_motion="reduce")
    found = WatchedPage(context.new_page())
    found.page.set_default_timeout(15_000)
    found.page.on("console", lambda said: found.problems.append(said.text) if said.type == "error" else None)
    found.page.on("pageerror", lambda error: found.problems.append(str(error)))
    found.page.on("request", lambda request: found.hosts.add(urlsplit(request.url).hostname or ""))
    yield found
    context.close()
    assert found.problems == []
    assert found.hosts <= {"127.0.0.1"}


@pytest.fixture(scope="session")
def grist() -> Iterator[ServedProcess]:
    """`pagemill serve grist`."""
    with served_process("grist", "--port", "0", "--threads", "1", step_delay_s=None) as served:
        yield served
