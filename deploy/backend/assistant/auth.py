"""Who may call: the API key and the webhook signature. Pure; the answers are the contract's."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

ApiKeys = dict[str, str]
"""Project name → its key."""

MAX_DRIFT_S = 300


class Unauthorized(Exception):
    """The call is refused; the message is the 401's `detail`."""


def parse_api_keys(raw: str) -> ApiKeys:
    """`project1:key1,project2:key2`. Only the first colon parts: a key may hold colons."""
    keys: ApiKeys = {}
    entries = [entry for entry in raw.split(",") if entry.strip()]
    for position, entry in enumerate(entries, start=1):
        project, _, key = (part.strip() for part in entry.partition(":"))
        if not project or not key:
            raise ValueError(f"takes project1:key1,project2:key2; entry {position} is no project:key")
        if project in keys:
            raise ValueError(f"names project {project!r} twice")
        keys[project] = key
    return keys


def check_api_key(keys: ApiKeys, given: str | None) -> str | None:
    """The project that the key belongs to; None when no keys are configured."""
    if not keys:
        return None
    if not given:
        raise Unauthorized("Missing X-API-Key")
    found: str | None = None
    for project, key in keys.items():  # all of them: the time taken tells nothing
        if hmac.compare_digest(key.encode(), given.encode()):
            found = project
    if found is None:
        raise Unauthorized("Invalid X-API-Key")
    return found


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """What `X-Webhook-Signature` has to be for this body at this time."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def check_signature(
    secret: str | None, headers: Mapping[str, str], body: bytes, now: float
) -> None:
    """Refuses a missing, wrong or stale signature; without a secret nothing is asked for."""
    if secret is None:
        return
    timestamp = headers.get("x-webhook-timestamp")
    signature = headers.get("x-webhook-signature")
    if not timestamp or not signature:
        raise Unauthorized("Missing webhook signature headers")
    fresh = (
        timestamp.isascii()
        and timestamp.isdigit()
        and len(timestamp) <= 12
        and abs(now - int(timestamp)) <= MAX_DRIFT_S
    )
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        given = b""
    expected = base64.b64decode(sign(secret, timestamp, body))
    if not hmac.compare_digest(given, expected) or not fresh:
        raise Unauthorized("Invalid webhook signature")
