"""WhatsApp asks for the account's passkey: the page's own lines, run by Chromium on a page under WhatsApp's address."""

import base64
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Route, expect

from conftest import log_in
from stage import Stage, staged
from test_console import SOON_MS, problems, shown_code

PROTECTED = "5491100000077"
WHATSAPP = "https://web.whatsapp.com/"


@pytest.fixture
def unlinked(browser: Browser) -> Iterator[tuple[Stage, BrowserContext]]:
    with staged() as stage:
        stage.simulator.add_account(PROTECTED, "Bar", passkey=True)
        context = browser.new_context(locale="en-US")
        yield stage, context
        context.close()


def test_the_lines_of_the_page_link_a_number_with_a_passkey(unlinked: tuple[Stage, BrowserContext]) -> None:
    stage, context = unlinked
    page = context.new_page()
    log_in(page, stage)
    page.wait_for_selector("#link svg", timeout=SOON_MS)
    code = shown_code(page)
    assert code is not None and stage.simulator.scan(PROTECTED, code) is None
    expect(page.locator(".state.passkey-required")).to_be_visible(timeout=SOON_MS)
    assert problems(page) == []

    page.fill("#answer", "half typed")
    answer = answered(context, stage, page.inner_text("#lines"))
    page.fill("#answer", answer)
    page.click("#passkey-answer")
    expect(page.locator(".state.passkey-confirm")).to_be_visible(timeout=SOON_MS)
    assert page.inner_text("#same") == stage.simulator.passkey(PROTECTED)["code"]
    assert problems(page) == []
    page.click("#passkey-confirm")
    expect(page.locator(".state.online")).to_be_visible(timeout=SOON_MS)
    expect(page.locator("#link")).to_contain_text("Linked as …0077")


def answered(context: BrowserContext, stage: Stage, lines: str) -> str:
    """What the lines show to a person who runs them on WhatsApp's page. Nothing leaves the machine: the page is ours."""
    context.route("**/*", only_here)
    page = context.new_page()
    with_passkey(context, page, stage)
    shown: list[str] = []

    def dialog(box: Dialog) -> None:
        shown.append(box.default_value or box.message)
        box.accept()

    page.on("dialog", dialog)
    page.goto(WHATSAPP)
    page.evaluate(lines.strip().removesuffix(";"))
    page.close()
    context.unroute("**/*", only_here)
    assert len(shown) == 1, shown
    return shown[0]


def only_here(route: Route) -> None:
    if route.request.url.startswith(WHATSAPP):
        route.fulfill(body="<!doctype html><title>WhatsApp</title>", content_type="text/html")
    else:
        route.continue_()


def with_passkey(context: BrowserContext, page: Page, stage: Stage) -> None:
    passkey = stage.simulator.passkey(PROTECTED)
    authenticator = context.new_cdp_session(page)
    authenticator.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }
    made = authenticator.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    credential = {
        "credentialId": passkey["credential_id"], "isResidentCredential": True, "rpId": passkey["rp_id"],
        "privateKey": passkey["private_key"], "userHandle": base64.b64encode(b"bar").decode(), "signCount": 1,
    }
    made_of = {"authenticatorId": made["authenticatorId"], "credential": credential}
    authenticator.send("WebAuthn.addCredential", made_of)
