"""What the connector says with `BACKEND_FIELDS=full`, and words for a message that has none.

All of it is optional, and fields that are not known are ignored: there will be more.
"""

from pydantic import BaseModel


class Quoted(BaseModel):
    id: str
    text: str = ""
    from_us: bool | None = None


class Media(BaseModel):
    state: str
    reason: str | None = None
    type: str | None = None
    size: int = 0
    file_name: str | None = None
    seconds: int | None = None
    voice: bool = False
    bucket: str | None = None
    key: str | None = None
    sha256: str | None = None
    url: str | None = None


class Location(BaseModel):
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    live: bool = False


class Contact(BaseModel):
    name: str
    phones: list[str] = []


class Poll(BaseModel):
    question: str
    options: list[str] = []


class Full(BaseModel):
    kind: str | None = None
    account: str | None = None
    transcribed: bool = False
    quoted: Quoted | None = None
    media: Media | None = None
    location: Location | None = None
    contacts: list[Contact] = []
    poll: Poll | None = None


NAMES = {
    "image": "una imagen",
    "video": "un video",
    "audio": "un audio",
    "document": "un documento",
    "sticker": "un sticker",
}


def described(message: Full) -> str:
    """A message without words, in words."""
    if (media := message.media) is not None:
        return _file(message.kind or "", media)
    if (place := message.location) is not None:
        where = place.name or place.address or f"{place.latitude:.4f}, {place.longitude:.4f}"
        return f"Recibí una ubicación: {where}."
    if message.contacts:
        people = ", ".join(
            f"{contact.name} ({', '.join(contact.phones) or 'sin número'})"
            for contact in message.contacts
        )
        return f"Recibí contactos: {people}."
    if message.poll is not None:
        return f"Recibí una encuesta: «{message.poll.question}»"
    return f"Recibí un mensaje sin texto ({message.kind})."


def _file(kind: str, media: Media) -> str:
    name = "una nota de voz" if media.voice else NAMES.get(kind, "un archivo")
    match media.state:
        case "stored":
            return f"Recibí {name} de {media.size} bytes."
        case "pending":
            return f"Recibí {name}, pero todavía no me llegó el archivo."
        case "failed":
            return f"Recibí {name}, pero no se pudo descargar ({media.reason})."
        case _:
            return f"Recibí {name}."
