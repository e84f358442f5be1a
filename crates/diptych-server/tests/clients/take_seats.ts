// Takes seats in the theatre, through the types that openapi-typescript makes. The test checks the
// types, and then runs the program with the address of a server.

import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./theatre.d.ts";

type Problem = components["schemas"]["diptych-problem"];
type Receipt = components["schemas"]["diptych-receipt"];

const client = createClient<paths>({ baseUrl: process.argv[2] });

async function take(seat: string, by: string, key: string): Promise<Receipt> {
  const { data, error } = await client.POST("/commands/take-seat", {
    params: { header: { "Idempotency-Key": key } },
    body: { seat, by, companions: 0 },
  });
  assert(data, error?.detail);
  return data;
}

// A retry under the same key gets the same receipt.
const first = await take("t1", "ada", "t-1");
assert.deepEqual(await take("t1", "ada", "t-1"), first);
const last = await take("t2", "bob", "t-2");

// A rejection is a typed value, and its rule narrows its type.
const again = await client.POST("/commands/take-seat", {
  body: { seat: "t1", by: "eve", companions: 0 },
});
assert.equal(again.response.status, 422);
assert(again.error && "rejection" in again.error);
const { rejection } = again.error;
assert(rejection.rule === "seat-is-taken");
const holder: string = rejection.by;
assert.equal(holder, "ada");

// A query sees the events of a receipt.
const sits = await client.GET("/queries/who-sits", {
  params: { query: { seat: "t2", _after: last.receipt } },
});
const visitor: string | null | undefined = sits.data;
assert.equal(visitor, "bob");

// A list comes in pages, by address and by body.
const query = { row: "t", _limit: 1, _after: last.receipt };
const page = await client.GET("/queries/seats", { params: { query } });
assert.deepEqual(page.data?.map((place) => place.seat), ["t1"]);
assert.equal(page.response.headers.get("diptych-total"), "2");
const next = page.response.headers.get("link")?.match(/^<(.*)>; rel="next"$/)?.[1];
assert(next);
const rest = await fetch(new URL(next, page.response.url));
const places = (await rest.json()) as components["schemas"]["Place"][];
assert.deepEqual(places.map((place) => place.seat), ["t2"]);
const byPost = await client.POST("/queries/seats", {
  params: { query: { _offset: 1, _after: last.receipt } },
  body: { row: "t", names: true },
});
assert.equal(byPost.data?.[0]?.by, "bob");

// An explanation has typed events.
const explained = await client.GET("/queries/who-sits/explanation", {
  params: { query: { seat: "t1" } },
});
assert.deepEqual(explained.data?.events.map((event) => event.position), [first.first]);

// A commit is found by its key.
const found = await client.GET("/receipts/{key}", { params: { path: { key: "t-2" } } });
assert.equal(found.data?.last, last.last);

// A problem has typed members.
const beyond = await client.GET("/queries/how-many", { params: { query: { _as_of: 1_000_000 } } });
const problem: Problem | undefined = beyond.error;
assert.equal(problem?.type, "urn:diptych:above-head");
const head: number | undefined = problem?.head;
assert.equal(head, last.last);
const invalid = await client.POST("/commands/take-seat", {
  body: { seat: "", by: "ada", companions: 0 },
});
assert.equal(invalid.error?.field, "seat");
