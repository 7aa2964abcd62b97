"""The assistant: a restaurant's, in Spanish. Pure and deterministic.

It greets, takes a booking in two or three turns (how many, which day, what time), and repeats
what it does not understand. All it knows of a conversation is the `State` that it returned last.
"""

import re
import unicodedata
from dataclasses import dataclass, replace

WEEKDAYS = {
    "lunes": "lunes",
    "martes": "martes",
    "miercoles": "miércoles",
    "jueves": "jueves",
    "viernes": "viernes",
    "sabado": "sábado",
    "domingo": "domingo",
}
NUMBERS = {
    word: value
    for value, words in enumerate(
        "un|una|uno dos tres cuatro cinco seis siete ocho nueve diez once doce".split(), start=1
    )
    for word in words.split("|")
}
_NUMBER = r"(\d{1,2}|" + "|".join(NUMBERS) + r")"

_GREETING = re.compile(r"\b(hola|buenas|buen dia|buenos dias)\b")
_BOOKING = re.compile(r"\b(reserva\w*|mesa)\b")
_CANCEL = re.compile(r"\bcancela\w*\b")
_TIME = re.compile(
    rf"\ba las? {_NUMBER}(?:[:.](\d{{2}}))?\b|\b(\d{{1,2}})[:.](\d{{2}})\b|\b(\d{{1,2}}) ?(?:hs?|horas)\b"
)
_AFTERNOON = re.compile(r"\bde la (tarde|noche)\b")
_DATE = re.compile(r"\b(\d{1,2})/(\d{1,2})\b")
_RELATIVE_DAY = re.compile(r"\b(hoy|pasado manana|(?<!la )manana)\b")
_WEEKDAY = re.compile(r"\b(" + "|".join(WEEKDAYS) + r")\b")
_PARTY = re.compile(rf"\b(?:para|somos) {_NUMBER}\b|\b{_NUMBER} (?:personas?|comensales)\b")
_BARE_NUMBER = re.compile(rf"\b{_NUMBER}\b")


@dataclass(frozen=True)
class State:
    """What is known of the booking that is being taken; `booking` is False between bookings."""

    booking: bool = False
    party: int | None = None
    day: str | None = None
    time: str | None = None


def reply(state: State, text: str, name: str | None = None) -> tuple[State, str]:
    """One turn: the conversation's next state, and the answer."""
    plain = _plain(text)
    if state.booking and _CANCEL.search(plain):
        return State(), "Listo, dejamos la reserva sin efecto. ¿Te ayudo con algo más?"
    if state.booking or _BOOKING.search(plain):
        return _book(state, plain)
    if _GREETING.search(plain):
        hello = f"¡Hola, {name}!" if name else "¡Hola!"
        return state, f"{hello} Soy el asistente del restaurante. ¿Querés hacer una reserva?"
    return state, f"Recibí tu mensaje: «{text}»"


def _book(state: State, plain: str) -> tuple[State, str]:
    day, rest = _find_day(plain)
    time, rest = _find_time(rest)
    party = _find_party(rest, asked=state.booking and state.party is None)
    state = replace(
        state,
        booking=True,
        party=party or state.party,
        day=day or state.day,
        time=time or state.time,
    )
    if state.party is None:
        return state, "¡Claro! ¿Para cuántas personas es la reserva?"
    people = "1 persona" if state.party == 1 else f"{state.party} personas"
    if state.day is None and state.time is None:
        return state, f"Perfecto, {people}. ¿Para qué día y a qué hora?"
    if state.day is None:
        return state, f"Perfecto, {people} a las {state.time}. ¿Para qué día?"
    if state.time is None:
        return state, f"Perfecto, {people}, {state.day}. ¿A qué hora?"
    return State(), f"¡Reserva confirmada! {people}, {state.day} a las {state.time}. ¡Te esperamos!"


def _plain(text: str) -> str:
    """Lower case, without accents, single spaces: what the patterns above are written for."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return " ".join("".join(c for c in decomposed if not unicodedata.combining(c)).split())


def _find_day(plain: str) -> tuple[str | None, str]:
    """The day as it is said back, and the text without it (its digits are nobody's party size)."""
    if match := _DATE.search(plain):
        if 1 <= int(match[1]) <= 31 and 1 <= int(match[2]) <= 12:
            return f"el {int(match[1])}/{int(match[2])}", _without(plain, match)
    if match := _RELATIVE_DAY.search(plain):
        return match[1].replace("manana", "mañana"), _without(plain, match)
    if match := _WEEKDAY.search(plain):
        return f"el {WEEKDAYS[match[1]]}", _without(plain, match)
    return None, plain


def _find_time(plain: str) -> tuple[str | None, str]:
    match = _TIME.search(plain)
    if match is None:
        return None, plain
    hour = _number(match[1] or match[3] or match[5])
    minute = int(match[2] or match[4] or 0)
    if _AFTERNOON.search(plain) and hour < 12:
        hour += 12
    if hour > 23 or minute > 59:
        return None, plain
    return f"{hour}:{minute:02}", _without(plain, match)


def _find_party(plain: str, asked: bool) -> int | None:
    """A bare number counts only as the answer to the question."""
    match = _PARTY.search(plain) or (_BARE_NUMBER.search(plain) if asked else None)
    if match is None:
        return None
    return _number(next(group for group in match.groups() if group)) or None


def _number(word: str) -> int:
    return NUMBERS[word] if word in NUMBERS else int(word)


def _without(plain: str, match: re.Match[str]) -> str:
    return plain[: match.start()] + " " + plain[match.end() :]
