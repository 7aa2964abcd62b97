"""Says how WhatsApp writes a number, if somebody has it there: check_number.py NUMBER. The edge runs with SERVICE=on."""

import asyncio
import json
import os
import sys

import nats


async def main(number):
    nc = await nats.connect(os.environ["NATS_URL"])
    request = json.dumps({"number": number}).encode()
    answer = await nc.request("wa.svc.default.check-number", request, timeout=15)
    await nc.close()
    headers = answer.headers or {}
    if "Nats-Service-Error-Code" in headers:
        sys.exit(f"{headers['Nats-Service-Error-Code']} {headers['Nats-Service-Error']}")
    found = json.loads(answer.data)
    if not found["on_whatsapp"]:
        sys.exit("nobody has this number on WhatsApp")
    print(found["number"])


asyncio.run(main(*sys.argv[1:]))
