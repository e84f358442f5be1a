// Reads the AsyncAPI document of a running server with the library `@asyncapi/parser`.
import assert from "node:assert/strict";
import { Parser } from "@asyncapi/parser";

const [address] = process.argv.slice(2);
const text = await (await fetch(`${address}/asyncapi.json`)).text();
const { document, diagnostics } = await new Parser().parse(text);
// 0 is an error, and 1 a warning.
const problems = diagnostics.filter(({ severity }) => severity <= 1);
assert.deepEqual(problems, []);

assert.equal(document.version(), "3.1.0");
assert.equal(document.info().title(), "Shop");
const operations = document.operations().all();
assert.deepEqual(operations.map((operation) => operation.id()), ["send-orders"]);
assert.ok(operations[0].isSend());
const channel = document.channels().get("orders");
assert.equal(channel.address(), "/feeds/orders");
const message = channel.messages().get("order-accepted.v1");
assert.deepEqual(Object.keys(message.payload().properties()), ["cents", "order"]);
assert.equal(message.description(), "An order that other services may know of.");
// The trait is a part of the message.
const attributes = message.headers().properties();
assert.equal(attributes.type.const(), "order-accepted.v1");
assert.equal(attributes.specversion.const(), "1.0");
assert.ok(message.headers().required().includes("sequence"));
assert.equal(document.servers().get("own").host(), new URL(address).host);
console.log("ok");
