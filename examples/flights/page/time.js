// The time that the page shows: the present, or a past instant from the slider, the input or Play.
import { $, say } from "./dom.js";
import { dayOf, fromInput, instant, longDayOf, timeOf, toInput, zoneOf } from "./words.js";

const STEP_MS = 10 * 60 * 1000;
const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
const TICK_MS = 100;
const SETTLE_MS = 350;

/** `at` is null for the present. `onMove` gets every move, `onSettle` only the last of a series. */
export function startTime({ onMove, onSettle }) {
  const slider = $("time");
  let first = null;
  let last = null;
  let at = null;
  let isChosen = false;
  let playing = 0;
  let settling = 0;
  let connection = "open";
  /** Cached, because reading it makes the browser lay out the page. */
  let width = slider.clientWidth;

  /** The period that the log covers. Its end moves as the log grows. */
  function range(from, to) {
    if (!from || !to) return;
    const start = Math.floor(Date.parse(from) / STEP_MS) * STEP_MS;
    const grown = Date.parse(to) !== last || start !== first;
    if (!grown) return;
    first = start;
    last = Date.parse(to);
    slider.max = String(Math.ceil((last - first) / STEP_MS));
    slider.disabled = false;
    $("time-input").min = toInput(first);
    $("time-input").max = toInput(last);
    slider.dataset.first = instant(first);
    slider.dataset.last = instant(last);
    drawTicks();
    place();
  }

  /** Called when the reader moves the time. */
  function move(to) {
    isChosen = true;
    put(to);
  }

  function put(to) {
    if (first === null) return;
    const next = to === null || to >= last ? null : Math.max(to, first);
    if (next === null && playing) stop();
    const changed = next !== at;
    at = next;
    place();
    if (changed) onMove(at);
    clearTimeout(settling);
    if (!playing) settling = setTimeout(settle, SETTLE_MS);
  }

  function settle() {
    say($("time-said"), at === null ? "The board shows now" : `The board shows ${words(at)}`);
    onSettle(at);
  }

  function place() {
    slider.value = at === null ? slider.max : String(Math.round((at - first) / STEP_MS));
    const part = Number(slider.value) / Math.max(1, Number(slider.max));
    slider.style.setProperty("--part", `${part * 100}%`);
    const shown = at ?? last;
    slider.setAttribute("aria-valuetext", at === null ? `now, ${words(shown)}` : words(shown));
    if (document.activeElement !== $("time-input")) $("time-input").value = toInput(shown);
    $("now").disabled = at === null;
    const mode = at === null ? "live" : "past";
    $("mode").dataset.mode = mode;
    showMode();
    document.documentElement.dataset.mode = mode;
    if (at !== null) showClock(at);
  }

  function showMode() {
    const live = connection === "open" ? "Live" : "Not live";
    say($("mode"), at === null ? live : "Past");
    $("mode").dataset.connection = connection;
  }

  /** Whether the page shows the present. */
  function connected(state) {
    connection = state;
    showMode();
  }

  function play() {
    if (first === null) return;
    let spare = 0;
    isChosen = true;
    if (at === null) put(Math.min(first + DAY_MS, last - 1));
    else onMove(at);
    playing = setInterval(() => {
      spare += (Number($("speed").value) * 1000 * TICK_MS) / 1000;
      const steps = Math.floor(spare / 60000) * 60000;
      if (steps === 0) return;
      spare -= steps;
      move(at + steps);
    }, TICK_MS);
    showPlaying();
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    showPlaying();
    clearTimeout(settling);
    settling = setTimeout(settle, SETTLE_MS);
  }

  function showPlaying() {
    say($("play"), playing ? "Pause" : "Play");
    $("play").dataset.playing = String(playing !== 0);
  }

  function drawTicks() {
    const span = last - first;
    const wanted = Math.max(2, Math.floor(width / 90));
    const days = [1, 2, 5, 7, 10, 14, 30, 61].find((n) => span / (n * DAY_MS) <= wanted) ?? 92;
    const key = `${first} ${days} ${Math.round(span / HOUR_MS)} ${width}`;
    if ($("ticks").dataset.key === key) return;
    $("ticks").dataset.key = key;
    const ticks = [];
    const midnight = fromInput(`${toInput(first + DAY_MS).slice(0, 10)}T00:00`);
    for (let tick = midnight; tick < last; tick += days * DAY_MS) {
      const mark = document.createElement("span");
      mark.textContent = dayOf(tick).replace(/^\S+ /, "");
      mark.style.setProperty("--part", String((tick - first) / span));
      ticks.push(mark);
    }
    $("ticks").replaceChildren(...ticks);
  }

  slider.addEventListener("input", () => {
    if (playing) stop();
    const value = Number(slider.value);
    move(value >= Number(slider.max) ? null : first + value * STEP_MS);
  });
  slider.addEventListener("keydown", (event) => {
    const arrows = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
    const pages = { PageUp: DAY_MS, PageDown: -DAY_MS };
    const by = pages[event.key] ?? (event.shiftKey ? (arrows[event.key] ?? 0) * HOUR_MS : 0);
    if (by === 0) return;
    event.preventDefault();
    if (playing) stop();
    move((at ?? last) + by);
  });
  $("time-input").addEventListener("change", () => {
    const chosen = fromInput($("time-input").value);
    if (playing) stop();
    if (!Number.isNaN(chosen)) move(chosen);
  });
  $("time-input").addEventListener("blur", () => first !== null && place());
  $("now").addEventListener("click", () => {
    $("play").focus();
    now();
  });
  $("earlier").addEventListener("click", () => {
    $("play").focus();
    move((at ?? last) - 12 * HOUR_MS);
  });
  $("play").addEventListener("click", () => (playing ? stop() : play()));
  window.addEventListener("resize", () => {
    width = slider.clientWidth;
    if (first !== null) drawTicks();
  });

  function now() {
    if (playing) stop();
    move(null);
  }

  return {
    range, move, put, now, connected,
    at: () => at, first: () => first, last: () => last,
    isChosen: () => isChosen,
  };
}

/** The large clock: the time of the live answer, or the chosen time. */
export function showClock(ms) {
  say($("clock-time"), timeOf(ms));
  say($("clock-day"), longDayOf(ms));
  say($("clock-zone"), `New York time (${zoneOf(ms)})`);
}

function words(ms) {
  return `${longDayOf(ms)}, ${timeOf(ms)} ${zoneOf(ms)}`;
}
