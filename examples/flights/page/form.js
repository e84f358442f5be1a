// The form that sends commands, and shows the receipt or the refusal.
import { ask, headersOf, Problem, send } from "./api.js";
import { statusOf, whereOn } from "./board.js";
import { $, fact, h, say } from "./dom.js";
import {
  airportName, airports, count, fromInput, instant, millis, momentOf, sentence, toInput,
} from "./words.js";

const MINUTE_MS = 60 * 1000;
const HOUR_MS = 60 * MINUTE_MS;
/** The data has no flight numbers from here on. */
const FIRST_FREE_NUMBER = 9001;
const MOST_TRIES = 60;
/** Suggested times: a flight departs a little late, and lands or is diverted later. */
const LEAVES_AFTER_MS = 4 * MINUTE_MS;
const MILES_A_MINUTE = 7.5;
const USUAL_MILES = 1000;
/** A tail number that is not in the data. */
const OWN_PLANE = "N9DIPT";
const FIELDS = ["flight", "destination", "departs_at", "at", "plane", "distance_miles",
  "arrival_delay_minutes"];
const DONE = {
  "schedule-flight": "is scheduled", "depart-flight": "has departed",
  "land-flight": "has landed", "cancel-flight": "is cancelled", "divert-flight": "is diverted",
};

/** The status that a flight must have before each command. */
const STATUS_BEFORE = {
  "depart-flight": "scheduled", "cancel-flight": "scheduled",
  "land-flight": "departed", "divert-flight": "departed",
};

