// Reads a feed from a running server, and each event with the library `cloudevents`.
import assert from "node:assert/strict";
import { HTTP } from "cloudevents";

const [address] = process.argv.slice(2);

// A batch, with the headers of the answer as they came.
const response = await fetch(`${address}/feeds/orders`);
assert.equal(response.status, 200);
const headers = Object.fromEntries(response.headers);
const body = await response.text();
assert.ok(HTTP.isEvent({ headers, body }));
const batch = HTTP.toEvent({ headers, body });
assert.equal(batch.length, 2);

// Each one in the structured form.
const structured = JSON.parse(body).map((event) =>
  HTTP.toEvent({
    headers: { "content-type": "application/cloudevents+json" },
    body: JSON.stringify(event),
  }),
);

for (const events of [batch, structured]) {
  for (const event of events) {
    assert.ok(event.validate());
    assert.equal(event.specversion, "1.0");
    assert.equal(event.type, "order-accepted.v1");
    assert.equal(event.datacontenttype, "application/json");
    assert.match(event.sequence, /^[0-9]{20}$/);
    assert.equal(event.partitionkey, event.subject);
    assert.ok(!Number.isNaN(Date.parse(event.time)));
  }
  assert.deepEqual(events.map((event) => event.data), [{ order: 7, cents: 1000 }, { order: 8, cents: 5 }]);
  assert.deepEqual(events.map((event) => event.subject), ["order:7", "order:8"]);
  assert.equal(events[1].previous, events[0].sequence);
}

// The id of the first event leads to the second.
const rest = await fetch(`${address}/feeds/orders?lastEventId=${encodeURIComponent(batch[0].id)}`);
assert.deepEqual((await rest.json()).map((event) => event.id), [batch[1].id]);
console.log("ok");
