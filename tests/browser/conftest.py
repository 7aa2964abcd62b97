"""What every test of the console has: the connector with all its parts, and a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from stage import TOKEN, Stage, staged

CHROMIUM = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "chromium"


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail("there is no .tools/bin/chromium: `make tools` says what is missing")
    with sync_playwright() as playwright:
        # The sandbox needs what containers do not have; nothing but our own page is loaded.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    """A page that has logged in. Nothing may be refused by its policy, and no script may fail."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if "Content Security Policy" in said.text else None)
    log_in(page, stage)
    yield page
    context.close()
    assert not troubles, troubles


def log_in(page: Page, stage: Stage) -> None:
    page.goto(stage.page)
    page.fill("input[name=token]", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#link")