/** `clock` returns the present on the log's clock, `board` the state of the board. */
export function startForm({ clock, board, onShow, onFlight }) {
  const form = $("command-form");
  const input = Object.fromEntries(FIELDS.map((name) => [name, $(`field-${name}`)]));
  let isTouched = false;
  let own = null;
  let number = FIRST_FREE_NUMBER;
  let free = { of: "", flight: "" };
  let suggested = 0;
  let key = crypto.randomUUID();

  const command = () => new FormData(form).get("command");
  const now = () => Math.ceil((clock() ?? Date.now()) / MINUTE_MS) * MINUTE_MS;

  /** Fills an untouched form with a valid command for the present. */
  async function suggest() {
    const name = command();
    const mine = ++suggested;
    showFields(name);
    isTouched = false;
    clearErrors();
    const values = name === "schedule-flight" ? await newFlight() : await nextChange(name);
    // The query took a moment. Input from the meantime stays.
    if (mine !== suggested || isTouched) return;
    fill(values);
  }

  function fill(values) {
    for (const [field, value] of Object.entries(values)) input[field].value = value;
    hints();
    preview();
  }

  async function newFlight() {
    const departsAt = Math.ceil((now() + HOUR_MS) / (5 * MINUTE_MS)) * 5 * MINUTE_MS;
    return {
      flight: await freeFlight(board.airport(), toInput(departsAt).slice(0, 10)),
      departs_at: toInput(departsAt), destination: "SFO", plane: "", distance_miles: "",
    };
  }

  /** Cached for each number, airport and day, because suggestions are frequent. */
  async function freeFlight(origin, day) {
    const of = () => `${number}-${origin}-${day}`;
    if (free.of !== of()) {
      const flight = await findFree(origin, day);
      free = { of: of(), flight };
    }
    return free.flight;
  }

  async function findFree(origin, day) {
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const flight = `UA${number}-${origin}-${day}`;
      try {
        if ((await ask("flight-card", { flight })).answer === null) return flight;
      } catch (problem) {
        console.info("a free number could not be asked for", problem);
        return flight;
      }
      number += 1;
    }
    return `UA${number}-${origin}-${day}`;
  }

  async function nextChange(name) {
    const wanted = STATUS_BEFORE[name];
    const current = await boardOfNow();
    offer(current.rows.filter((row) => row.status === wanted), current.rows);
    const row = own?.status === wanted ? own : nextRow(current, wanted);
    return {
      flight: row?.flight ?? "", plane: row?.plane ?? "", at: toInput(changeAt(name, row)),
      arrival_delay_minutes: "0",
    };
  }

  /** Commands concern the present, even if the board shows the past. */
  async function boardOfNow() {
    const shown = board.shown();
    if (shown?.isNow && shown.airport === board.airport()) return shown;
    try {
      return (await ask("departure-board", { airport: board.airport() })).answer;
    } catch (problem) {
      console.info("the board of now could not be asked for", problem);
      return { rows: [], at: null };
    }
  }

  /** The suggested time: after the scheduled departure, plus a flight time by distance. */
  function changeAt(name, row) {
    if (!row || name === "cancel-flight") return now();
    if (name === "depart-flight") {
      return Math.max(now(), Date.parse(row.departs_at) + LEAVES_AFTER_MS);
    }
    const minutes = Math.round((row.distance_miles ?? USUAL_MILES) / MILES_A_MINUTE);
    const departedAt = Date.parse(row.departed_at ?? row.departs_at);
    return Math.max(now(), departedAt + minutes * MINUTE_MS);
  }

  function nextRow({ rows: all, at }, status, other = () => true) {
    const rows = all.filter((row) => row.status === status && other(row));
    if (status === "scheduled") return rows.find((row) => row.departs_at >= at) ?? rows[0];
    return rows.at(-1);
  }

  function showFields(name) {
    for (const field of form.querySelectorAll("[data-for]")) {
      field.hidden = !field.dataset.for.split(" ").includes(name);
    }
    offer([], board.shown()?.rows ?? []);
  }

  /** Values to choose from. */
  function offer(flights, rows) {
    $("flights").replaceChildren(...flights.map((row) =>
      h("option", { value: row.flight, label: `to ${airportName(row.destination)}` })));
    const planes = new Set(rows.map((row) => row.plane).filter(Boolean));
    $("planes").replaceChildren(...[...planes].map((plane) => h("option", { value: plane })));
  }

  function learnAirports() {
    $("destinations").replaceChildren(...Object.entries(airports()).map(([code, { name }]) =>
      h("option", { value: code, label: name })));
    hints();
  }

  /** The command in the fields. A value that does not parse is sent as typed. */
  function body() {
    const time = (text) => {
      const ms = fromInput(text);
      return Number.isNaN(ms) ? text : instant(ms);
    };
    const amount = (text) => (text.trim() === "" ? null : Number(text));
    const read = {
      flight: () => input.flight.value.trim(),
      destination: () => input.destination.value.trim(),
      departs_at: () => time(input.departs_at.value),
      at: () => time(input.at.value),
      plane: () => input.plane.value.trim() || null,
      distance_miles: () => amount(input.distance_miles.value),
      arrival_delay_minutes: () => amount(input.arrival_delay_minutes.value),
    };
    const names = FIELDS.filter((name) => !input[name].closest(".field").hidden);
    return Object.fromEntries(names.map((name) => [name, read[name]()]));
  }

  function request() {
    const content = body();
    return { name: command(), body: content, key, occurredAt: occurredAt(content) };
  }

  /** The time of the fact: the one in the command, or for a new flight one before its departure. */
  function occurredAt({ at, departs_at: departsAt }) {
    const latest = clock() ?? Date.now();
    if (!Number.isNaN(Date.parse(at))) return at;
    const departs = Date.parse(departsAt);
    return instant(departs < latest ? departs - HOUR_MS : latest);
  }

  function preview() {
    const { name, body: content, occurredAt } = request();
    const headers = Object.entries(headersOf(content, key, occurredAt));
    const head = headers.map(([header, value]) => `${header}: ${value}\n`).join("");
    say($("request"), `POST /commands/${name}\n${head}\n${JSON.stringify(content, null, 2)}`);
  }

  function hints() {
    const name = airports()[input.destination.value.trim()]?.name;
    say($("hint-destination"), name ?? "code of an airport");
  }

  async function submit(sent) {
    clearErrors();
    $("send-button").disabled = true;
    show("sending", h("p", { class: "empty" }, "Sending …"));
    const started = performance.now();
    try {
      const receipt = await send(sent.name, sent.body, sent.key, sent.occurredAt);
      await accepted(sent, receipt, performance.now() - started);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      refused(sent, problem);
    } finally {
      $("send-button").disabled = false;
      key = crypto.randomUUID();
      preview();
    }
  }

  async function accepted(sent, receipt, ms) {
    const again = sent.receipt === receipt.receipt;
    const said = h("p", { class: "hint" }, "Reading it back …");
    const next = sent.name === "schedule-flight" ? h("button", { type: "button",
      onclick: () => change("depart-flight") }, "Depart it now")
      : sent.name === "depart-flight" ? h("button", { type: "button",
        onclick: () => change("land-flight") }, "Land it") : "";
    show("accepted",
      h("h3", {}, again ? "The same receipt: it was carried out once" : "Accepted"),
      h("p", {}, `${sent.body.flight} ${DONE[sent.name]}. `
        + `Durable at position ${positions(receipt)}, answered in ${millis(ms)}.`),
      said,
      h("dl", { class: "facts" }, fact("Receipt", h("code", {}, receipt.receipt)),
        fact("Key", h("code", {}, sent.key))),
      h("div", { class: "actions" }, next,
        h("button", { type: "button", onclick: () => bringToSight(sent, "with the reader") },
          "Show it on the board"),
        h("button", { type: "button", class: "quiet",
          onclick: () => submit({ ...sent, receipt: receipt.receipt }) },
        "Send it again with the same key")));
    $("outcome").dataset.position = String(receipt.last);
    await readBack(sent.body.flight, receipt.receipt, said);
    bringToSight(sent, "quietly");
    if (!again && sent.name === "schedule-flight") number += 1;
    if (!again && !isTouchedSince(sent)) await suggest();
  }

  /** Moves the board to the flight. */
  function bringToSight({ body: content, occurredAt: at }, how) {
    if (own?.flight !== content.flight) return;
    const departsAt = Date.parse(own.departs_at);
    const latest = Math.max(clock() ?? 0, Date.parse(content.at ?? at));
    const where = whereOn(latest, departsAt);
    onShow(own.flight, where === "before" ? Math.max(departsAt, Date.parse(at)) : null, how);
    if (where === "after" && how === "quietly") {
      $("outcome").append(h("p", { class: "hint" },
        "The board shows eight hours ahead: this flight comes onto it later."));
    }
  }

  /** Asks with the receipt, so that the answer contains the write even if the view is behind. */
  async function readBack(flight, receipt, said) {
    try {
      const { answer, ms } = await ask("flight-card", { flight, _after: receipt });
      own = answer;
      const status = answer ? statusOf(answer, null) : null;
      say(said, answer === null ? "The card does not know it."
        : `Read back after the receipt: ${status.words.toLowerCase()}`
          + `${status.detail ? `, ${status.detail}` : ""}, `
          + `to depart ${momentOf(answer.departs_at)}; in ${millis(ms)}.`);
    } catch (problem) {
      say(said, `It could not be read back: ${problem.message}.`);
    }
  }

  const isTouchedSince = (sent) =>
    isTouched && JSON.stringify(body()) !== JSON.stringify(sent.body);

  function refused(sent, problem) {
    const { status, body: told } = problem;
    const isMalformed = told.type === "urn:diptych:malformed";
    const field = told.field ?? (isMalformed ? fieldAt(sent.body, told.column) : null);
    const words = isMalformed ? mistake(told.detail, field) : told.problem ?? problem.message;
    const facts = [];
    const rule = told.rejection?.rule;
    for (const [name, value] of Object.entries(told.rejection ?? {})) {
      const shown = typeof value === "string" ? value : JSON.stringify(value);
      const isFlight = name === "flight" && typeof value === "string";
      facts.push(fact(name, isFlight ? h("button", { type: "button", class: "link",
        onclick: () => onFlight(value) }, shown) : h("code", {}, shown)));
    }
    if (field) {
      facts.push(fact("field", h("code", {}, field)));
      fieldError(field, sentence(words));
    }
    const isUnknown = status === 503 || status === 0;
    show(rule ? "refused" : "failed",
      h("h3", {}, headline(status, rule, told.type)),
      h("p", {}, sentence(words)),
      h("p", { class: "hint" }, rule ? "No event of it is in the log." : advice(status)),
      h("dl", { class: "facts" }, ...facts, status ? fact("status", String(status)) : null),
      isUnknown ? h("div", { class: "actions" }, h("button", { type: "button",
        onclick: () => submit(sent) }, "Send it again with the same key")) : "");
    if (rule) $("outcome").dataset.rule = rule;
  }

  function fieldError(name, words) {
    const field = input[name];
    if (!field) return;
    field.setAttribute("aria-invalid", "true");
    $(`error-${name}`).hidden = false;
    say($(`error-${name}`), words);
    field.focus();
  }

  function clearErrors() {
    for (const name of FIELDS) {
      input[name].removeAttribute("aria-invalid");
      $(`error-${name}`).hidden = true;
    }
  }

  async function change(name) {
    form.querySelector(`[value=${name}]`).checked = true;
    await suggest();
    input.flight.focus();
  }

  /** The fault of a command that does not parse, without its place in the JSON text. */
  function mistake(detail, field) {
    if (input[field]?.type === "number") {
      return `${input[field].value} is not a whole number that can be`;
    }
    const begin = /^the command cannot be read: /;
    return detail.replace(begin, "").replace(/ at line \d+ column \d+$/, "");
  }

  /** Schedules a new flight if the data has no suitable one. Returns its id. */
  async function scheduleOwn(plane, departsAt) {
    const flight = await freeFlight(board.airport(), toInput(departsAt).slice(0, 10));
    number += 1;
    await send("schedule-flight", {
      flight, departs_at: instant(departsAt), destination: "SFO", plane, distance_miles: null,
    }, crypto.randomUUID(), instant(clock() ?? Date.now()));
    return flight;
  }

  /** Finds a plane in the air and a scheduled flight, or creates them. */
  async function planeInTheAir() {
    const current = await boardOfNow();
    let plane = nextRow(current, "departed", (row) => row.plane !== null)?.plane;
    let next = nextRow(current, "scheduled");
    if (!next) {
      const departsAt = now() + HOUR_MS;
      next = { flight: await scheduleOwn(null, departsAt), departs_at: instant(departsAt) };
    }
    if (!plane) {
      plane = OWN_PLANE;
      const flight = await scheduleOwn(plane, now() + 5 * MINUTE_MS);
      const at = instant(now() + 5 * MINUTE_MS + LEAVES_AFTER_MS);
      await send("depart-flight", { flight, plane, at }, crypto.randomUUID(), at);
    }
    return { plane, flight: next.flight, at: toInput(changeAt("depart-flight", next)) };
  }

  /** Fills the form with a command that a rule refuses, and sends it. */
  async function tryOut(name, values) {
    form.querySelector(`[value=${name}]`).checked = true;
    showFields(name);
    isTouched = true;
    fill(values);
    await submit(request());
  }

  /** A command that prepares the refusal may fail itself. Then its failure is shown. */
  async function prepared(name, prepare) {
    try {
      await tryOut(name, await prepare());
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      refused({ name, body: {} }, problem);
    }
  }

  $("try-twice").addEventListener("click", () => prepared("schedule-flight", async () => {
    const current = await boardOfNow();
    const row = nextRow(current, "scheduled") ?? current.rows[0];
    const departsAt = row ? Date.parse(row.departs_at) : now() + HOUR_MS;
    return {
      flight: row?.flight ?? await scheduleOwn(null, departsAt), departs_at: toInput(departsAt),
      destination: row?.destination ?? "SFO", plane: row?.plane ?? "", distance_miles: "",
    };
  }));
  $("try-in-the-air").addEventListener("click", () => prepared("depart-flight", planeInTheAir));
  $("fresh").addEventListener("click", () => {
    free = { of: "", flight: "" };
    suggest();
  });
  form.addEventListener("input", (event) => {
    if (event.target.name === "command") {
      suggest();
      return;
    }
    isTouched = true;
    hints();
    preview();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(request());
  });

  /** Updates an untouched form after the clock or the board moved. */
  function moved() {
    if (clock() === null) return;
    if (!isTouched && !form.contains(document.activeElement)) suggest();
  }

  return { moved, learnAirports };
}

function show(state, ...content) {
  $("outcome").dataset.state = state;
  delete $("outcome").dataset.rule;
  delete $("outcome").dataset.position;
  $("outcome").replaceChildren(...content);
}

function positions({ first, last }) {
  return first === last ? count(last) : `${count(first)} to ${count(last)}`;
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

function advice(status) {
  if (status === 503 || status === 0) {
    return "It may have been carried out. Sent again with the same key, it is carried out once.";
  }
  return "Nothing was written.";
}
