// Connects the parts of the page: events of the clock, of the log and of the reader.
import { goTo } from "./address.js";
import { ask, listen, watchConnection } from "./api.js";
import { startBoard } from "./board.js";
import { startCard } from "./card.js";
import { startDiptych } from "./diptych.js";
import { $, say } from "./dom.js";
import { startFeed } from "./feed.js";
import { startForm } from "./form.js";
import { startOpening } from "./opening.js";
import { startPast } from "./past.js";
import { startPictures } from "./pictures.js";
import { startPlane } from "./plane.js";
import { startRefusals } from "./refusals.js";
import { startTime } from "./time.js";
import { startTrip } from "./trip.js";
import { learnNames, learnYear } from "./words.js";

const FORM_MS = 2000;

const page = document.documentElement;
page.dataset.errors = "0";
for (const kind of ["error", "unhandledrejection"]) {
  // Counted for the tests. The browser still reports them.
  window.addEventListener(kind, () => (page.dataset.errors = String(+page.dataset.errors + 1)));
}

startTheme();

let inSight = false;
let formTimer = null;
let newest = 0;
let looking = 0;
let live = null;
let hasNames = true;
let knowRange = () => {};
/** Resolves when the first and the last time of the log are known, or that there is none. */
const rangeKnown = new Promise((resolve) => (knowRange = resolve));

// After a step back or forward the parts hear of it in this order, the time first.
const time = startTime({
  onMove(at) {
    opening.moved(at);
    board.show({ at });
    diptych.moved(at);
    feed.moved(at);
    past.moved(at);
    if (at === null && live) refusals.counted(live.refused, null);
    moveForm();
    pictures.look();
  },
  onSettle() {
    pictures.look();
    planeDay.settled();
    form.moved();
  },
});
const timeShown = () => time.at();
const card = startCard({ onPlane: (plane, row) => planeDay.go(plane, row), timeShown });
const planeDay = startPlane({ onFlight: card.open, timeShown, now: () => time.shown() });
const diptych = startDiptych();
const feed = startFeed({ onFlight: card.open });
const refusals = startRefusals({ onFlight: card.open, timeShown });
const trip = startTrip({ places: [$("trip"), $("outcome-trip")] });
const past = startPast({
  onAnswer(answered, at) {
    diptych.past(answered, at);
    feed.past(answered.answer, at);
    refusals.counted(answered.answer.refused, at);
  },
  onTrouble(problem) {
    diptych.troubledPast(problem);
    refusals.troubled(problem);
  },
});
const board = startBoard({
  onFlight: card.open,
  onPlane: (plane, row) => planeDay.go(plane, row),
  onAirport(airport) {
    pictures.airport(airport);
    form.moved();
  },
  onShown() {
    page.dataset.ready = "true";
    opening.look();
  },
});
const opening = startOpening({ time, board });
const pictures = startPictures({ time, isInSight: () => inSight });
const form = startForm({
  time, board, trip, onShow: showFlight, onFlight: card.open, onAccepted: () => past.again(),
});

watchConnection((state, ms) => {
  page.dataset.connection = state;
  time.connected(state);
  board.connected(state);
  diptych.connected(state);
  feed.connected(state);
  pictures.connected(state);
  $("connection").dataset.state = state;
  say($("connection"), {
    open: "Connected", connecting: "Connecting",
    lost: `Connection lost, trying again in ${Math.max(1, Math.round((ms ?? 0) / 1000))} s`,
  }[state]);
  if (state !== "open") return;
  past.again();
  // What could not be loaded at the start.
  if (!hasNames) learn();
  form.learnIfUnknown();
});
board.show({ at: null });
listen("happenings", { answer: happened, problem: troubled });
listen("status", { status: statusCame });
form.learn();
// A card or a plane in the address is of the time in the address, and has names.
Promise.all([learn(), rangeKnown]).then(() => {
  card.openFromAddress();
  planeDay.openFromAddress();
});

/** Loads the names of airports and airlines. Until they are there, the page shows codes. */
async function learn() {
  hasNames = true;
  try {
    learnNames((await ask("names")).answer);
    form.learnAirports();
    board.renamed();
  } catch (problem) {
    hasNames = false;
    console.warn("names are not known, codes are shown instead", problem);
  }
}

function happened({ answer }) {
  live = answer;
  if (answer.last) learnYear(answer.last);
  time.range(answer.first, answer.last);
  knowRange();
  page.dataset.log = answer.last ? "full" : "empty";
  diptych.happenings(answer);
  feed.happenings(answer);
  if (time.at() === null) refusals.counted(answer.refused, null);
  const fresh = answer.recent.filter((item) => item.position > newest);
  newest = Math.max(newest, ...fresh.map((item) => item.position));
  card.happened(new Set(fresh.map((item) => item.flight)));
  moveForm();
  if (!answer.last) return;
  opening.look();
  planeDay.settled();
}

function statusCame(answer) {
  pictures.grown(answer.log.head);
  diptych.status(answer);
  opening.status(answer);
}

/** Calls at once the first time, and later at intervals. */
function moveForm() {
  if (formTimer !== null) return;
  form.moved();
  formTimer = setTimeout(() => {
    formTimer = null;
    form.moved();
  }, FORM_MS);
}

function troubled(problem) {
  console.warn("a live query is in trouble", problem);
}

new IntersectionObserver((entries) => {
  inSight = entries.at(-1).isIntersecting;
  pictures.look();
}, { rootMargin: "50%" }).observe($("pictures"));
window.addEventListener("visibilitychange", () => pictures.look());

/**
 * Shows the board with the flight of a command, at the present or at `then`. With "quietly" the
 * page does not scroll.
 */
function showFlight(flight, then, how) {
  const airport = flight.split("-")[1];
  if (then === null) time.now();
  else if (then === time.at()) board.again();
  else time.move(then);
  if (airport !== board.airport()) {
    goTo({ airport });
    board.choose(airport);
  }
  if (how !== "quietly") {
    $("departures").focus({ preventScroll: true });
    document.querySelector(".hall").scrollIntoView();
  }
  clearInterval(looking);
  let tries = 40;
  looking = setInterval(() => {
    if (board.point(flight) || --tries === 0) clearInterval(looking);
  }, 100);
}

function startTheme() {
  const order = ["system", "light", "dark"];
  const button = $("theme");
  const chosen = () => page.dataset.theme ?? "system";
  const label = () => say(button, `Theme: ${chosen()}`);
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(chosen()) + 1) % order.length];
    if (next === "system") delete page.dataset.theme;
    else page.dataset.theme = next;
    label();
    try {
      localStorage.setItem("diptych-theme", next);
    } catch (error) {
      console.info("the theme is not remembered: storage is closed to this page", error);
    }
  });
  label();
}
