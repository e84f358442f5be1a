// The day of a plane: its flights as bars over the hours, and as a list.
import { correct, goTo, inAddress, onStep } from "./address.js";
import { ask } from "./api.js";
import { chart, fit, text, widthOf } from "./chart.js";
import { $, h, s, table } from "./dom.js";
import { statusOf } from "./status.js";
import {
  airportName, count, dayIn, dayOf, duration, flightName, instant, isDay, millis, plural, spokenOf,
  timeOf,
} from "./words.js";

const HOUR_MS = 60 * 60 * 1000;
const LEG_HEIGHT = 44;

/** `timeShown` returns the past time of the page, or null, and `now` its time. */
export function startPlane({ onFlight, timeShown, now }) {
  let shown = null;
  let asked = 0;
  let drawnAt;
  const redraw = chart($("plane-legs"), (width) => {
    if (shown === null || shown.legs.length === 0) {
      return { height: 1, parts: [], marks: [], label: "No flights" };
    }
    return drawLegs(width, shown, now());
  });
  $("plane-legs").hidden = true;

  async function show(plane, day) {
    const [mine, at] = [++asked, timeShown()];
    drawnAt = at;
    $("plane-tail").value = plane;
    $("plane-day").value = day;
    const past = at === null ? {} : { _occurred_before: instant(at) };
    try {
      const { answer, ms } = await ask("plane-day", { plane, day, ...past });
      if (mine !== asked) return;
      shown = answer;
      draw(answer, day, ms, at);
    } catch (problem) {
      if (mine !== asked) return;
      shown = null;
      $("plane-legs").hidden = true;
      $("plane-table").replaceChildren();
      $("plane-result").replaceChildren(
        h("p", { class: "trouble" }, `This could not be asked: ${problem.message}.`));
    }
  }

  function draw(answer, day, ms, at) {
    const made = [answer.manufacturer, answer.model].filter(Boolean).join(" ");
    const about = [made, answer.built && `built ${answer.built}`,
      answer.seats && `${count(answer.seats)} seats`].filter(Boolean).join(", ");
    const legs = answer.legs.map((leg) => [
      h("button", { type: "button", class: "link", onclick: () => onFlight(leg.flight) },
        flightName(leg.flight)),
      `${leg.origin} to ${airportName(leg.destination)}`,
      timeOf(leg.departed_at),
      leg.landed_at ? timeOf(leg.landed_at) : "–",
      statusOf({ ...leg, delay_minutes: null, arrival_delay_minutes: null }, null).words,
    ]);
    $("plane-result").replaceChildren(
      h("h3", {}, answer.plane),
      h("p", { class: "hint" }, `${about || "Nothing more is known of this plane"}. `
        + `${plural(answer.legs.length, "flight", "flights")} of ${dayOf(`${day}T17:00:00Z`)}`
        + `${at === null ? "" : `, as known at ${spokenOf(at)}`}; answered in ${millis(ms)}.`),
      answer.legs.length > 0 ? "" : h("p", { class: "empty" }, at === null
        ? "This plane did not leave New York on this day."
        : "This plane had not left New York on this day yet."));
    $("plane-table").replaceChildren(answer.legs.length === 0 ? "" : table("Flights of the plane",
      ["Flight", "Route", "Departed", "Landed", "Status"], legs));
    $("plane-legs").hidden = answer.legs.length === 0;
    redraw();
  }

  $("plane-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const plane = tailNumber($("plane-tail").value.trim());
    if (plane === "") {
      $("plane-tail").focus();
      return;
    }
    choose(plane, $("plane-day").value || dayIn(now() ?? 0));
  });

  function choose(plane, day) {
    goTo({ plane, day });
    show(plane, day);
  }

  /** Shows the plane after a click on the board, and scrolls to it. */
  function go(plane, row) {
    choose(plane, dayIn(Date.parse(row.departs_at)));
    $("plane-title").focus({ preventScroll: true });
    $("plane").scrollIntoView();
  }

  function openFromAddress() {
    if (inAddress("plane") === null) {
      clear();
      return;
    }
    if (!isDay(inAddress("day"))) correct({ day: dayIn(now() ?? 0) });
    show(tailNumber(inAddress("plane")), inAddress("day"));
  }

  /** No plane is chosen any more, or not yet. */
  function clear() {
    asked += 1;
    if (shown === null && $("plane-tail").value === "") return;
    shown = null;
    $("plane-tail").value = "";
    $("plane-legs").hidden = true;
    $("plane-table").replaceChildren();
    $("plane-result").replaceChildren(h("p", { class: "empty" }, "No plane is chosen."));
  }

  /** The time of the page stands still again. */
  function settled() {
    if (now() === null) return;
    if (!$("plane-day").value) $("plane-day").value = dayIn(now());
    if (shown !== null && timeShown() !== drawnAt) show(shown.plane, $("plane-day").value);
  }

  onStep((changed) => {
    if (changed.has("plane") || changed.has("day")) openFromAddress();
  });
  return { go, settled, openFromAddress };
}

