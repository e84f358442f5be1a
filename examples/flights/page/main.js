// Connects the parts of the page: events of the clock, of the log and of the reader.
import { ask, listen, watchConnection } from "./api.js";
import { startBoard } from "./board.js";
import { startCard } from "./card.js";
import { startDiptych } from "./diptych.js";
import { $, say } from "./dom.js";
import { startForm } from "./form.js";
import { startPictures } from "./pictures.js";
import { startPlane } from "./plane.js";
import { startRest } from "./rest.js";
import { startStream } from "./stream.js";
import { startTime } from "./time.js";
import { learnNames } from "./words.js";

/** Interval between refreshes of visible live charts while the log grows. */
const PICTURES_MS = 5000;
const FORM_MS = 2000;
/** Offset from the time of a fact to a board that shows it. */
const JUST_AFTER_MS = 10 * 60 * 1000;

const page = document.documentElement;
page.dataset.errors = "0";
for (const kind of ["error", "unhandledrejection"]) {
  // Counted for the tests. The browser still reports them.
  window.addEventListener(kind, () => (page.dataset.errors = String(+page.dataset.errors + 1)));
}

startTheme();

let head = 0;
let drawnHead = 0;
let formTimer = null;
let newest = 0;
let looking = 0;

const lastInstant = () => time.last();
const timeShown = () => time.at();
const card = startCard({ onPlane: (plane, row) => planeDay.go(plane, row), timeShown });
const planeDay = startPlane({ onFlight: card.open, lastInstant });
const diptych = startDiptych();
const stream = startStream({ onFlight: card.open });
const board = startBoard({
  onFlight: card.open,
  onPlane: (plane, row) => planeDay.go(plane, row),
  onAirport(airport) {
    pictures.airport(airport);
    form.moved();
  },
  onShown() {
    page.dataset.ready = "true";
    rest.look();
  },
});
const time = startTime({
  onMove(at) {
    rest.moved(at);
    board.show({ at });
  },
  onSettle: (at) => pictures.settled(at),
});
const rest = startRest({ time, board });
const pictures = startPictures({ timeShown, lastInstant });
const form = startForm({ clock: lastInstant, board, onShow: showFlight, onFlight: card.open });

watchConnection((state, ms) => {
  page.dataset.connection = state;
  time.connected(state);
  $("connection").dataset.state = state;
  say($("connection"), {
    open: "Connected", connecting: "Connecting",
    lost: `Connection lost, trying again in ${Math.max(1, Math.round((ms ?? 0) / 1000))} s`,
  }[state]);
});
learn().then(() => {
  board.show({ at: null });
  listen("happenings", { answer: happened, problem: troubled });
  listen("status", { status: statusCame });
});

/** Loads names before the boards are drawn. Without names, the page shows codes. */
async function learn() {
  try {
    learnNames((await ask("names")).answer);
    form.learnAirports();
  } catch (problem) {
    console.warn("names are not known, codes are shown instead", problem);
  }
}

function happened({ answer }) {
  time.range(answer.first, answer.last);
  diptych.happenings(answer);
  stream.happenings(answer);
  const fresh = answer.recent.filter((item) => item.number > newest);
  newest = Math.max(newest, ...fresh.map((item) => item.number));
  card.happened(new Set(fresh.map((item) => item.flight)));
  if (answer.last) {
    rest.look();
    moveForm();
    planeDay.suggestDay(Date.parse(answer.last));
    if (time.at() === null) pictures.settled(null);
  }
  if (drawnHead === 0 && answer.last) drawPictures();
}

function statusCame(answer) {
  head = answer.log.head;
  diptych.status(answer);
  rest.status(answer);
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

let inSight = false;
new IntersectionObserver((entries) => {
  inSight = entries.at(-1).isIntersecting;
  drawPicturesIfNewer();
}).observe($("pictures"));
setInterval(drawPicturesIfNewer, PICTURES_MS);

function drawPicturesIfNewer() {
  if (inSight && !document.hidden && pictures.isOfNow() && head !== drawnHead) drawPictures();
}

function drawPictures() {
  drawnHead = head || -1;
  pictures.refresh();
}

/**
 * Shows the board with the flight of a command: the present board, or the one after `then`. With
 * "quietly" the page does not scroll.
 */
function showFlight(flight, then, how) {
  const airport = flight.split("-")[1];
  if (then === null) time.now();
  else time.move(then + JUST_AFTER_MS);
  if (airport !== board.airport()) board.choose(airport);
  if (how !== "quietly") {
    $("departures").focus({ preventScroll: true });
    document.querySelector(".hall").scrollIntoView();
  }
  clearInterval(looking);
  let tries = 20;
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
