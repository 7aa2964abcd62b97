"""The settings that there are, from docs/configuration.md: its tables are tested against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SECRETS = {
    "API_KEY", "HTTP_TOKEN", "MEDIA_URL_SECRET", "SESSION_KEY", "TRANSCRIBE_API_KEY", "WHATSAPP_WEBHOOK_SECRET", "NATS_PASSWORD", "NATS_TOKEN", "NATS_NKEY",
    "NATS_CREDS",
}  # fmt: skip
"""What must not stand in a manifest."""


def known() -> set[str]:
    names: set[str] = set()
    for row in (ROOT / "docs/configuration.md").read_text().splitlines():
        if row.startswith("| `"):
            # Code of the first column only, and only what looks like a variable.
            names |= set(re.findall(r"`([A-Z][A-Z0-9_]+)`", row.split(" | ")[0]))
    return names


def unknown(variables: set[str]) -> set[str]:
    names = known()
    return {name for name in variables if name not in names and name.removesuffix("_FILE") not in names}


def defaults() -> dict[str, str]:
    """What a setting is if nobody sets it, where its row has that in code."""
    found: dict[str, str] = {}
    for row in (ROOT / "docs/configuration.md").read_text().splitlines():
        if match := re.match(r"\| `([A-Z][A-Z0-9_]+)` \| `([^`]+)` \|", row):
            found[match[1]] = match[2]
    return found
