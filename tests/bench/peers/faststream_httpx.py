"""The same with FastStream and httpx: the framework pulls, calls the handler and acknowledges."""

import asyncio
import os
from datetime import UTC, datetime

import httpx
from faststream import FastStream
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from whatsapp.connector.v1.inbound_pb2 import InboundMessage
from whatsapp.connector.v1.outcome_pb2 import Outcome

AT_ONCE = 256
URL = os.environ["BACKEND_URL"] + "/v1/channels/whatsapp/gateway/inbound"

broker = NatsBroker(os.environ["NATS_URL"], logger=None)
app = FastStream(broker, logger=None)
http = httpx.AsyncClient(limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE), timeout=30)


@broker.subscriber(
    "wa.in.*.message.*",
    durable="forwarder",
    stream=JStream("WA_IN", declare=False),
    pull_sub=PullSub(batch_size=AT_ONCE),
    max_workers=AT_ONCE,
)
async def answer(stored: NatsMessage) -> None:
    message = InboundMessage.FromString(stored.body)
    sent_at = datetime.fromtimestamp(message.sent_at_ms / 1000, UTC)
    question = {
        "message_id": message.message_id,
        "from_number": message.chat,
        "text": message.text.body,
        "timestamp_iso": sent_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    response = await http.post(URL, json=question)
    response.raise_for_status()
    outcome = Outcome(
        account=message.account, chat=message.chat, chat_jid=message.chat_jid, message_id=message.message_id
    )
    outcome.reply.text = response.json()["response_text"]
    headers = {
        "Nats-Msg-Id": f"{message.chat}/{message.message_id}/outcome",
        "Wa-In-Seq": str(stored.raw_message.metadata.sequence.stream),
    }
    subject = f"wa.out.{message.account}.reply.{message.chat}"
    await broker.publish(outcome.SerializeToString(), subject, headers=headers, stream="WA_OUT")


asyncio.run(app.run())