/** Tail numbers have only capital letters. Another text is asked for as it is. */
const tailNumber = (text) =>
  (/^[A-Z0-9]{2,8}$/i.test(text) ? text.toUpperCase() : text);

function drawLegs(width, answer, last) {
  const begin = (leg) => Date.parse(leg.departed_at);
  const end = (leg) => Date.parse(leg.landed_at ?? "") || Math.max(last ?? 0, begin(leg));
  const from = Math.floor(Math.min(...answer.legs.map(begin)) / HOUR_MS) * HOUR_MS;
  const to = Math.ceil(Math.max(...answer.legs.map(end), from + 4 * HOUR_MS) / HOUR_MS) * HOUR_MS;
  const x = (ms) => 1 + ((ms - from) / (to - from)) * (width - 2);
  const bottom = answer.legs.length * LEG_HEIGHT;
  const parts = [];
  const marks = [];
  const hours = (to - from) / HOUR_MS;
  const every = Math.max(1, Math.ceil(hours / Math.max(2, Math.floor(width / 76))));
  for (let hour = 0; hour <= hours; hour += every) {
    const at = from + hour * HOUR_MS;
    const edge = x(at) > width - 30 ? "axis end" : "axis";
    parts.push(s("line", { x1: x(at), x2: x(at), y1: 0, y2: bottom, class: "grid" }),
      text(x(at), bottom + 12, timeOf(at), { class: edge }));
    if (hour === 0 || timeOf(at) < timeOf(at - every * HOUR_MS)) {
      parts.push(text(x(at), bottom + 27, dayOf(at), { class: edge }));
    }
  }
  answer.legs.forEach((leg, index) => {
    const y = index * LEG_HEIGHT;
    const long = Math.max(3, x(end(leg)) - x(begin(leg)));
    const landed = leg.landed_at !== null;
    const took = landed ? duration((end(leg) - begin(leg)) / 60000) : leg.status;
    const words = `${leg.origin} to ${airportName(leg.destination)}`;
    // A label that does not fit into its bar stands beside it, on the side with more space.
    const label = `${words}, ${took}`;
    const isBeside = widthOf(label) > long - 20;
    const right = width - x(end(leg)) - 8;
    const left = x(begin(leg)) - 8;
    const place = { x: x(begin(leg)) + 10, room: long, end: "" };
    if (isBeside && right >= left) Object.assign(place, { x: x(end(leg)) + 8, room: right });
    else if (isBeside) Object.assign(place, { x: left, room: left, end: " end" });
    const element = s("g", { class: "leg", "data-status": leg.status },
      s("rect", { x: x(begin(leg)), y: y + 6, width: long, height: LEG_HEIGHT - 12, rx: 3,
        class: landed ? "bar" : "bar open" }),
      text(place.x, y + LEG_HEIGHT / 2, fit(label, place.room),
        { class: (isBeside || !landed ? "name" : "name inside") + place.end }));
    parts.push(element);
    marks.push({ element, x: x(end(leg)), y: y + LEG_HEIGHT / 2,
      lines: [flightName(leg.flight), words, `departed ${timeOf(leg.departed_at)}`,
        landed ? `landed ${timeOf(leg.landed_at)}, after ${took}` : leg.status] });
  });
  return {
    height: bottom + 36, parts, marks,
    label: `${plural(answer.legs.length, "flight", "flights")} between ${timeOf(from)} and `
      + `${timeOf(to)}, New York time`,
  };
}
