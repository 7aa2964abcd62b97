"""Reminds somebody, and waits until the phone has it: reminder.py NUMBER ID TEXT."""

import asyncio
import os
import sys

import nats
from whatsapp.connector.v1.receipt_pb2 import Receipt, ReceiptStatus
from whatsapp.connector.v1.send_pb2 import SendMessage, SendText


async def main(number, name, text):
    nc = await nats.connect(os.environ["NATS_URL"])
    js = nc.jetstream()
    # Before the request, so that no state is missed.
    states = await js.subscribe(f"wa.in.default.receipt.{number}", ordered_consumer=True)
    request = SendMessage(to=number, text=SendText(body=text))
    # The id is this one reminder's name: whoever runs this again with it does not remind again.
    await js.publish(f"wa.out.default.send.{number}", request.SerializeToString(), headers={"Nats-Msg-Id": name})
    async for stored in states.messages:
        state = Receipt.FromString(stored.data)
        if state.request_id == name:
            print(ReceiptStatus.Name(state.status), state.reason, flush=True)
            # `FAILED`, `DELIVERED`, or even further.
            if state.rank >= 2:
                return await nc.close()


asyncio.run(main(*sys.argv[1:]))
