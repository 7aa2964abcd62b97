"""`make screenshots`: the console on a phone and on a desk, in the light and in the dark, into docs/console/."""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from conftest import CHROMIUM, log_in
from stage import Stage, staged

DOCS = Path(__file__).resolve().parents[2] / "docs" / "console"
SIZES = {"phone": (390, 844), "desk": (1100, 760)}
COLOURS = 128
"""Few colours, so that the files are small."""


def main() -> int:
    DOCS.mkdir(exist_ok=True)
    with staged() as stage, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])

        def shot(name: str, size: str, scheme: str, way: str) -> None:
            width, height = SIZES[size]
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": height}, locale="en-US"  # type: ignore[arg-type]
            )
            page = context.new_page()
            log_in(page, stage)
            page.goto(f"{stage.page}/?way={way}")
            ready(page, stage, way)
            keep(page.screenshot(full_page=True), name)
            context.close()

        shot("light-phone", "phone", "light", "qr")
        shot("dark-desk", "desk", "dark", "qr")
        link(browser.new_page(), stage)
        shot("light-desk", "desk", "light", "letters")
        shot("dark-phone", "phone", "dark", "letters")
        browser.close()
    return 0


def ready(page: Page, stage: Stage, way: str) -> None:
    page.wait_for_selector("#link svg" if way == "qr" else "[id^=replay-]")


def link(page: Page, stage: Stage) -> None:
    """Linked, and with two dead letters."""
    log_in(page, stage)
    page.goto(f"{stage.page}/?way=code")
    page.fill("#phone", stage.account)
    page.click("#ask-code")
    page.wait_for_selector("#code")
    if refusal := stage.simulator.type_code(stage.account, page.inner_text("#code")):
        raise SystemExit(refusal)
    page.wait_for_selector(".state.online")
    for text in ["¿Hay lugar hoy?", "¿Y mañana?"]:
        stage.simulator.write(stage.customer, stage.account, text)
    page.wait_for_selector("[id^=replay-] >> nth=1")


def keep(png: bytes, name: str) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS)
    picture.save(DOCS / f"{name}.png", optimize=True)
    print(f"docs/console/{name}.png")


if __name__ == "__main__":
    sys.exit(main())
