// The time that the page shows: the present, or a past instant from the slider, the input or Play.
import { correct, goTo, inAddress, onStep } from "./address.js";
import { showClock, showMode, showNoClock } from "./clock.js";
import { $, say } from "./dom.js";
import { dayOf, fromInput, instant, momentOf, toInput } from "./words.js";

const STEP_MS = 10 * 60 * 1000;
const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
const TICK_MS = 100;
const SETTLE_MS = 350;

/** The address of a present that the reader chose. Without it, the page may choose a replay. */
const PRESENT = "now";

/** `at` is null for the present. `onMove` gets every move, `onSettle` only the last of a series. */
export function startTime({ onMove, onSettle }) {
  const slider = $("time");
  let first = null;
  let last = null;
  let at = null;
  let isChosen = inAddress("at") !== null;
  /** How the next settled time gets into the address: as a step of the history or not. */
  let write = correct;
  /** Whether the log is known to have no flight of the data, and so no time. */
  let isEmpty = false;
  let playing = 0;
  let settling = 0;
  let connection = "connecting";
  /** Cached, because reading it makes the browser lay out the page. */
  let width = slider.clientWidth;

  /** The period that the log covers. Its end moves as the log grows. */
  function range(from, to) {
    isEmpty = !from || !to;
    if (isEmpty) {
      showNoClock();
      mode();
      return;
    }
    const start = Math.floor(Date.parse(from) / STEP_MS) * STEP_MS;
    if (Date.parse(to) === last && start === first) return;
    const isFirst = first === null;
    first = start;
    last = Date.parse(to);
    slider.max = String(Math.ceil((last - first) / STEP_MS));
    slider.disabled = $("play").disabled = $("time-input").disabled = false;
    $("time-input").min = toInput(first);
    $("time-input").max = toInput(last);
    slider.dataset.first = instant(first);
    slider.dataset.last = instant(last);
    drawTicks();
    if (isFirst && inAddress("at") !== null) put(timeInAddress());
    place();
  }

  /** The time in the address. Without one, or with a text that is no time, it is the present. */
  function timeInAddress() {
    const then = fromInput(inAddress("at") ?? "");
    return Number.isNaN(then) ? null : then;
  }

  /** Called when the reader moves the time. */
  function move(to) {
    isChosen = true;
    write = goTo;
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
    say($("time-said"), at === null ? "The page shows now"
      : `The page shows ${momentOf(at)}`);
    // A time that the page chose, or that the address had already, is no step of the history.
    write({ at: at !== null ? toInput(at) : isChosen ? PRESENT : null });
    write = correct;
    onSettle(at);
  }

  function place() {
    slider.value = at === null ? slider.max : String(Math.round((at - first) / STEP_MS));
    const part = Number(slider.value) / Math.max(1, Number(slider.max));
    slider.style.setProperty("--part", `${part * 100}%`);
    const shown = at ?? last;
    slider.setAttribute("aria-valuetext",
      at === null ? `now, ${momentOf(shown)}` : momentOf(shown));
    if (document.activeElement !== $("time-input")) $("time-input").value = toInput(shown);
    $("now").disabled = at === null;
    if (at !== null) showClock(at);
    mode();
  }

  function mode() {
    showMode({ at, last, isEmpty, isPlaying: playing !== 0, connection });
  }

  /** Called when the connection to the server comes or goes. */
  function connected(state) {
    connection = state;
    mode();
  }

  /** Moves the time on until the end of the log, or until `end`. */
  function play(end = Infinity) {
    if (first === null) return;
    clearInterval(playing);
    let spare = 0;
    if (at === null) put(Math.min(first + DAY_MS, last - 1));
    else onMove(at);
    playing = setInterval(() => {
      if (document.hidden) return;
      spare += (Number($("speed").value) * 1000 * TICK_MS) / 1000;
      const steps = Math.floor(spare / 60000) * 60000;
      if (steps === 0) return;
      spare -= steps;
      put(Math.min(at + steps, end));
      if (at !== null && at >= end) stop();
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
    mode();
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
  $("play").addEventListener("click", () => {
    isChosen = true;
    write = goTo;
    if (playing) stop();
    else play();
  });
  $("more").addEventListener("click", () => {
    const isOpen = $("bar").classList.toggle("open");
    $("more").setAttribute("aria-expanded", String(isOpen));
  });
  window.addEventListener("resize", () => {
    width = slider.clientWidth;
    if (first !== null) drawTicks();
  });
  onStep((changed) => {
    if (!changed.has("at")) return;
    isChosen = true;
    if (playing) stop();
    put(timeInAddress());
  });

  function now() {
    if (playing) stop();
    move(null);
  }

  return {
    range, move, put, now, connected, play, stop: () => playing && stop(),
    at: () => at, first: () => first, last: () => last,
    isChosen: () => isChosen,
    isPlaying: () => playing !== 0,
    isEmpty: () => isEmpty,
    /** The time that the page shows, also at the present; null as long as no flight is known. */
    shown: () => at ?? last,
  };
}
