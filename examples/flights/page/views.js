// The table of views and projections. A column is shown only while its values differ, because a
// column of equal values says less than one sentence.
import { $, h, say } from "./dom.js";
import { bytes, count, plural, rate } from "./words.js";

/** A column stays this long after its values are alike again, so that the table stands still. */
const COLUMN_STAYS_MS = 10_000;

/** The questions that each view answers. */
const QUESTIONS = {
  Board: "which flights leave, and where they are",
  Punctuality: "how late each airline is",
  Routes: "how busy and how late each route is",
  Planes: "where each plane flew",
  WeatherDelay: "how delays depend on the weather",
  Refusals: "what the rules refused",
  Happenings: "how much happened, and what last",
  Names: "names of airlines and airports",
  flights: "rows in SQLite, for reports",
};

export function startViews() {
  const rows = new Map();
  const differed = new Map();
  let said = null;
  // On a phone, the sentence above the table says enough.
  if (matchMedia("(max-width: 40rem)").matches) $("views-more").open = false;

  /** `eventsPerSecond` takes a function that finds a number in a status. */
  function draw(answer, eventsPerSecond) {
    const followers = [
      ...answer.views.map((view) => ({ ...view, kind: "view" })),
      ...answer.projections.map((projection) => ({ ...projection, kind: "projection" })),
    ];
    const wanted = new Set(followers.map(nameOf));
    for (const [name, row] of rows) {
      if (wanted.has(name)) continue;
      row.element.remove();
      rows.delete(name);
    }
    for (const line of $("views").querySelectorAll(".skeleton")) line.remove();
    for (const follower of followers) {
      follower.rate = eventsPerSecond((a) => [...a.views, ...a.projections]
        .find((other) => other.name === follower.name)?.events);
      const row = rows.get(nameOf(follower)) ?? newRow(follower);
      row.element.dataset.state = follower.state;
      row.element.title = follower.trouble ?? "";
      say(row.state, follower.state);
      say(row.position, count(follower.position));
      say(row.lag, lagWords(follower));
      say(row.rate, rate(follower.rate));
      say(row.memory, follower.kind === "view" ? bytes(follower.bytes) : "on disk");
      row.element.classList.toggle("busy", follower.rate > 0);
    }
    column("state", followers.map((follower) => follower.state));
    column("position", followers.map((follower) => follower.position));
    column("lag", followers.map((follower) => follower.lag_positions));
    column("rate", followers.map((follower) => rate(follower.rate)));
    said = summary(followers);
    say($("views-summary"), said);
    drawTrouble(followers);
  }

  function column(name, values) {
    if (new Set(values).size > 1) differed.set(name, performance.now());
    const isAlike = performance.now() - (differed.get(name) ?? -Infinity) > COLUMN_STAYS_MS;
    $("views-table").classList.toggle(`no-${name}`, isAlike);
  }

  function newRow(follower) {
    const cell = (name, label) => h("td", { class: name, "data-label": label, role: "cell" });
    const row = {
      state: h("span", {}), position: cell("position", "at"), lag: cell("lag", "lag"),
      rate: cell("rate", "events/s"), memory: cell("memory", "memory"),
    };
    const question = QUESTIONS[follower.name];
    row.element = h("tr", { "data-view": follower.name, "data-kind": follower.kind,
      role: "row" },
    h("th", { scope: "row", role: "rowheader" },
      h("span", { class: "lamp", "aria-hidden": "true" }), follower.name,
      h("small", {}, [follower.kind === "projection" ? "projection" : null, question]
        .filter(Boolean).join(": "))),
    h("td", { class: "state", role: "cell" }, row.state),
    row.position, row.lag, row.rate, row.memory);
    rows.set(nameOf(follower), row);
    $("views").append(row.element);
    return row;
  }

  /** Without a connection, the table stands still. */
  function lost() {
    if (said !== null) say($("views-summary"), `When the connection was lost, ${said}`);
  }

  return { draw, lost };
}

const nameOf = (follower) => `${follower.kind} ${follower.name}`;

function summary(followers) {
  const views = followers.filter((follower) => follower.kind === "view").length;
  const others = followers.length - views;
  const memory = followers.reduce((sum, follower) => sum + (follower.bytes ?? 0), 0);
  const behind = followers.filter((follower) => follower.lag_positions > 0);
  const names = `${plural(views, "view", "views")}`
    + (others > 0 ? ` and ${plural(others, "projection", "projections")}` : "");
  const positions = new Set(followers.map((follower) => follower.position));
  const where = behind.length > 0 ? `${count(behind.length)} behind the log`
    : positions.size === 1 ? `all at position ${count([...positions][0])}` : "none is behind";
  const states = new Set(followers.map((follower) => follower.state));
  const state = states.size === 1 ? `all ${[...states][0]}`
    : `${count(followers.filter((follower) => follower.state !== "live").length)} not live`;
  return `${names}: ${state}, ${where}, ${bytes(memory)} of memory.`;
}

/** A view that stands still answers from its last position, which a reader must know. */
function drawTrouble(followers) {
  const still = followers.filter((follower) => follower.trouble);
  $("views-trouble").hidden = still.length === 0;
  $("views-trouble").replaceChildren(...still.map((follower) => h("p", {},
    h("b", {}, `${follower.name} is ${follower.state}`),
    ` at position ${count(follower.position)}: ${follower.trouble}. `
      + "Commands still work. What this view shows stays as it was.")));
}

function lagWords(follower) {
  if (!follower.lag_positions) return "none";
  const seconds = follower.lag_seconds ?? 0;
  return `${count(follower.lag_positions)}${seconds >= 1 ? ` · ${rate(seconds)} s` : ""}`;
}
