"""What a caller sees: statuses, bodies, headers."""

import json
import logging
import time
from types import SimpleNamespace

import pytest

from assistant.auth import sign
from assistant.calls import INBOUND_PATH


def test_an_answer_carries_the_message_and_its_conversation(backend, body):
    response = backend().post(INBOUND_PATH, json=body())
    assert response.status_code == 200
    assert response.json() == {
        "conversation_id": "whatsapp:5491112345678",
        "message_id": "msg-1",
        "response_text": "¡Hola! Soy el asistente del restaurante. ¿Querés hacer una reserva?",
        "interactive_type": None,
        "buttons": None,
        "list_title": None,
        "list_items": None,
    }


def test_health_and_docs_answer_without_a_key(backend):
    client = backend(AI_ASSISTANTS_API_KEYS="web:s3cret")
    assert client.get("/health").status_code == 200
    assert client.get("/docs").status_code == 200


@pytest.mark.parametrize("keys", ["", "  "])
def test_no_keys_means_no_authentication(backend, body, keys):
    client = backend(AI_ASSISTANTS_API_KEYS=keys)
    answer = client.post(INBOUND_PATH, json=body(), headers={"X-API-Key": "dev"})
    assert answer.status_code == 200


def test_a_key_of_any_project_opens_and_others_do_not(backend, body):
    client = backend(AI_ASSISTANTS_API_KEYS="web:k1, crm:k:2")

    def post(headers):
        return client.post(INBOUND_PATH, json=body(), headers=headers)

    assert post({"X-API-Key": "k1"}).status_code == 200
    assert post({"X-API-Key": "k:2"}).status_code == 200
    missing, invalid = post({}), post({"X-API-Key": "k"})
    assert (missing.status_code, missing.json()) == (401, {"detail": "Missing X-API-Key"})
    assert (invalid.status_code, invalid.json()) == (401, {"detail": "Invalid X-API-Key"})


def test_a_stranger_is_refused_before_the_body_is_judged(backend):
    client = backend(AI_ASSISTANTS_API_KEYS="web:k1")
    assert client.post(INBOUND_PATH, json={}).status_code == 401


@pytest.mark.parametrize(
    ("drift", "status"), [(0, 200), (-300, 200), (300, 200), (-301, 401), (301, 401)]
)
def test_a_signature_is_good_for_300_seconds(backend, body, monkeypatch, drift, status):
    # A clock that stands still: how long the call takes is no part of the signature's age.
    monkeypatch.setattr("assistant.app.time", SimpleNamespace(time=lambda: 1_736_330_400.0))
    raw, timestamp = json.dumps(body()).encode(), str(1_736_330_400 + drift)
    response = _signed(backend, raw, timestamp, sign("s3cret", timestamp, raw))
    assert response.status_code == status
    if status == 401:
        assert response.json() == {"detail": "Invalid webhook signature"}


@pytest.mark.parametrize("signature", ["bm8=", "not base64", sign("other", "1", b"")])
def test_a_wrong_signature_is_refused(backend, body, signature):
    response = _signed(backend, json.dumps(body()).encode(), str(int(time.time())), signature)
    assert (response.status_code, response.json()) == (
        401,
        {"detail": "Invalid webhook signature"},
    )


def test_a_changed_body_is_refused(backend, body):
    timestamp = str(int(time.time()))
    signature = sign("s3cret", timestamp, json.dumps(body()).encode())
    changed = json.dumps(body(text="otra cosa")).encode()
    assert _signed(backend, changed, timestamp, signature).status_code == 401


def test_missing_signature_headers_are_named(backend, body):
    response = backend(WHATSAPP_WEBHOOK_SECRET="s3cret").post(INBOUND_PATH, json=body())
    assert (response.status_code, response.json()) == (
        401,
        {"detail": "Missing webhook signature headers"},
    )


@pytest.mark.parametrize("field", ["message_id", "from_number", "text", "timestamp_iso"])
@pytest.mark.parametrize("value", ["", None])
def test_an_empty_or_missing_field_is_a_422_that_names_it(backend, body, field, value):
    response = backend().post(INBOUND_PATH, json=body(**{field: value}))
    assert response.status_code == 422
    assert [detail["loc"] for detail in response.json()["detail"]] == [["body", field]]


def test_the_request_id_comes_back_on_every_answer(backend, body):
    client = backend(AI_ASSISTANTS_API_KEYS="web:k1")
    for path, headers in [("/health", {}), (INBOUND_PATH, {}), (INBOUND_PATH, {"X-API-Key": "k1"})]:
        response = client.request(
            "GET" if path == "/health" else "POST", path, headers=headers | {"X-Request-Id": "r-7"}
        )
        assert response.headers["x-request-id"] == "r-7"
    assert client.get("/health").headers["x-request-id"]


def test_the_log_has_the_trace_but_neither_text_nor_number(backend, body, caplog):
    caplog.set_level(logging.INFO)
    trace = "0af7651916cd43dd8448eb211c80319c"
    backend().post(
        INBOUND_PATH,
        json=body(text="un secreto"),
        headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": "r-7"},
    )
    assert trace in caplog.text and "r-7" in caplog.text and "…5678" in caplog.text
    assert "secreto" not in caplog.text and "5491112345678" not in caplog.text


def test_the_call_log_is_there_only_when_asked_for(backend):
    assert backend(BACKEND_CALL_LOG="0").get("/calls").status_code == 404


def test_members_of_a_group_share_its_conversation(backend, body):
    client = backend()
    group = "group-120363000000000001"
    for number, message in (("5491112345678", "msg-1"), ("5491187654321", "msg-2")):
        asked = body(from_number=number, message_id=message, customer_id=group)
        answer = client.post(INBOUND_PATH, json=asked).json()
        assert answer["conversation_id"] == f"whatsapp:{group}"
    alone = client.post(INBOUND_PATH, json=body(message_id="msg-3")).json()
    assert alone["conversation_id"] == "whatsapp:5491112345678"


def test_the_call_log_tells_each_call(backend, body):
    client = backend()
    client.post(INBOUND_PATH, json=body(), headers={"traceparent": "00-a-b-01"})
    client.post(INBOUND_PATH, json=body(), headers={"X-Request-Id": "again"})
    client.post(INBOUND_PATH, json=body(text=""))
    first, second, third = client.get("/calls").json()
    assert first.pop("started_at") <= first.pop("ended_at")
    assert first.pop("request_id")
    assert first == {
        "n": 1,
        "message_id": "msg-1",
        "conversation_id": "whatsapp:5491112345678",
        "from_number": "5491112345678",
        "customer_id": None,
        "status": 200,
        "traceparent": "00-a-b-01",
        "cached": False,
    }
    assert (second["n"], second["cached"], second["request_id"]) == (2, True, "again")
    assert (third["n"], third["status"], third["message_id"]) == (3, 422, None)


def _signed(backend, raw, timestamp, signature):
    return backend(WHATSAPP_WEBHOOK_SECRET="s3cret").post(
        INBOUND_PATH,
        content=raw,
        headers={
            "Content-Type": "application/json",
            "X-Webhook-Timestamp": timestamp,
            "X-Webhook-Signature": signature,
        },
    )
