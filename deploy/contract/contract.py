#!/usr/bin/env python3
"""Makes the tables in docs/subjects.md, and docs/asyncapi.yaml, of docs/kinds.yaml, docs/endpoints.yaml and proto/. `make contract`.

With --check it writes nothing, and ends with 1 if something is not as it would be made.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROTO = "whatsapp/connector/v1"
PAGE = ROOT / "docs/subjects.md"
DOCUMENT = ROOT / "docs/asyncapi.yaml"
ENDPOINTS_BEGIN, ENDPOINTS_END = "<!-- endpoints: made by `make contract` of endpoints.yaml -->", "<!-- end of endpoints -->"
BEGIN, END = "<!-- kinds of {}: made by `make contract` of kinds.yaml -->", "<!-- end of kinds of {} -->"

FILES = {"InboundMessage": "inbound", "SendMessage": "send", "Outcome": "outcome", "Receipt": "receipt", "Takeover": "takeover", "OptOut": "opt_out", "SessionEvent": "session"}
"""Which .proto file has the payload."""

NOTES = {
    "TypingNote": {
        "in_seq": {"type": "integer", "description": "The message's sequence in `WA_IN`. Its outcome ends the typing."},
        "chat_jid": {"type": "string", "description": "The chat's address, as WhatsApp writes it."},
        "until_ms": {"type": "integer", "description": "It ends at this time if nothing else is said. Milliseconds since 1970. 0: it ends now."},
    }
}
"""What is JSON, and only said in passing."""

PARAMETERS = {
    "account": "The operator's name of a linked number: WHATSAPP_ACCOUNT.",
    "chat": "The chat's token: the phone number in digits, `lid-<digits>`, `group-<id>`, ...",
}

HEADERS = {
    "ce-id": "The message's own id: whoever reads it twice knows it by this.",
    "ce-type": "`whatsapp.connector.v1.` and the payload's name.",
    "ce-time": "When it was published.",
    "traceparent": "The W3C trace context of the message.",
    "Wa-Kind": "The kind: the name of the field that is set in `content`.",
    "Wa-Prev-Seq": "The sequence of the one before it on the same subject; 0 for the first.",
    "Wa-In-Seq": "The `WA_IN` sequence of the message that it ends.",
    "Nats-Msg-Id": "Your own name of this one message. The WhatsApp id derives from it.",
}

HAS = {
    "messages": ["ce-id", "ce-type", "ce-time", "traceparent", "Wa-Kind", "Wa-Prev-Seq"],
    "updates": ["ce-id", "ce-type", "ce-time", "traceparent", "Wa-Kind"],
    "sends": ["Nats-Msg-Id", "traceparent"],
    "outcomes": ["ce-id", "ce-type", "ce-time", "traceparent", "Wa-Prev-Seq", "Wa-In-Seq"],
    "receipts": ["ce-id", "ce-type", "ce-time", "traceparent"],
    "takeovers": ["ce-id", "ce-type", "ce-time", "traceparent"],
    "opt_outs": ["ce-id", "ce-type", "ce-time", "traceparent"],
    "typing": [],
    "session": ["ce-id", "ce-type", "ce-time"],
}


@dataclass(frozen=True)
class Kind:
    name: str
    says: str
    example: dict
    tests: list[str]


@dataclass(frozen=True)
class Group:
    """What has one subject and one payload."""

    name: str
    subject: str
    payload: str
    kinds: list[Kind]

    def address(self) -> str:
        return self.subject.replace("<", "{").replace(">", "}")

    def is_ours(self) -> bool:
        """The connector publishes it."""
        return self.name != "sends"


@dataclass(frozen=True)
class Endpoint:
    """What a process answers to."""

    name: str
    subject: str
    says: str
    takes: dict
    gives: dict
    tests: list[str]

    def address(self) -> str:
        return self.subject.replace("<", "{").replace(">", "}")


def endpoints() -> list[Endpoint]:
    rows = yaml.safe_load((ROOT / "docs/endpoints.yaml").read_text())
    return [Endpoint(name, **row) for name, row in rows.items()]


def example(fields: dict) -> dict:
    return {name.removesuffix("?"): value for name, value in fields.items()}


def schema(fields: dict) -> dict:
    kinds = {bool: "boolean", int: "integer", str: "string"}
    made = {"type": "object", "properties": {name: {"type": kinds[type(value)]} for name, value in example(fields).items()}}
    required = [name for name in fields if not name.endswith("?")]
    return made | ({"required": required} if required else {})


def groups() -> list[Group]:
    text = (ROOT / "docs/kinds.yaml").read_text()
    found = []
    for name, group in yaml.safe_load(text).items():
        kinds = [Kind(kind, row["says"], row["example"], row["tests"]) for kind, row in group["kinds"].items()]
        found.append(Group(name, group["subject"], group["payload"], kinds))
    return found


def table(group: Group) -> str:
    lines = [BEGIN.format(group.name), "", "| kind | is | for example | shown by |", "|---|---|---|---|"]
    for kind in group.kinds:
        example = json.dumps(kind.example, ensure_ascii=False).replace("|", "\\|")
        tests = ", ".join(f"`{test.split('::')[0]}`" for test in kind.tests)
        lines.append(f"| `{kind.name}` | {kind.says} | `{example}` | {tests} |")
    return "\n".join([*lines, "", END.format(group.name)])


def endpoint_table() -> str:
    lines = [ENDPOINTS_BEGIN, "", "| subject | does | takes, for example | gives, for example |", "|---|---|---|---|"]
    for one in endpoints():
        takes, gives = (json.dumps(example(fields), ensure_ascii=False) for fields in (one.takes, one.gives))
        lines.append(f"| `{one.subject}` | {one.says} | `{takes}` | `{gives}` |")
    return "\n".join([*lines, "", ENDPOINTS_END])


def page(text: str, every: list[Group]) -> str:
    before, rest = text.split(ENDPOINTS_BEGIN)
    text = before + endpoint_table() + rest.split(ENDPOINTS_END)[1]
    for group in every:
        # What is no choice of kinds is on the page in words.
        if (begin := BEGIN.format(group.name)) not in text:
            continue
        end = END.format(group.name)
        before, rest = text.split(begin)
        text = before + table(group) + rest.split(end)[1]
    return text


def payload(name: str) -> dict:
    if fields := NOTES.get(name):
        return {"type": "object", "required": list(fields), "properties": fields}
    return {"schemaFormat": "application/vnd.google.protobuf;version=3", "schema": {"$ref": f"../proto/{PROTO}/{FILES[name]}.proto"}}


def headers(names: list[str]) -> dict:
    return {"type": "object", "properties": {name: {"type": "string", "description": HEADERS[name]} for name in names}}


def message(group: Group, kind: Kind) -> dict:
    seen = {"Nats-Msg-Id": "reminder-4711"} if group.name == "sends" else {"Wa-Kind": kind.name}
    if "Wa-Kind" in seen and "Wa-Kind" not in HAS[group.name]:
        seen = {"ce-type": f"whatsapp.connector.v1.{group.payload}"}
    is_note = group.payload in NOTES
    if is_note:
        seen = {}
    return {
        "name": kind.name,
        "title": f"{group.payload}.{kind.name}",
        "summary": kind.says,
        "contentType": "application/json" if is_note else "application/protobuf",
        "headers": headers(HAS[group.name]),
        "payload": payload(group.payload),
        "examples": [{"name": kind.name, "summary": "As it is." if is_note else "As protobuf's JSON.", "headers": seen, "payload": kind.example}],
    }


def asked(one: Endpoint, channels: dict, operations: dict, messages: dict) -> None:
    """A question and its answer, over core NATS."""
    for name, fields in (("request", one.takes), ("reply", one.gives)):
        messages[f"service-{one.name}-{name}"] = {
            "name": f"{one.name}-{name}",
            "title": f"{one.name}, {name}",
            "summary": one.says,
            "contentType": "application/json",
            "payload": schema(fields),
            "examples": [{"name": name, "summary": "For example.", "payload": example(fields)}],
        }
    parameters = {name: {"description": words} for name, words in PARAMETERS.items() if f"<{name}>" in one.subject}
    channels[f"service-{one.name}"] = {
        "address": one.address(),
        "description": "A request over core NATS. Nothing is stored.",
        **({"parameters": parameters} if parameters else {}),
        "messages": {"request": {"$ref": f"#/components/messages/service-{one.name}-request"}},
    }
    channels[f"service-{one.name}-reply"] = {
        "address": None,
        "description": "Where the request says. A refusal has the headers `Nats-Service-Error-Code` and `Nats-Service-Error`.",
        "messages": {"reply": {"$ref": f"#/components/messages/service-{one.name}-reply"}},
    }
    operations[f"service-{one.name}"] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/service-{one.name}"},
        "reply": {"channel": {"$ref": f"#/channels/service-{one.name}-reply"}},
    }


def document(every: list[Group]) -> dict:
    channels, operations, messages = {}, {}, {}
    for group in every:
        named = {f"{group.name}-{kind.name}": message(group, kind) for kind in group.kinds}
        messages |= named
        channels[group.name] = {
            "address": group.address(),
            "description": f"Payload: {group.payload}.",
            "parameters": {name: {"description": words} for name, words in PARAMETERS.items() if f"<{name}>" in group.subject},
            "messages": {kind.name: {"$ref": f"#/components/messages/{group.name}-{kind.name}"} for kind in group.kinds},
        }
        operations[group.name] = {"action": "send" if group.is_ours() else "receive", "channel": {"$ref": f"#/channels/{group.name}"}}
    for one in endpoints():
        asked(one, channels, operations, messages)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "whatsapp-connector",
            "version": "1",
            "description": "What the connector publishes to NATS JetStream, and what it takes from there. `wa` is NATS_SUBJECT_PREFIX. docs/subjects.md has it in words.",
        },
        "defaultContentType": "application/protobuf",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def written(every: list[Group]) -> dict[Path, str]:
    made = yaml.safe_dump(document(every), sort_keys=False, allow_unicode=True, width=120)
    return {PAGE: page(PAGE.read_text(), every), DOCUMENT: f"# Made by `make contract` of kinds.yaml and endpoints.yaml.\n{made}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = [path for path, text in written(groups()).items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"contract: {path.relative_to(ROOT)} " + ("is not what `make contract` makes" if check else "is made anew"))
        if not check:
            path.write_text(written(groups())[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
