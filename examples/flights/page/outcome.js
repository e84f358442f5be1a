// The answer to a command, in words: a receipt, the refusal of a rule, or the reason of a failure.
import { $, fact, h } from "./dom.js";
import { count, flightName, inLocalTime, millis, sentence } from "./words.js";

const DONE = {
  "schedule-flight": "is scheduled", "depart-flight": "has departed",
  "land-flight": "has landed", "cancel-flight": "is cancelled", "divert-flight": "is diverted",
};

function show(state, ...content) {
  $("outcome").dataset.state = state;
  delete $("outcome").dataset.rule;
  delete $("outcome").dataset.position;
  $("outcome").replaceChildren(...content);
  // On a narrow window the answer is below the form.
  if (matchMedia("(max-width: 56rem)").matches) $("outcome").scrollIntoView({ block: "nearest" });
}

export function showSending() {
  show("sending", h("p", { class: "empty" }, "Sending …"));
}

/** `next` is the command that the flight can get now, as { words, act }, or null. */
export function showAccepted({ sent, receipt, ms, isAgain, next, onBoard, onAgain }) {
  const said = h("p", { class: "hint" }, "Reading it back …");
  show("accepted",
    h("h3", {}, isAgain ? "The same receipt: it was carried out once" : "Accepted"),
    h("p", {}, `${sent.body.flight} ${DONE[sent.name] ?? "has changed"}. `
      + `Durable at position ${positions(receipt)}, answered in ${millis(ms)}.`),
    said,
    h("div", { class: "actions" },
      next ? h("button", { type: "button", onclick: next.act }, next.words) : "",
      h("button", { type: "button", onclick: onBoard }, "Show it on the board"),
      h("button", { type: "button", class: "quiet", onclick: onAgain },
        "Send it again with the same key")),
    h("details", {}, h("summary", {}, "Receipt and key"),
      h("dl", { class: "facts" }, fact("Receipt", h("code", {}, receipt.receipt)),
        fact("Key", h("code", {}, sent.key)))));
  $("outcome").dataset.position = String(receipt.last);
  return said;
}

/** Returns the fault as { field, words, rule }. */
export function showRefused({ sent, problem, isNumber, onFlight, onAgain }) {
  const { status, body: told } = problem;
  const isMalformed = told.type === "urn:diptych:malformed";
  const field = told.field ?? (isMalformed ? fieldAt(sent.body, told.column) : null);
  const words = inLocalTime(isMalformed
    ? mistake(told.detail, field, sent.body[field], isNumber(field))
    : told.problem ?? problem.message);
  const facts = [];
  const rule = told.rejection?.rule;
  for (const [name, value] of Object.entries(told.rejection ?? {})) {
    const shown = inLocalTime(typeof value === "string" ? value : JSON.stringify(value));
    const isFlight = name === "flight" && typeof value === "string";
    facts.push(fact(name, isFlight ? h("button", { type: "button", class: "link",
      onclick: () => onFlight(value) }, flightName(value)) : h("code", {}, shown)));
  }
  if (field) facts.push(fact("field", h("code", {}, field)));
  const isUnknown = status === 503 || status === 0;
  show(rule ? "refused" : "failed",
    h("h3", {}, headline(status, rule, told.type)),
    h("p", {}, sentence(words)),
    h("p", { class: "hint" }, rule ? "No event of it is in the log." : advice(isUnknown)),
    h("dl", { class: "facts" }, ...facts, status ? fact("status", String(status)) : null),
    isUnknown ? h("div", { class: "actions" }, h("button", { type: "button",
      onclick: onAgain }, "Send it again with the same key")) : "");
  if (rule) $("outcome").dataset.rule = rule;
  return { field, words, rule };
}

function positions({ first, last }) {
  return first === last ? count(last) : `${count(first)} to ${count(last)}`;
}

/** The fault of a command that does not parse, without its place in the JSON text. */
function mistake(detail, field, value, isNumber) {
  if (isNumber) return `${value} is not a whole number that can be`;
  const begin = /^the command cannot be read: /;
  return detail.replace(begin, "").replace(/ at line \d+ column \d+$/, "");
}

const utf8 = new TextEncoder();

/** The field whose value ends at this column (in bytes) of a one-line body. */
function fieldAt(body, column) {
  const known = Object.entries(body);
  let end = 0;
  for (const [name, value] of known) {
    end += utf8.encode(`,${JSON.stringify(name)}:${JSON.stringify(value)}`).length;
    if (end >= column) return name;
  }
  return known.at(-1)?.[0] ?? null;
}

function headline(status, rule, type) {
  if (rule) return `✕ Refused by the rule “${rule}”`;
  if (status === 503 && type !== "urn:diptych:outcome-unknown") return "✕ Not now";
  return {
    0: "The server cannot be reached", 400: "✕ Not a valid command", 403: "✕ Not allowed",
    404: "✕ There is no such command", 409: "✕ Something else came first",
    413: "✕ Too large", 422: "✕ Refused", 503: "The outcome is not known",
  }[status] ?? "✕ That did not work";
}

function advice(isUnknown) {
  return isUnknown
    ? "It may have been carried out. Sent again with the same key, it is carried out once."
    : "Nothing was written.";
}
