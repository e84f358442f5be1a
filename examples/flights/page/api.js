// The client of the server: ask a query, explain an answer, send a command, listen to a live query.
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15000;
/** Live answers may come faster than a reader sees, so only some are drawn. */
const BETWEEN_ANSWERS_MS = 200;
/** A request without a whole answer after this time ends with words instead of waiting for ever. */
const LONGEST_REQUEST_MS = 40_000;

/** A failed request: the server's problem+json, or status 0 without an answer. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.title = body.title ?? "";
    this.body = body;
  }
}

/**
 * Asks a query. Returns the answer, its position, its duration in milliseconds, and the number of
 * events that the server folded for it.
 */
export async function ask(name, args = {}) {
  const started = performance.now();
  const { body: answer, headers } = await reach(`queries/${name}?${search(args)}`);
  const position = Number(headers.get("Diptych-Position") ?? NaN);
  const events = Number(headers.get("Diptych-Cost-Events") ?? NaN);
  return { answer, position, events, ms: performance.now() - started };
}

/** Returns the events in an answer's scope. */
export async function explain(name, args = {}) {
  return (await reach(`queries/${name}/explanation?${search(args)}`)).body;
}

/** The document of the server's commands and queries. */
export async function openapi() {
  return (await reach("openapi.json")).body;
}

/** The headers of a command. A command with a time of its own needs no header for the time. */
export function headersOf(body, key, occurredAt) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  return body.at === undefined ? { ...headers, "Diptych-Occurred-At": occurredAt } : headers;
}

/** Sends a command and returns the receipt. With the key, a retry is not carried out again. */
export async function send(name, body, key, occurredAt) {
  const headers = headersOf(body, key, occurredAt);
  const answered = await reach(`commands/${name}`, {
    method: "POST", headers, body: JSON.stringify(body),
  });
  return answered.body;
}

/** The queries that the page listens to, and "status", each with its handlers. */
const listeners = new Map();
let source = null;
let timer = 0;
let wait = FIRST_RETRY_MS;
let lastId = null;
let watcher = () => {};
let connection = { state: "connecting", ms: 0 };

/**
 * Listens to a live query, such as "departure-board?airport=JFK", or to "status". All of them come
 * in one stream, because all windows of an origin share six connections. A hidden page does not
 * listen. `handlers` maps names of events to functions. Returns a function that stops listening.
 */
export function listen(query, handlers) {
  const own = {};
  for (const [name, handle] of Object.entries(handlers)) {
    own[name] = latest((data) => {
      if (listeners.get(query) === own) handle(data);
    });
  }
  listeners.set(query, own);
  reopen();
  return () => {
    if (listeners.get(query) !== own) return;
    listeners.delete(query);
    reopen();
  };
}

let isReopening = false;

/** Opens the stream anew after all changes of this turn. */
function reopen() {
  if (isReopening) return;
  isReopening = true;
  queueMicrotask(() => {
    isReopening = false;
    if (!document.hidden) open();
  });
}

function open() {
  rest();
  if (listeners.size === 0) return;
  source = new EventSource(address());
  source.onopen = () => {
    wait = FIRST_RETRY_MS;
    report("open");
  };
  source.onerror = () => {
    // Our own back-off replaces the fixed one of the browser.
    rest();
    report("lost", wait);
    timer = setTimeout(open, wait * (0.8 + 0.4 * Math.random()));
    wait = Math.min(wait * 2, LAST_RETRY_MS);
  };
  for (const name of ["answer", "problem", "status"]) {
    source.addEventListener(name, (event) => arrived(name, event));
  }
}

/** The answers never go back, so the stream begins where the last one ended. */
function address() {
  const parameters = [...listeners.keys()].filter((query) => query !== "status")
    .map((query) => ["query", query]);
  if (listeners.has("status")) parameters.push(["status", ""]);
  if (lastId) parameters.push(["_session", lastId]);
  return `live?${new URLSearchParams(parameters)}`;
}

function arrived(name, event) {
  if (event.lastEventId) lastId = event.lastEventId;
  const data = JSON.parse(event.data);
  listeners.get(name === "status" ? "status" : data.query)?.[name]?.(data);
  if (name === "problem" && data.type === "urn:diptych:token") {
    // The log was replaced by another one, which begins anew.
    lastId = null;
    reopen();
  }
}

function rest() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) rest();
  else open();
});

function report(state, ms = 0) {
  connection = { state, ms };
  watcher(state, ms);
}

/** Calls `handle` at most once in an interval, with the newest answer. Each answer is complete. */
function latest(handle) {
  let newest = null;
  let due = 0;
  function take() {
    const taken = newest;
    newest = null;
    due = performance.now() + BETWEEN_ANSWERS_MS;
    handle(taken);
  }
  return (answer) => {
    if (newest === null) {
      setTimeout(() => requestAnimationFrame(take), due - performance.now());
    }
    newest = answer;
  };
}

/** Reports the state of the stream: "open", "connecting", or "lost". */
export function watchConnection(watch) {
  watcher = watch;
  watch(connection.state, connection.ms);
}

/** Sends a request. Returns the body of the answer and its headers, or throws a `Problem`. */
async function reach(path, options) {
  const signal = AbortSignal.timeout(LONGEST_REQUEST_MS);
  let response;
  let text;
  try {
    response = await fetch(path, { signal, ...options });
    text = await response.text();
  } catch (cause) {
    throw new Problem(0, unanswered(signal, cause));
  }
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { title: response.statusText, detail: `the server answered ${response.status}` };
    throw new Problem(response.status, body);
  }
  if (!response.ok) throw new Problem(response.status, body);
  return { body, headers: response.headers };
}

/** The words for a request without a whole answer. */
function unanswered(signal, cause) {
  if (signal.aborted) {
    const seconds = LONGEST_REQUEST_MS / 1000;
    const detail = `the server did not answer within ${seconds} seconds: try again`;
    return { title: "no answer in time", detail, cause };
  }
  return { title: "no connection", detail: "the server cannot be reached", cause };
}

function search(args) {
  const known = Object.entries(args).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(known).toString();
}
