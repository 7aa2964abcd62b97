"""Keeps what is written on WhatsApp: a line of JSON for each message and update, and the files beside it."""

import asyncio
import os
from pathlib import Path

import nats
from google.protobuf.json_format import MessageToJson
from whatsapp.connector.v1.inbound_pb2 import MEDIA_STATE_STORED, InboundMessage


async def keep(js, archive, stored):
    message = InboundMessage.FromString(stored.data)
    with (archive / "messages.jsonl").open("a") as lines:
        lines.write(f"{MessageToJson(message, indent=None)}\n")
    if message.WhichOneof("content") == "media" and message.media.state == MEDIA_STATE_STORED:
        bucket = await js.object_store(message.media.bucket)
        # A name of our own: what the sender calls a file is no name for a path.
        with (archive / message.media.sha256.hex()).open("wb") as file:
            await bucket.get(message.media.key, writeinto=file)


async def main():
    archive = Path(os.environ.get("ARCHIVE", "archive"))
    archive.mkdir(exist_ok=True)
    js = (await nats.connect(os.environ["NATS_URL"])).jetstream()
    # A durable consumer of its own, which goes on where it was; never `forwarder`, never `edge-...`.
    kinds = nats.js.api.ConsumerConfig(filter_subjects=["wa.in.*.message.*", "wa.in.*.update.*"])
    await js.add_consumer("WA_IN", kinds, durable_name="archive")
    sub = await js.pull_subscribe_bind(durable="archive", stream="WA_IN")
    while True:
        try:
            for stored in await sub.fetch(100, timeout=5):
                await keep(js, archive, stored)
                await stored.ack()
        except nats.errors.TimeoutError:
            continue  # Nobody has written.


asyncio.run(main())
