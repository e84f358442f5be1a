// The live picture of the diptych: commands on the left, views on the right, the log between them.
import { $, h, s, say } from "./dom.js";
import { isRefusal } from "./feed.js";
import { startViews } from "./views.js";
import {
  count, flightName, inLocalTime, millis, plural, rate, spokenOf,
} from "./words.js";

const KEPT_SECONDS = 60;
/** A rate is a mean over this many seconds, so that it changes slowly enough to read. */
const SMOOTH_SECONDS = 5;
const MOST_DOTS = 6;
const SHOWN_LATEST = 5;

export function startDiptych() {
  const views = startViews();
  const seen = [];
  let peak = 0;
  let live = null;
  let isPast = false;
  let pastTotal = null;

  function status(answer) {
    seen.push({ at: performance.now(), answer });
    if (seen.length > KEPT_SECONDS + 1) seen.shift();
    views.draw(answer, perSecond);
    const before = seen.at(-2);
    if (before) {
      const seconds = (seen.at(-1).at - before.at) / 1000;
      peak = Math.max(peak, (answer.log.head - before.answer.log.head) / seconds);
    }
    if (isPast) {
      sayHead();
      return;
    }
    drawPresent();
    if (before) flow(answer.log.head - before.answer.log.head);
  }

  /** The head, under the figure of the past. */
  function sayHead() {
    if (seen.length === 0) return;
    say($("head-now"), `The head is at ${count(seen.at(-1).answer.log.head)}.`);
  }

  /** Figures that were zero all the time are hidden. */
  function drawPresent() {
    const { answer } = seen.at(-1);
    figure("conflicts", answer.commands.conflicts, count);
    figure("command-rate", perSecond((a) => a.commands.accepted), rate);
    say($("head-label"), "head, the newest position");
    say($("head"), count(answer.log.head));
    const now = perSecond((a) => a.log.head);
    say($("event-rate"), rate(now));
    $("rate").hidden = false;
    say($("peak"), peak > 0 ? `at most ${rate(peak)} since you opened the page` : "at rest");
    drawPulse();
  }

  function figure(id, value, words) {
    if (value > 0) $(id).dataset.seen = "true";
    say($(id), words(value));
    $(id).parentElement.hidden = isPast || $(id).dataset.seen !== "true";
  }

  function happenings(answer) {
    // The status counts from the start of the server, the view from the start of the log.
    live = answer;
    if (!isPast) drawFigures(answer);
  }

  function drawFigures(answer) {
    say($("accepted"), count(answer.accepted));
    say($("refused"), count(answer.refused));
    const latest = answer.recent.filter((item) => item.flight).slice(0, SHOWN_LATEST)
      .map((item) => h("li", { class: isRefusal(item) ? "refused" : null },
        h("b", {}, `${isRefusal(item) ? "✕ " : ""}${flightName(item.flight)}`),
        ` ${inLocalTime(item.text)}`));
    $("latest").replaceChildren(...(latest.length ? latest : [h("li", {}, "nothing yet")]));
  }

  /** The time of the page moved. */
  function moved(at) {
    if ((at !== null) === isPast) return;
    isPast = at !== null;
    pastTotal = null;
    $("past-cost").hidden = $("head-now").hidden = !isPast;
    sayHead();
    if (isPast) {
      $("diptych-panels").dataset.stale = "true";
      for (const id of ["conflicts", "command-rate"]) $(id).parentElement.hidden = true;
      say($("past-cost"), "Asking the log …");
      return;
    }
    delete $("diptych-panels").dataset.stale;
    if (live) drawFigures(live);
    if (seen.length > 0) drawPresent();
  }

  /** Figures as of an earlier time. */
  function past({ answer, events, ms }, at) {
    if (!isPast) return;
    delete $("diptych-panels").dataset.stale;
    drawFigures(answer);
    const total = answer.accepted + answer.refused;
    say($("head-label"), "events before this time");
    say($("head"), count(total));
    $("rate").hidden = true;
    say($("past-cost"), `These views stand at the end of the log. For ${spokenOf(at)}, the server `
      + `folded ${plural(events, "event", "events")} again, in ${millis(ms)}.`);
    if (pastTotal !== null) flow(total - pastTotal);
    pastTotal = total;
  }

  function troubledPast(problem) {
    if (!problem || !isPast) return;
    $("diptych-panels").dataset.stale = "true";
    say($("past-cost"), `The past could not be asked: ${problem.message}.`);
  }

  function perSecond(of) {
    const newest = seen.at(-1);
    const oldest = seen.at(-1 - Math.min(SMOOTH_SECONDS, seen.length - 1));
    const seconds = (newest.at - oldest.at) / 1000;
    const [a, b] = [of(oldest.answer), of(newest.answer)];
    return seconds > 0 && Number.isFinite(b - a) ? Math.max(0, (b - a) / seconds) : 0;
  }

  /** Draws the events per second of the last minute as a small area chart. */
  function drawPulse() {
    const rates = [];
    for (let i = 1; i < seen.length; i += 1) {
      const seconds = (seen[i].at - seen[i - 1].at) / 1000;
      rates.push(Math.max(0, seen[i].answer.log.head - seen[i - 1].answer.log.head) / seconds);
    }
    const most = Math.max(0, ...rates);
    $("pulse").toggleAttribute("hidden", most === 0);
    if (most === 0) return;
    const step = 120 / KEPT_SECONDS;
    const from = 120 - rates.length * step;
    const points = rates.map((n, i) => `${from + (i + 1) * step},${31 - (n / most) * 29}`);
    $("pulse").replaceChildren(
      s("polygon", { points: `${from + step},32 ${points.join(" ")} 120,32` }),
      s("polyline", { points: points.join(" ") }));
    $("pulse").setAttribute("aria-label",
      `Events a second in the last minute: now ${rate(rates.at(-1))}, at most ${rate(most)}`);
  }

  /** Called when the connection to the server comes or goes. */
  function connected(state) {
    if (state === "lost") views.lost();
  }

  return { status, happenings, moved, past, troubledPast, connected };
}

/** Dots that move from the commands through the log to the views. One stands for many events. */
export function flow(events) {
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
