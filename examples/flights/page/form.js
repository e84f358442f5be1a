// The form that sends commands. Its fields come from the server's OpenAPI document.
import { headersOf, openapi, Problem, send } from "./api.js";
import { whereOn } from "./board.js";
import { $, h, say } from "./dom.js";
import { startFields } from "./fields.js";
import { showAccepted, showRefused, showSending } from "./outcome.js";
import { FIRST_MORNING_MS, HOUR_MS, startSuggestions } from "./suggest.js";
import { readBackWords } from "./trip.js";
import { airportName, flightName, instant, sentence, spokenOf } from "./words.js";

const MINUTE_MS = 60 * 1000;
/** The command that follows on one that was accepted, and its words about a flight. */
const NEXT = {
  "schedule-flight": ["depart-flight", (flight) => `Depart ${flight} now`],
  "depart-flight": ["land-flight", (flight) => `Land ${flight}`],
};

/** `time` is the clock of the page, `board` the state of the board. */
export function startForm({ time, board, trip, onShow, onFlight, onAccepted }) {
  const form = $("command-form");
  const fields = startFields();
  const suggestions = startSuggestions({ time, board });
  let isTouched = false;
  let own = null;
  let suggested = 0;
  let hasFailed = false;
  let key = crypto.randomUUID();

  const command = () => new FormData(form).get("command");

  /** Draws the form from the server's document. */
  async function learn() {
    hasFailed = false;
    try {
      if (!fields.learn(await openapi())) throw new Error("the document has no command");
      form.classList.remove("waiting");
      fields.learnAirports();
      say($("form-trouble"), "");
      moved();
    } catch (problem) {
      hasFailed = true;
      say($("form-trouble"), "The form is made from the server’s document of its commands, which "
        + `could not be read: ${problem.message}. `);
      $("form-trouble").append(h("button", { type: "button", class: "link", onclick: learn },
        "Try again"));
    }
  }

  /** Fills an untouched form with a valid command for the time of the page. */
  async function suggest() {
    const name = command();
    const mine = ++suggested;
    fields.show(name);
    fields.offer([], board.shown()?.rows ?? []);
    isTouched = false;
    fields.clearErrors();
    const values = name === "schedule-flight" ? await suggestions.newFlight()
      : await suggestions.nextChange(name, own, fields.offer);
    // The query took a moment. Input from the meantime stays.
    if (mine !== suggested || isTouched) return;
    fill(values);
  }

  function fill(values) {
    fields.fill(values);
    preview();
    sayQuick();
  }

  function request() {
    const content = fields.body();
    return { name: command(), body: content, key, occurredAt: occurredAt(content) };
  }

  /**
   * The time of the fact: the one in the command, or for a new flight one before its departure. It
   * is before the time of the page, so that the page shows it there.
   */
  function occurredAt({ at, departs_at: departsAt }) {
    if (!Number.isNaN(Date.parse(at))) return at;
    const latest = (time.shown() ?? FIRST_MORNING_MS) - MINUTE_MS;
    const departs = Date.parse(departsAt);
    return instant(departs < latest ? departs - HOUR_MS : latest);
  }

  function preview() {
    const { name, body: content, occurredAt } = request();
    const headers = Object.entries(headersOf(content, key, occurredAt));
    const head = headers.map(([header, value]) => `${header}: ${value}\n`).join("");
    say($("request"), `POST /commands/${name}\n${head}\n${JSON.stringify(content, null, 2)}`);
  }

  /** The suggested command in the left panel, for a reader who has not come to the form yet. */
  function sayQuick() {
    const { name, body: content } = request();
    $("quick-send").disabled = !content.flight;
    if (!content.flight) return;
    const flight = flightName(content.flight);
    const when = (at) => (Number.isNaN(Date.parse(at)) ? "" : `, ${spokenOf(at)}`);
    say($("quick-words"), name === "schedule-flight"
      ? `Schedule ${flight} to ${airportName(content.destination)}${when(content.departs_at)}`
      : `${sentence(name.split("-")[0]).slice(0, -1)} ${flight}${when(content.at)}`);
  }

  /** `place` is where the reader sees the way of the command. */
  async function submit(sent, place = null) {
    // The page stands still while its reader follows a command.
    time.stop();
    fields.clearErrors();
    $("send-button").disabled = $("quick-send").disabled = true;
    showSending();
    trip.begin(sent);
    const started = performance.now();
    try {
      const receipt = await send(sent.name, sent.body, sent.key, sent.occurredAt);
      await accepted(sent, receipt, performance.now() - started, place);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      refused(sent, problem);
    } finally {
      $("send-button").disabled = $("quick-send").disabled = false;
      key = crypto.randomUUID();
      preview();
    }
  }

  async function accepted(sent, receipt, ms, place) {
    const isAgain = sent.receipt === receipt.receipt;
    const [next, wordsOf] = NEXT[sent.name] ?? [];
    const words = wordsOf?.(flightName(sent.body.flight));
    const said = showAccepted({
      sent, receipt, ms, isAgain,
      next: next ? { words, act: () => change(next) } : null,
      onBoard: () => bringToSight(sent, "with the reader"),
      onAgain: () => submit({ ...sent, receipt: receipt.receipt }),
    });
    sayNext(next, words);
    own = await trip.accepted(sent, receipt, ms, isAgain) ?? own;
    place?.scrollIntoView({ block: "nearest" });
    say(said, readBackWords(own?.flight === sent.body.flight ? own : null));
    onAccepted();
    bringToSight(sent, "quietly");
    if (!isAgain && sent.name === "schedule-flight") suggestions.used();
    if (!isAgain && !isTouchedSince(sent)) await suggest();
  }

  /** Moves the page to a time at which the board has the fact. */
  function bringToSight({ body: content, occurredAt: at }, how) {
    if (own?.flight !== content.flight) return;
    const fact = Date.parse(content.at ?? at);
    const departsAt = Date.parse(own.departs_at);
    const shown = Math.max(time.shown() ?? 0, fact);
    if (time.at() !== null) {
      // At the fact's own time the board does not have it yet.
      const isNow = time.at() > fact && whereOn(time.at(), departsAt) === "on";
      onShow(own.flight, isNow ? time.at() : fact + 10 * MINUTE_MS, how);
      return;
    }
    const where = whereOn(shown, departsAt);
    onShow(own.flight, where === "before" ? Math.max(departsAt, Date.parse(at)) + 10 * MINUTE_MS
      : null, how);
    if (where === "after" && how === "quietly") {
      $("outcome").append(h("p", { class: "hint" },
        "The board shows eight hours ahead: this flight comes onto it later."));
    }
  }

  const isTouchedSince = (sent) =>
    isTouched && JSON.stringify(fields.body()) !== JSON.stringify(sent.body);

  function refused(sent, problem) {
    const { field, words, rule } = showRefused({
      sent, problem, onFlight, isNumber: fields.isNumber, onAgain: () => submit(sent),
    });
    if (field) fields.showError(field, sentence(words));
    if (rule) trip.refused(sent, rule, words);
    else trip.failed(sent, words);
    onAccepted();
  }

  async function change(name) {
    await choose(name);
    fields.input("flight")?.focus();
  }

  async function choose(name) {
    form.querySelector(`[value=${name}]`).checked = true;
    await suggest();
  }

  /** What the flight can do next, in the left panel. */
  function sayNext(next, words) {
    $("quick-next").hidden = !next;
    say($("quick-next"), words ?? "");
    $("quick-next").onclick = async () => {
      await choose(next);
      await submit(request(), $("trip"));
    };
  }

  /** Fills the form with a command that a rule refuses, and sends it. */
  async function tryOut(name, values) {
    form.querySelector(`[value=${name}]`).checked = true;
    fields.show(name);
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

  $("try-twice").addEventListener("click", () => prepared("schedule-flight", suggestions.twice));
  $("try-in-the-air").addEventListener("click", () =>
    prepared("depart-flight", suggestions.planeInTheAir));
  $("fresh").addEventListener("click", () => {
    suggestions.another();
    suggest();
  });
  $("quick-send").addEventListener("click", async () => {
    // The time may have moved since the suggestion.
    if (!isTouched) await suggest();
    await submit(request(), $("trip"));
  });
  form.addEventListener("input", (event) => {
    if (event.target.name === "command") {
      suggest();
      return;
    }
    isTouched = true;
    fields.nameAirport();
    preview();
    sayQuick();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (fields.isKnown()) submit(request());
  });

  /** Updates an untouched form after the clock or the board moved. */
  function moved() {
    if ((time.shown() === null && !time.isEmpty()) || !fields.isKnown()) return;
    if (!isTouched && !form.contains(document.activeElement)) suggest();
  }

  /** Tries again, after the connection came back. */
  function learnIfUnknown() {
    if (hasFailed) learn();
  }

  return { moved, learn, learnIfUnknown, learnAirports: fields.learnAirports };
}
