"""A person at the console. The tests come in this order, on one connector: linking, unlinking, dead letters."""

import io
import time
from collections.abc import Iterator

import pytest
import zxingcpp
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from conftest import log_in
from parts import call
from stage import TOKEN, Stage

SOON_MS = 30_000
FIRST_CODE_MS = 75_000
"""WhatsApp's first code lasts a minute."""


def shown_code(page: Page) -> str | None:
    """What a camera reads off the screen."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    codes = zxingcpp.read_barcodes(picture)
    return codes[0].text if codes else None


def offered(stage: Stage) -> str | None:
    _, link = call("GET", f"{stage.page}/link.json", token=TOKEN)
    code: str | None = link["qr"]
    return code


def problems(page: Page) -> list[str]:
    """Contrast, labels, landmarks and names, as axe-core judges them."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}" for one in found]


@pytest.fixture(scope="module")
def waiting(browser: Browser, stage: Stage) -> Iterator[tuple[Page, str]]:
    """A page that is open while the first code ends, without a reload."""
    context = browser.new_context()
    page = context.new_page()
    log_in(page, stage)
    page.wait_for_selector("#link svg", timeout=SOON_MS)
    page.evaluate("window.untouched = true")
    code = shown_code(page)
    assert code is not None
    yield page, code
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_code_on_the_screen_is_the_code_that_is_offered(
    waiting: tuple[Page, str], page: Page, stage: Stage, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.wait_for_selector("#link svg", timeout=SOON_MS)
    before = offered(stage)
    assert shown_code(page) in {before, offered(stage)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desk"])
def test_nothing_keeps_anybody_from_reading_or_using_it(
    browser: Browser, stage: Stage, scheme: str, size: tuple[int, int]
) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, locale="es-AR"  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.goto(stage.page)
    assert problems(page) == []
    log_in(page, stage)
    for way in ["qr", "code"]:
        page.goto(f"{stage.page}/?way={way}")
        expect(page.locator("html")).to_have_attribute("lang", "es")
        assert problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it fits the screen"
    context.close()


def test_without_a_script_the_page_is_whole(browser: Browser, stage: Stage) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, stage)
    page.wait_for_selector("#link svg", timeout=SOON_MS)
    before = offered(stage)
    assert shown_code(page) in {before, offered(stage)}
    page.click("#tab-code")
    expect(page.locator("#phone")).to_be_visible()
    context.close()


def test_the_countdown_ends_in_a_new_code_without_a_reload(waiting: tuple[Page, str], stage: Stage) -> None:
    page, first = waiting
    deadline = time.monotonic() + FIRST_CODE_MS / 1_000
    while shown_code(page) in {first, None}:
        assert time.monotonic() < deadline, "the first code is still there"
    before = offered(stage)
    assert shown_code(page) in {before, offered(stage)}, "the new one is what is offered"
    assert page.evaluate("window.untouched"), "it was not loaded anew"
    assert int(page.inner_text("[data-left]")) <= 20


def test_the_keyboard_alone_links_a_number(page: Page, stage: Stage) -> None:
    press_until(page, "tab-code")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?way=code")
    press_until(page, "phone")
    page.keyboard.type("+54 9 11 0000-0000")
    press_until(page, "ask-code")
    page.keyboard.press("Enter")
    expect(page.locator("#code")).to_be_visible(timeout=SOON_MS)
    assert stage.simulator.type_code(stage.account, page.inner_text("#code")) is None
    # The page says so by itself.
    expect(page.locator(".state.online")).to_be_visible(timeout=SOON_MS)
    expect(page.locator("#link")).to_contain_text("Linked as …0000 since")
    assert problems(page) == []


def test_a_dead_letter_is_replayed_by_a_click(page: Page, stage: Stage) -> None:
    stage.simulator.write(stage.customer, stage.account, "¿Hay lugar hoy?")
    replay = page.get_by_role("button", name="Replay")
    expect(replay).to_be_visible(timeout=SOON_MS)
    assert problems(page) == []
    stage.accept()
    replay.click()
    expect(page.locator("[role=status].said")).to_contain_text("on its way to the assistant")
    answers = stage.simulator.inbox(stage.customer, 0, SOON_MS)
    assert "¿Hay lugar hoy?" in answers[0].text
    expect(page.locator("#letters")).to_contain_text("None.", timeout=SOON_MS)


def test_the_keyboard_alone_takes_over_a_chat_and_gives_it_back(page: Page, stage: Stage) -> None:
    expect(page.locator("#taken")).to_contain_text("None. The assistant answers everywhere.")
    press_until(page, "take-phone")
    page.keyboard.type(f"+{stage.customer}")
    press_until(page, "take-for")
    page.keyboard.type("2h")
    assert page.input_value("#take-for") == "2h"
    press_until(page, "take-go")
    page.keyboard.press("Enter")
    expect(page.locator("[role=status].said")).to_contain_text("silent in this chat now")
    expect(page.locator("#taken")).to_contain_text(f"…{stage.customer[-4:]}")
    assert stage.customer not in page.content(), "no whole number"
    assert problems(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it fits the screen"
    resume = page.get_by_role("button", name="Resume")
    press_until(page, str(resume.get_attribute("id")))
    page.keyboard.press("Enter")
    expect(page.locator("[role=status].said")).to_contain_text("answers in this chat again")
    expect(page.locator("#taken")).to_contain_text("None. The assistant answers everywhere.")


def test_a_number_half_typed_stays_when_somebody_else_takes_over(page: Page, browser: Browser, stage: Stage) -> None:
    page.fill("#take-phone", "+54 9 11")
    page.select_option("#take-for", "4h")
    page.focus("#take-phone")
    # In another browser, without a script.
    context = browser.new_context(java_script_enabled=False, locale="es-AR")
    other = context.new_page()
    log_in(other, stage)
    other.fill("#take-phone", stage.customer)
    other.select_option("#take-for", "1h")
    other.click("#take-go")
    expect(other.locator("[role=status].said")).to_contain_text("ya no responde en ese chat")
    expect(page.locator("#taken")).to_contain_text(f"…{stage.customer[-4:]}", timeout=SOON_MS)
    assert page.input_value("#take-phone") == "+54 9 11" and page.input_value("#take-for") == "4h"
    assert page.evaluate("document.activeElement.id") == "take-phone"
    other.get_by_role("button", name="Devolver").click()
    expect(other.locator("[role=status].said")).to_contain_text("otra vez en ese chat")
    context.close()


def test_unlinking_asks_first_and_what_was_begun_stays(page: Page, stage: Stage) -> None:
    expect(page.locator(".state.online")).to_be_visible(timeout=SOON_MS)
    press_until(page, "unlink-open")
    page.keyboard.press("Enter")
    press_until(page, "unlink-sure")
    page.keyboard.press("Space")
    assert page.is_checked("#unlink-sure")
    press_until(page, "unlink-go")
    page.keyboard.press("Enter")
    page.wait_for_selector("#link svg", timeout=SOON_MS)
    code = shown_code(page)
    assert code is not None and stage.simulator.scan(stage.account, code) is None
    expect(page.locator(".state.online")).to_be_visible(timeout=SOON_MS)


def press_until(page: Page, focused: str) -> None:
    """The tab key, as often as it takes."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == focused:
            return
    raise AssertionError(f"the keyboard does not reach {focused}")
