"""The assistant's turns, as a table of conversations."""

import pytest

from assistant.assistant import State, reply

CONFIRMED = "¡Reserva confirmada! 4 personas, el viernes a las 21:00. ¡Te esperamos!"

CONVERSATIONS = {
    "greeting, then two turns": [
        ("Hola", "¡Hola! Soy el asistente del restaurante. ¿Querés hacer una reserva?"),
        (
            "Quiero reservar una mesa para 4 personas",
            "Perfecto, 4 personas. ¿Para qué día y a qué hora?",
        ),
        ("El viernes a las 21", CONFIRMED),
    ],
    "three turns": [
        ("quiero hacer una RESERVA", "¡Claro! ¿Para cuántas personas es la reserva?"),
        ("cuatro", "Perfecto, 4 personas. ¿Para qué día y a qué hora?"),
        ("viernes 21:00", CONFIRMED),
    ],
    "all at once": [("Mesa para cuatro el viernes a las nueve de la noche", CONFIRMED)],
    "piece by piece": [
        ("una mesa a las 13.30", "¡Claro! ¿Para cuántas personas es la reserva?"),
        ("no sé", "¡Claro! ¿Para cuántas personas es la reserva?"),
        ("somos 1", "Perfecto, 1 persona a las 13:30. ¿Para qué día?"),
        ("mañana", "¡Reserva confirmada! 1 persona, mañana a las 13:30. ¡Te esperamos!"),
    ],
    "a date's digits are nobody's party": [
        ("una reserva el 24/12", "¡Claro! ¿Para cuántas personas es la reserva?"),
        ("2", "Perfecto, 2 personas, el 24/12. ¿A qué hora?"),
        ("25 hs", "Perfecto, 2 personas, el 24/12. ¿A qué hora?"),
        ("20 hs", "¡Reserva confirmada! 2 personas, el 24/12 a las 20:00. ¡Te esperamos!"),
    ],
    "given up": [
        ("una mesa", "¡Claro! ¿Para cuántas personas es la reserva?"),
        ("cancelar", "Listo, dejamos la reserva sin efecto. ¿Te ayudo con algo más?"),
        ("¿Tienen Wi-Fi?", "Recibí tu mensaje: «¿Tienen Wi-Fi?»"),
    ],
}


@pytest.mark.parametrize("turns", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation(turns):
    state = State()
    for text, expected in turns:
        state, answer = reply(state, text)
        assert answer == expected


def test_a_known_customer_is_greeted_by_name():
    assert reply(State(), "Buenas!", "Ana")[1].startswith("¡Hola, Ana!")
