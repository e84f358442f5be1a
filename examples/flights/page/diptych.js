// The live picture of the diptych: commands on the left, views on the right, the log between them.
import { $, h, s, say } from "./dom.js";
import { isRefusal } from "./stream.js";
import { bytes, count, inLocalTime, rate } from "./words.js";

const KEPT_SECONDS = 60;
/** A rate is a mean over this many seconds, so that it changes slowly enough to read. */
const SMOOTH_SECONDS = 5;
const MOST_DOTS = 6;
const SHOWN_LATEST = 5;

export function startDiptych() {
  const seen = [];
  const rows = new Map();

  function status(answer) {
    seen.push({ at: performance.now(), answer });
    if (seen.length > KEPT_SECONDS + 1) seen.shift();
    say($("conflicts"), count(answer.commands.conflicts));
    say($("head"), count(answer.log.head));
    say($("command-rate"), rate(perSecond((a) => a.commands.accepted)));
    say($("event-rate"), rate(perSecond((a) => a.log.head)));
    drawViews(answer);
    drawPulse();
    const before = seen.at(-2);
    if (before) flow(answer.log.head - before.answer.log.head);
  }

  function happenings(answer) {
    // The status counts from the start of the server, the view from the start of the log.
    say($("accepted"), count(answer.accepted));
    say($("refused"), count(answer.refused));
    const latest = answer.recent.slice(0, SHOWN_LATEST).map((item) => h("li",
      { class: isRefusal(item) ? "refused" : null },
      (isRefusal(item) ? "✕ " : "") + inLocalTime(item.text)));
    $("latest").replaceChildren(...(latest.length ? latest : [h("li", {}, "nothing yet")]));
  }

  function perSecond(of) {
    const newest = seen.at(-1);
    const oldest = seen.at(-1 - Math.min(SMOOTH_SECONDS, seen.length - 1));
    const seconds = (newest.at - oldest.at) / 1000;
    const [a, b] = [of(oldest.answer), of(newest.answer)];
    return seconds > 0 && Number.isFinite(b - a) ? Math.max(0, (b - a) / seconds) : 0;
  }

  function drawViews(answer) {
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
    $("views").querySelector(".empty")?.parentElement.remove();
    for (const follower of followers) {
      const row = rows.get(nameOf(follower)) ?? newRow(follower);
      const events = perSecond((a) => [...a.views, ...a.projections]
        .find((other) => other.name === follower.name)?.events);
      row.element.dataset.state = follower.state;
      say(row.state, follower.state);
      say(row.position, count(follower.position));
      say(row.lag, lagWords(follower));
      say(row.rate, rate(events));
      say(row.memory, follower.kind === "view" ? bytes(follower.bytes) : "on disk");
      row.element.classList.toggle("busy", events > 0);
    }
  }

  function newRow(follower) {
    const cell = (label) => h("td", { "data-label": label, role: "cell" });
    const row = {
      state: h("span", {}), position: cell("at"), lag: cell("lag"), rate: cell("events/s"),
      memory: cell("memory"),
    };
    row.element = h("tr", { "data-view": follower.name, "data-kind": follower.kind,
      role: "row" },
    h("th", { scope: "row", role: "rowheader" }, follower.name,
      follower.kind === "projection" ? h("small", {}, " projection") : ""),
    h("td", { class: "state", role: "cell" },
      h("span", { class: "lamp", "aria-hidden": "true" }), row.state),
    row.position, row.lag, row.rate, row.memory);
    rows.set(nameOf(follower), row);
    $("views").append(row.element);
    return row;
  }

  /** Draws the events per second of the last minute as a small area chart. */
  function drawPulse() {
    const rates = [];
    for (let i = 1; i < seen.length; i += 1) {
      const seconds = (seen[i].at - seen[i - 1].at) / 1000;
      rates.push(Math.max(0, seen[i].answer.log.head - seen[i - 1].answer.log.head) / seconds);
    }
    const most = Math.max(1, ...rates);
    const step = 120 / KEPT_SECONDS;
    const from = 120 - rates.length * step;
    const points = rates.map((n, i) => `${from + (i + 1) * step},${31 - (n / most) * 29}`);
    if (points.length === 0) return;
    $("pulse").replaceChildren(
      s("polygon", { points: `${from + step},32 ${points.join(" ")} 120,32` }),
      s("polyline", { points: points.join(" ") }));
    $("pulse").setAttribute("aria-label",
      `Events a second in the last minute: now ${rate(rates.at(-1))}, at most ${rate(most)}`);
  }

  return { status, happenings };
}

const nameOf = (follower) => `${follower.kind} ${follower.name}`;

function lagWords(follower) {
  if (!follower.lag_positions) return "none";
  const seconds = follower.lag_seconds ?? 0;
  return `${count(follower.lag_positions)}${seconds >= 1 ? ` · ${rate(seconds)} s` : ""}`;
}

/** Dots that move from the commands through the log to the views. One stands for many events. */
function flow(events) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (events <= 0 || still || document.hidden) return;
  const wire = $("wire");
  const isTall = wire.clientHeight > wire.clientWidth;
  const dots = Math.min(MOST_DOTS, Math.ceil(Math.log2(events + 1)));
  for (let i = 0; i < dots; i += 1) {
    const dot = h("i", {});
    wire.append(dot);
    const long = isTall ? wire.clientHeight : wire.clientWidth;
    const axis = isTall ? "Y" : "X";
    dot.animate(
      [
        { transform: `translate${axis}(0)`, opacity: 0 },
        { opacity: 1, offset: 0.15 },
        { opacity: 1, offset: 0.85 },
        { transform: `translate${axis}(${long}px)`, opacity: 0 },
      ],
      { duration: 900, delay: (i * 900) / dots, easing: "ease-in-out", fill: "backwards" },
    ).finished.then(() => dot.remove(), () => dot.remove());
  }
}
