"""What comes with `BACKEND_FIELDS=full`."""

import pytest

from assistant.calls import INBOUND_PATH

IMAGE = {"kind": "image", "media": {"state": "stored", "type": "image/jpeg", "size": 48210}}
LISTED = {"kind": "contacts", "contacts": [{"name": "Ana", "phones": ["+54 9 11"]}, {"name": "Bo"}]}
WITHOUT_WORDS = {
    "a file": (IMAGE, "Recibí una imagen de 48210 bytes."),
    "a voice note": (
        {"kind": "audio", "media": {"state": "pending", "size": 9, "voice": True}},
        "Recibí una nota de voz, pero todavía no me llegó el archivo.",
    ),
    "a file that did not come": (
        {"kind": "document", "media": {"state": "failed", "reason": "expired", "size": 9}},
        "Recibí un documento, pero no se pudo descargar (expired).",
    ),
    "a file that nobody fetches": (
        {"kind": "sticker", "media": {"state": "off", "size": 9}},
        "Recibí un sticker.",
    ),
    "a place": (
        {"kind": "location", "location": {"latitude": -34.6037, "longitude": -58.3816}},
        "Recibí una ubicación: -34.6037, -58.3816.",
    ),
    "a place with a name": (
        {"kind": "location", "location": {"latitude": 0, "longitude": 0, "name": "Casa"}},
        "Recibí una ubicación: Casa.",
    ),
    "people": (LISTED, "Recibí contactos: Ana (+54 9 11), Bo (sin número)."),
    "a poll": (
        {"kind": "poll", "poll": {"question": "¿Cuándo?", "options": ["hoy"]}},
        "Recibí una encuesta: «¿Cuándo?»",
    ),
    "what is newer than this": ({"kind": "hologram"}, "Recibí un mensaje sin texto (hologram)."),
}


@pytest.mark.parametrize("mode", ["assistant", "echo"])
@pytest.mark.parametrize(("fields", "answer"), WITHOUT_WORDS.values(), ids=WITHOUT_WORDS)
def test_a_message_without_words_is_answered_with_what_it_is(backend, body, mode, fields, answer):
    client = backend(ASSISTANT_MODE=mode)
    response = client.post(INBOUND_PATH, json=body(text="") | fields)
    assert (response.status_code, response.json().get("response_text")) == (200, answer)


def test_words_count_more_than_the_file(backend, body):
    response = backend(ASSISTANT_MODE="echo").post(INBOUND_PATH, json=body(text="mira") | IMAGE)
    assert response.json()["response_text"] == "eco: mira"


def test_fields_that_are_not_known_are_ignored(backend, body):
    fields = {"kind": "text", "account": "default", "quoted": {"id": "A", "text": "hola"}, "new": 1}
    response = backend().post(INBOUND_PATH, json=body() | fields)
    assert response.status_code == 200


def test_the_file_of_a_repeated_message_may_have_come_meanwhile(backend, body):
    client = backend()
    pending = IMAGE | {"media": IMAGE["media"] | {"state": "pending"}}
    first = client.post(INBOUND_PATH, json=body(text="") | pending).json()
    again = client.post(INBOUND_PATH, json=body(text="") | IMAGE).json()
    assert again == first, "it knows the message by its id"


def test_a_message_without_a_kind_has_a_text(backend, body):
    response = backend().post(INBOUND_PATH, json=body(text=""))
    assert response.status_code == 422
