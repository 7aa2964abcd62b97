"""A forwarder as somebody would write it with nats-py and aiohttp: pull 256, at most 256 calls at once, publish the
answer, wait until it is stored, acknowledge. It keeps no order."""

import asyncio
import os
from datetime import UTC, datetime

import aiohttp
import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from whatsapp.connector.v1.inbound_pb2 import InboundMessage
from whatsapp.connector.v1.outcome_pb2 import Outcome

AT_ONCE = 256
URL = os.environ["BACKEND_URL"] + "/v1/channels/whatsapp/gateway/inbound"


async def answer(stored: Msg, js: JetStreamContext, http: aiohttp.ClientSession) -> None:
    message = InboundMessage.FromString(stored.data)
    sent_at = datetime.fromtimestamp(message.sent_at_ms / 1000, UTC)
    question = {
        "message_id": message.message_id,
        "from_number": message.chat,
        "text": message.text.body,
        "timestamp_iso": sent_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    async with http.post(URL, json=question) as response:
        response.raise_for_status()
        reply = await response.json()
    outcome = Outcome(
        account=message.account, chat=message.chat, chat_jid=message.chat_jid, message_id=message.message_id
    )
    outcome.reply.text = reply["response_text"]
    headers = {
        "Nats-Msg-Id": f"{message.chat}/{message.message_id}/outcome",
        "Wa-In-Seq": str(stored.metadata.sequence.stream),
    }
    subject = f"wa.out.{message.account}.reply.{message.chat}"
    await js.publish(subject, outcome.SerializeToString(), headers=headers)
    await stored.ack()


async def main() -> None:
    client = await nats.connect(os.environ["NATS_URL"])
    js = client.jetstream()
    messages = await js.pull_subscribe_bind(durable="forwarder", stream="WA_IN")
    free = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as http, asyncio.TaskGroup() as calls:

        async def one(stored: Msg) -> None:
            try:
                await answer(stored, js, http)
            finally:
                free.release()

        while True:
            try:
                batch = await messages.fetch(AT_ONCE, timeout=5)
            except nats.errors.TimeoutError:
                continue
            for stored in batch:
                await free.acquire()
                calls.create_task(one(stored))


asyncio.run(main())
