"""The routes."""

import asyncio
import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, StringConstraints, ValidationInfo, field_validator

from . import auth
from .assistant import State, reply
from .calls import INBOUND_PATH, Call, CallLog, CallTracking
from .faults import Faults
from .full import Full, described
from .gate import Gate
from .settings import Mode, Settings

NonEmpty = Annotated[str, StringConstraints(min_length=1)]


class InboundMessage(Full):
    message_id: NonEmpty
    from_number: NonEmpty
    text: str
    timestamp_iso: NonEmpty
    customer_name: str | None = None
    customer_id: str | None = None

    @field_validator("text")
    @classmethod
    def has_words(cls, text: str, info: ValidationInfo) -> str:
        """Only a message that says what else it is may have none (`BACKEND_FIELDS=full`)."""
        if not text and info.data.get("kind") is None:
            raise ValueError("a message without `kind` has a text")
        return text


class ListItem(BaseModel):
    title: str
    description: str | None = None


class Answer(BaseModel):
    conversation_id: str
    message_id: str
    response_text: str | None
    interactive_type: Literal["buttons", "list"] | None = None
    buttons: list[str] | None = None
    list_title: str | None = None
    list_items: list[str | ListItem] | None = None


@dataclass
class Conversation:
    """In memory, as all of this service: a restart forgets it.

    The lock makes a second copy of a message wait for the first one's answer, so that the
    assistant's state advances once.
    """

    state: State = State()
    answers: dict[str, Answer] = field(default_factory=dict)
    last_text: str | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(
        title="Reference assistant backend",
        description="A small implementation of the WhatsApp gateway contract, for demos and tests.",
    )
    log = CallLog(keep=settings.call_log)
    faults = Faults(settings.delay, settings.failure, settings.seed)
    gate = Gate(closed=settings.gate)
    # First come, first served. Whoever hangs up keeps the place.
    slots = asyncio.Semaphore(settings.slots) if settings.slots else contextlib.nullcontext()
    conversations: defaultdict[str, Conversation] = defaultdict(Conversation)
    app.add_middleware(CallTracking, log=log)

    async def authorize(request: Request) -> None:
        """Before the body is validated: a stranger is told nothing about it."""
        try:
            auth.check_api_key(settings.api_keys, request.headers.get("x-api-key"))
            auth.check_signature(
                settings.webhook_secret, request.headers, await request.body(), time.time()
            )
        except auth.Unauthorized as refusal:
            raise HTTPException(401, str(refusal)) from None

    @app.post(INBOUND_PATH, dependencies=[Depends(authorize)])
    async def inbound(message: InboundMessage, request: Request) -> Answer:
        # In a group, the conversation is the group's.
        conversation_id = f"whatsapp:{message.customer_id or message.from_number}"
        call: Call = request.state.call
        call.message_id = message.message_id
        call.from_number = message.from_number
        call.customer_id = message.customer_id
        call.conversation_id = conversation_id

        plan = faults.draw()
        conversation = conversations[conversation_id]
        async with conversation.turn:
            answer = conversation.answers.get(message.message_id)
            call.cached = answer is not None
            if answer is None:
                await gate.passed()
                async with slots:
                    await asyncio.sleep(plan.delay_s)
            if plan.status is not None:
                raise HTTPException(plan.status, "Failing on purpose (BACKEND_FAIL)")
            if answer is None:
                text, buttons = _respond(conversation, message)
                answer = Answer(
                    conversation_id=conversation_id,
                    message_id=message.message_id,
                    response_text=text,
                    interactive_type="buttons" if buttons else None,
                    buttons=buttons,
                )
                conversation.answers[message.message_id] = answer
                conversation.last_text = text
            elif settings.mode is Mode.FORGETFUL:
                # Whatever turn it was of, and without what it offered.
                answer = Answer(
                    conversation_id=conversation_id,
                    message_id=message.message_id,
                    response_text=conversation.last_text,
                )
            return answer

    def _respond(
        conversation: Conversation, message: InboundMessage
    ) -> tuple[str, list[str] | None]:
        if settings.mode is Mode.FORGETFUL and "menú" in message.text.lower():
            return "¿Qué querés hacer?", ["Reservar", "Cancelar"]
        if not message.text.strip():
            return described(message), None
        if settings.mode is not Mode.ASSISTANT:
            return f"eco: {message.text}", None
        conversation.state, text = reply(conversation.state, message.text, message.customer_name)
        return text, None

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    if settings.call_log:

        @app.get("/calls")
        async def calls() -> list[dict[str, object]]:
            return [call.as_json() for call in log.calls]

    if settings.gate:
        app.include_router(gate.routes())

    return app
