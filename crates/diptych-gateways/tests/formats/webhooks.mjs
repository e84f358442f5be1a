// Receives webhooks of the gateway, and verifies them with the library `standardwebhooks`. Then it
// signs webhooks with that library, and sends them to a server.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const [address, secret, former] = process.argv.slice(2);
const webhook = new Webhook(secret);

const received = [];
const receiver = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    try {
      const body = Buffer.concat(chunks).toString("utf8");
      received.push({ id: request.headers["webhook-id"], body: webhook.verify(body, request.headers) });
      // The gateway also signs with the secret that is exchanged.
      new Webhook(former).verify(body, request.headers);
      assert.throws(() => webhook.verify(`${body} `, request.headers));
      response.writeHead(204).end();
    } catch (error) {
      console.error(error);
      response.writeHead(400).end();
    }
  });
});
await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
// The test sends two webhooks there, and ends its input then.
console.log(`http://127.0.0.1:${receiver.address().port}/`);
for await (const _ of process.stdin) {
  // Only the end is waited for.
}
receiver.close();
assert.deepEqual(received.map(({ id }) => id), ["key-1", "key-2"]);
assert.equal(received[0].body.type, "order.paid");
assert.deepEqual(received.map(({ body }) => body.data), [{ order: 7 }, { order: "größer als 8 €" }]);

const send = async (id, body, signer = webhook, at = new Date()) => {
  const response = await fetch(`${address}/hooks/shop`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
      "webhook-signature": signer.sign(id, at, body),
    },
    body,
  });
  return { status: response.status, answer: await response.json() };
};
const body = JSON.stringify({ type: "order.paid", data: { order: 9 } });
for (let time = 0; time < 2; time += 1) {
  assert.deepEqual(await send("msg_1", body), { status: 200, answer: { outcome: "done" } });
}
assert.equal((await send("msg_2", body, new Webhook(former))).status, 401);
assert.equal((await send("msg_2", body, webhook, new Date(Date.now() - 600_000))).status, 401);
console.log("ok");
