// The client of the server: ask a query, explain an answer, send a command, listen to a live query.
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15000;
/** Live answers may come faster than a reader sees, so only some are drawn. */
const BETWEEN_ANSWERS_MS = 200;

/** A failed request: the server's problem+json, or status 0 without a connection. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.title = body.title ?? "";
    this.body = body;
  }
}

/** Asks a query. Returns the answer, its position, and its duration in milliseconds. */
export async function ask(name, args = {}) {
  const started = performance.now();
  const response = await reach(`queries/${name}?${search(args)}`);
  const answer = await response.json();
  const position = Number(response.headers.get("Diptych-Position") ?? NaN);
  return { answer, position, ms: performance.now() - started };
}

/** Returns the events in an answer's scope. */
export async function explain(name, args = {}) {
  return (await reach(`queries/${name}/explanation?${search(args)}`)).json();
}

/** The headers of a command. A command with a time of its own needs no header for the time. */
export function headersOf(body, key, occurredAt) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  return body.at === undefined ? { ...headers, "Diptych-Occurred-At": occurredAt } : headers;
}

/** Sends a command and returns the receipt. With the key, a retry is not carried out again. */
export async function send(name, body, key, occurredAt) {
  const headers = headersOf(body, key, occurredAt);
  const response = await reach(`commands/${name}`, {
    method: "POST", headers, body: JSON.stringify(body),
  });
  return response.json();
}

const connections = new Map();

/**
 * Listens to server-sent events, and reconnects when the connection is lost. A hidden page does not
 * listen, because all tabs of an origin share six connections. `handlers` maps names of events to
 * functions. Returns a function that stops listening.
 */
export function listen(path, handlers) {
  let source = null;
  let timer = 0;
  let wait = FIRST_RETRY_MS;

  function open() {
    clearTimeout(timer);
    source = new EventSource(path);
    source.onopen = () => {
      wait = FIRST_RETRY_MS;
      report("open");
    };
    source.onerror = () => {
      // Our own back-off replaces the fixed one of the browser.
      source.close();
      report("lost", wait);
      timer = setTimeout(open, wait * (0.8 + 0.4 * Math.random()));
      wait = Math.min(wait * 2, LAST_RETRY_MS);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, latest((event) => handle(JSON.parse(event.data))));
    }
  }

  function rest() {
    clearTimeout(timer);
    source?.close();
  }

  function onVisibility() {
    if (document.hidden) rest();
    else open();
  }

  function report(state, ms = 0) {
    connections.set(path, { state, ms });
    announce();
  }

  document.addEventListener("visibilitychange", onVisibility);
  report("connecting");
  if (!document.hidden) open();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    rest();
    connections.delete(path);
    announce();
  };
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
  return (event) => {
    if (newest === null) {
      setTimeout(() => requestAnimationFrame(take), due - performance.now());
    }
    newest = event;
  };
}

let watcher = () => {};

/** Reports the worst state of all connections: "open", "connecting", or "lost". */
export function watchConnections(watch) {
  watcher = watch;
  announce();
}

function announce() {
  const all = [...connections.values()];
  const lost = all.filter((connection) => connection.state === "lost");
  if (lost.length > 0) watcher("lost", Math.max(...lost.map((connection) => connection.ms)));
  else watcher(all.some((connection) => connection.state === "connecting") ? "connecting" : "open");
}

async function reach(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (cause) {
    throw new Problem(0, { title: "no connection", detail: "the server cannot be reached", cause });
  }
  if (response.ok) return response;
  let body = {};
  try {
    body = await response.json();
  } catch {
    body = { title: response.statusText, detail: `the server answered ${response.status}` };
  }
  throw new Problem(response.status, body);
}

function search(args) {
  const known = Object.entries(args).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(known).toString();
}
