// The same with Node and undici: pull, at most 256 calls at once, publish the answer, wait until it is stored, acknowledge.
const path = require("node:path");
const { connect, headers: natsHeaders } = require("nats");
const protobuf = require("protobufjs");
const { Agent, request } = require("undici");

const AT_ONCE = 256;
const URL = process.env.BACKEND_URL + "/v1/channels/whatsapp/gateway/inbound";
const PROTO = path.join(__dirname, "../../../proto");

async function main() {
  const types = new protobuf.Root();
  types.resolvePath = (_, target) => path.join(PROTO, target);
  await types.load(["whatsapp/connector/v1/inbound.proto", "whatsapp/connector/v1/outcome.proto"]);
  const Inbound = types.lookupType("whatsapp.connector.v1.InboundMessage");
  const Outcome = types.lookupType("whatsapp.connector.v1.Outcome");
  const dispatcher = new Agent({ connections: AT_ONCE });

  const client = await connect({ servers: process.env.NATS_URL });
  const js = client.jetstream();
  const consumer = await js.consumers.get("WA_IN", "forwarder");

  async function answer(stored) {
    const message = Inbound.decode(stored.data);
    const question = {
      message_id: message.messageId,
      from_number: message.chat,
      text: message.text.body,
      timestamp_iso: new Date(Number(message.sentAtMs)).toISOString(),
    };
    const response = await request(URL, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(question),
      dispatcher,
    });
    const reply = await response.body.json();
    const { account, chat, chatJid, messageId } = message;
    const outcome = Outcome.create({ account, chat, chatJid, messageId, reply: { text: reply.response_text } });
    const headers = natsHeaders();
    headers.set("Nats-Msg-Id", `${chat}/${messageId}/outcome`);
    headers.set("Wa-In-Seq", String(stored.seq));
    await js.publish(`wa.out.${account}.reply.${chat}`, Outcome.encode(outcome).finish(), { headers });
    stored.ack();
  }

  let underWay = 0;
  let free = () => {};
  for await (const stored of await consumer.consume({ max_messages: AT_ONCE })) {
    while (underWay >= AT_ONCE) await new Promise((resolve) => (free = resolve));
    underWay += 1;
    answer(stored)
      .catch((error) => console.error(error))
      .finally(() => {
        underWay -= 1;
        free();
      });
  }
}

main();
