"""A Chromium for the tests of the pages, which fails a test on errors and on foreign requests."""

import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MILLISECONDS = 15_000
# Chromium logs each response with an error status; tests of errors expect them.
_FAILED_RESPONSE = "Failed to load resource"

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The installed Chromium.

    While Playwright runs, its event loop occupies the thread, and ``asyncio.run`` of other modules
    would fail.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Open an address in a new context, with Playwright's options of a context.

    When the test ends, it fails if a page has logged an error or a violation of its policy, or
    has sent a request to another host.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(address: str, **options: object) -> Page:
        context = chromium.new_context(**options)  # type: ignore[arg-type]  # Playwright's own
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MILLISECONDS)
        page = context.new_page()
        host = urlsplit(address).netloc
        page.on("console", lambda message: problems.extend(_errors(message)))
        page.on("pageerror", lambda error: problems.append(f"uncaught: {error}"))
        page.on("request", lambda request: problems.extend(_foreign(request.url, host)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def _errors(message: ConsoleMessage) -> list[str]:
    """What the console says if it is an error; violations of a policy are errors, too."""
    if message.type != "error" or message.text.startswith(_FAILED_RESPONSE):
        return []
    return [f"console: {message.text}"]


def _foreign(url: str, host: str) -> list[str]:
    """The address of a request if it left for another host."""
    parts = urlsplit(url)
    return [] if parts.scheme in {"data", "blob"} or parts.netloc == host else [f"request: {url}"]
