// The charts of the page: when they are asked for, and for which time.
import { ask } from "./api.js";
import { $, h, say, table } from "./dom.js";
import { startHours } from "./hours.js";
import { startPunctuality } from "./punctuality.js";
import { startRoutes } from "./routes.js";
import { startWeather } from "./weather.js";
import { decimal, instant, millis, spokenOf } from "./words.js";

/** Pause between two rounds of queries, while the log grows or the time moves. */
const BETWEEN_MS = 3000;
/** The charts are further down, so they are first asked for after the rest of the page. */
const FIRST_MS = 800;

/** `isInSight` tells whether a reader can see the charts. */
export function startPictures({ time, isInSight }) {
  const hours = startHours({ time });
  const charts = [startPunctuality(), startRoutes(), hours, startWeather()];
  let head = 0;
  let shown = null;
  let isAsking = false;
  /** Whether the charts may be of several times, because not all of them were answered. */
  let hasFailed = false;
  /** The sentence on the charts that are shown. */
  let words = "";

  let pausesUntil = 0;

  const wanted = () => (time.at() === null ? `head ${head}` : `at ${time.at()}`);

  /** Asks for the charts of the page's time, unless they are drawn or out of sight. */
  async function look() {
    if (time.isEmpty()) {
      say($("pictures-state"), "The charts are drawn once a flight of the data is in the log.");
    }
    $("gallery").hidden = time.isEmpty();
    if (time.shown() === null) return;
    if (wanted() === shown && !hasFailed) {
      if (!isAsking) unmark();
      return;
    }
    markStale();
    if (isAsking || document.hidden || (shown !== null && !isInSight())) return;
    const pause = pausesUntil - performance.now();
    if (pause > 0 && (time.isPlaying() || !isOtherMode())) {
      setTimeout(look, pause);
      return;
    }
    isAsking = true;
    const [mine, at] = [wanted(), time.at()];
    const past = at === null ? {} : { _occurred_before: instant(at) };
    const started = performance.now();
    const answered = await Promise.all(charts.map((chart) => chart.load(past)));
    isAsking = false;
    pausesUntil = performance.now() + BETWEEN_MS;
    hasFailed = !answered.every(Boolean);
    if (hasFailed) {
      markLost();
      if (mine !== wanted()) look();
      return;
    }
    shown = mine;
    const took = millis(performance.now() - started);
    words = at === null
      ? "The charts show the present, and are drawn again as events come."
      : `The charts show what was so before ${spokenOf(at)}, folded from the log in ${took}.`;
    unmark();
    look();
  }

  /** Whether the charts show the present and the clock the past, or the other way round. */
  const isOtherMode = () => shown !== null && shown.slice(0, 2) !== wanted().slice(0, 2);

  function unmark() {
    delete $("gallery").dataset.stale;
    say($("pictures-state"), words);
  }

  /** Charts that could not be asked for the time of the clock. */
  function markLost() {
    $("gallery").dataset.stale = "true";
    say($("pictures-state"), "These charts may be of another time than the clock, because the "
      + "server does not answer. They are asked for again once it does.");
  }

  /** Charts of the present are no longer of the present without a connection. */
  function connected(state) {
    if (state === "open" && hasFailed) look();
    if (state !== "lost" || time.at() !== null || shown === null) return;
    hasFailed = true;
    markLost();
  }

  /** Charts of another time are grey, and a sentence says so. New events alone do not count. */
  function markStale() {
    if (hasFailed || shown === null || (time.at() === null && !isOtherMode())) return;
    $("gallery").dataset.stale = "true";
    say($("pictures-state"), "The log is asked for the charts of this time. Until then, these are "
      + `of ${shown.startsWith("at ") ? spokenOf(Number(shown.slice(3))) : "the end of the log"}.`);
  }

  /** Called once a second with the head of the log, and when the charts come into sight. */
  function grown(to) {
    head = to;
    if (shown === null) setTimeout(look, FIRST_MS);
    else if (time.at() === null || hasFailed) look();
  }

  return { look, grown, connected, airport: hours.setAirport };
}

/**
 * Asks queries and passes the answers to `show`. Only the newest of several answers is shown. The
 * function resolves to whether the newest was answered.
 */
export function loader(figure, queries, show) {
  let newest = null;
  const load = async (past, isNewest) => {
    try {
      const answers = await Promise.all(queries().map(([name, args]) =>
        ask(name, { ...args, ...past })));
      if (!isNewest()) return newest;
      figure.querySelector(".trouble")?.remove();
      figure.classList.remove("waiting");
      show(...answers.map(({ answer }) => answer));
      return true;
    } catch (problem) {
      if (!isNewest()) return newest;
      figure.querySelector(".trouble")?.remove();
      const words = `This could not be asked: ${problem.message}.`;
      figure.querySelector("figcaption").append(h("p", { class: "trouble" }, words));
      return false;
    }
  };
  return (past = {}) => {
    const mine = load(past, () => newest === mine);
    newest = mine;
    return mine;
  };
}

export function asTable(figure, ...content) {
  figure.querySelector(".as-table").replaceChildren(table(...content));
}

export function meanWords(minutes) {
  if (Math.abs(minutes) < 0.05) return "on time";
  return `${decimal(Math.abs(minutes))} min ${minutes > 0 ? "late" : "early"}`;
}
