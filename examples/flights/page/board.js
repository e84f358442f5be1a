// The departure board of one airport, live or of the past. It updates only rows that changed.
import { correct, goTo, inAddress, onStep } from "./address.js";
import { ask, listen } from "./api.js";
import { showClock } from "./clock.js";
import { $, h, icon, say } from "./dom.js";
import { statusOf } from "./status.js";
import { markTab, startTabs } from "./tabs.js";
import {
  airportName, count, dayOf, instant, longDayOf, millis, momentOf, plural, sentence, spokenOf,
  timeOf, zoneOf,
} from "./words.js";

/** More changes than this are a jump in time, and are not highlighted. */
const MOST_HIGHLIGHTS = 24;
const BEFORE_MS = 4 * 60 * 60 * 1000;
const AFTER_MS = 8 * 60 * 60 * 1000;

/** While the time moves, rows of the time just before are no fault. */
const STALE_AFTER_MS = 400;

/** Whether a flight is "before", "on" or "after" the window of a board at `now`. */
export function whereOn(now, departsAt) {
  if (departsAt < now - BEFORE_MS) return "before";
  return departsAt > now + AFTER_MS ? "after" : "on";
}

export function startBoard({ onFlight, onPlane, onAirport, onShown }) {
  const body = $("board");
  const scroller = $("board-rows");
  const rows = new Map();
  const tabs = [...$("airports").querySelectorAll("[role=tab]")];
  let airport = airportInAddress();
  let at = null;
  let staleTimer = 0;
  let shown = null;
  let stopListening = null;
  let asking = false;
  let held = false;
  let active = null;
  let isAgain = false;
  let isConnected = true;

  /** An airport without a board counts as absent. */
  function airportInAddress() {
    const tab = tabs.find((one) => one.dataset.airport === inAddress("airport")) ?? tabs[0];
    return tab.dataset.airport;
  }

  /** Shows another airport or another time. A time of null is the present. */
  function show(next) {
    const sameAirport = next.airport === undefined || next.airport === airport;
    airport = next.airport ?? airport;
    if ("at" in next) at = next.at;
    held = false;
    if (!sameAirport) {
      shown = null;
      body.replaceChildren();
      rows.clear();
      say($("board-summary"), "Asking for the board …");
      body.append(...skeleton());
    }
    markStale();
    if (at === null) {
      if (!stopListening || !sameAirport) follow();
    } else {
      unfollow();
      askPast();
    }
  }

  function follow() {
    unfollow();
    const query = `departure-board?airport=${encodeURIComponent(airport)}`;
    stopListening = listen(query, {
      answer({ position, answer, view_state: state }) {
        trouble(null);
        if (answer.at) showClock(Date.parse(answer.at));
        draw(answer, position);
        say($("answered"), `Sent by the server when it changed; of position ${count(position)}.`);
        if (state) {
          trouble(`The view of the board is ${state}, at position ${count(position)}. Commands `
            + "still work, and this board stays as it was.");
        }
      },
      problem: (problem) => trouble(problemWords(problem)),
    });
  }

  function unfollow() {
    stopListening?.();
    stopListening = null;
  }

  /** Sends one request at a time. While it runs, only the newest time waits. */
  async function askPast() {
    if (asking) return;
    asking = true;
    isAgain = false;
    const asked = { airport, at };
    try {
      const then = instant(at);
      const answered = await ask("departure-board", { airport, at: then, _occurred_before: then });
      if (at !== null && asked.airport === airport) {
        trouble(null);
        draw(answered.answer, answered.position);
        say($("answered"), `Asked of the log: what was so before ${momentOf(asked.at)}; `
          + `folded ${plural(answered.events, "event", "events")} in ${millis(answered.ms)}.`);
      }
    } catch (problem) {
      if (at !== null) trouble(problemWords(problem.body, problem.message));
    } finally {
      asking = false;
    }
    const isOther = at !== asked.at || airport !== asked.airport;
    if (at !== null && (isOther || isAgain)) askPast();
  }

  /** Asks again for the past that is shown, after the log got an event of that time. */
  function again() {
    isAgain = true;
    if (at !== null) askPast();
  }

  /** Greys the rows and says of which time they are, if that is not the time of the clock. */
  function markStale() {
    clearTimeout(staleTimer);
    if (shown === null || isOfClock()) {
      delete $("board-panel").dataset.stale;
      return;
    }
    staleTimer = setTimeout(() => {
      if (shown === null || isOfClock()) return;
      $("board-panel").dataset.stale = "true";
      say($("stale"), `These rows are of ${shown.at ? spokenOf(shown.at) : "another time"}.`);
    }, shown.isNow === (at === null) ? STALE_AFTER_MS : 0);
  }

  /** Whether the rows are of the time that the clock shows. */
  function isOfClock() {
    return at === null ? shown.isNow && isConnected : shown.at && Date.parse(shown.at) === at;
  }

  /** Called when the connection to the server comes or goes. */
  function connected(state) {
    const was = isConnected;
    isConnected = state === "open";
    markStale();
    if (isConnected && !was && at !== null) again();
  }

  function trouble(text) {
    $("board-trouble").hidden = text === null;
    say($("board-trouble"), text ?? "");
  }

  function draw(answer, position) {
    const isUpdate = shown !== null && shown.airport === answer.airport;
    const wanted = new Set(answer.rows.map((row) => row.flight));
    for (const [flight, entry] of rows) {
      if (wanted.has(flight)) continue;
      entry.element.remove();
      rows.delete(flight);
    }
    for (const line of body.querySelectorAll(".divider, .skeleton")) line.remove();
    const changed = [];
    let cursor = body.firstElementChild;
    for (const row of answer.rows) {
      const entry = rows.get(row.flight) ?? newRow(row);
      const before = entry.key;
      update(entry, row, answer.at);
      if (isUpdate && before !== null && before !== entry.key) changed.push(entry);
      if (cursor === entry.element) cursor = cursor.nextElementSibling;
      else body.insertBefore(entry.element, cursor);
    }
    shown = { ...answer, position, isNow: at === null };
    // While the time moves on, the newest rows are those before it.
    delete $("board-panel").dataset.stale;
    markStale();
    insertDividers(answer);
    if (changed.length <= MOST_HIGHLIGHTS) highlight(changed.map((entry) => entry.element));
    summarise();
    filter();
    rove();
    if (!held) scrollToNow();
    onShown(shown);
  }

  function newRow(row) {
    const link = (go) =>
      h("button", { type: "button", class: "link", tabindex: -1, "data-go": go });
    const flight = link("flight");
    const plane = link("plane");
    const time = h("time", {});
    const place = h("span", { class: "place" });
    const status = h("div", { class: "status" });
    // Explicit roles, because the grid layout on a phone removes the implicit ones.
    const element = h("tr", { "data-flight": row.flight, role: "row" },
      h("td", { class: "time", role: "cell" }, time),
      h("td", { class: "flight", role: "cell" }, flight),
      h("th", { scope: "row", class: "to", role: "rowheader" }, place),
      h("td", { class: "plane", role: "cell" }, plane),
      h("td", { class: "state", role: "cell" }, status));
    const entry = { element, flight, plane, time, place, status, key: null, row };
    rows.set(row.flight, entry);
    return entry;
  }

  function update(entry, row, now) {
    const { words, detail, tone, mark } = statusOf(row, now);
    const key = `${row.status} ${detail} ${row.plane}`;
    const text = `${words} ${detail}`;
    entry.row = row;
    if (entry.text !== text || entry.key !== key) {
      entry.element.dataset.status = row.status;
      entry.element.dataset.tone = tone;
      const name = airportName(row.destination);
      say(entry.time, timeOf(row.departs_at));
      entry.time.dateTime = row.departs_at;
      say(entry.flight, `${row.airline} ${row.number}`);
      entry.flight.setAttribute("aria-label", `Flight ${row.airline} ${row.number}, its events`);
      entry.place.replaceChildren(
        h("span", { class: "name" }, name),
        name === row.destination ? "" : h("span", { class: "code" }, row.destination));
      say(entry.plane, row.plane ?? "");
      entry.plane.hidden = row.plane === null;
      entry.status.replaceChildren(icon(mark), h("span", { class: "words" },
        h("b", {}, words), detail ? h("span", { class: "detail" }, detail) : ""));
      entry.words = [row.airline, row.number, row.flight, row.destination, name, row.plane, words]
        .join(" ").toLowerCase();
    }
    // The waiting time grows by itself, so it is not a change to highlight.
    entry.key = mark === "waiting" ? `${row.status} ${row.plane}` : key;
    entry.text = text;
  }

  function insertDividers(answer) {
    let day = null;
    let passed = false;
    for (const row of answer.rows) {
      const element = rows.get(row.flight).element;
      if (!passed && row.departs_at > answer.at) {
        passed = true;
        body.insertBefore(nowLine(answer), element);
      }
      const rowDay = dayOf(row.departs_at);
      if (day !== null && rowDay !== day) {
        body.insertBefore(divider("day", longDayOf(row.departs_at)), element);
      }
      day = rowDay;
    }
    if (!passed && answer.rows.length > 0) body.append(nowLine(answer));
  }

  function nowLine(answer) {
    const text = `${timeOf(answer.at)} ${zoneOf(answer.at)}`;
    return divider("now", at === null ? `now, ${text}` : text);
  }

  function summarise() {
    const tally = { scheduled: 0, departed: 0, landed: 0, cancelled: 0, diverted: 0 };
    for (const row of shown.rows) tally[row.status] = (tally[row.status] ?? 0) + 1;
    const parts = [
      [tally.scheduled, "to depart"], [tally.departed, "in the air"], [tally.landed, "landed"],
      [tally.cancelled, "cancelled"], [tally.diverted, "diverted"],
    ].filter(([n]) => n > 0).map(([n, words]) => `${count(n)} ${words}`);
    const isEmpty = shown.rows.length === 0;
    say($("board-summary"), isEmpty ? airportName(shown.airport)
      : `${airportName(shown.airport)}: ${parts.join(", ")}`);
    $("board-empty").hidden = !isEmpty;
    $("earlier").hidden = !isEmpty || shown.at === null;
    say($("board-empty"), shown.at === null
      ? "No flight of the data is in the log yet, so the board has no time to show. A command that "
        + "you send becomes an event all the same, and the feed shows it."
      : "No flight leaves from four hours before to eight hours after this time. "
        + "Choose another time, or schedule one below.");
  }

  function filter() {
    const wanted = $("find").value.trim().toLowerCase();
    let matches = 0;
    for (const { element, words } of rows.values()) {
      element.hidden = wanted !== "" && !words.includes(wanted);
      if (!element.hidden) matches += 1;
    }
    if (wanted !== "" && rows.size > 0) {
      $("board-empty").hidden = matches > 0;
      say($("board-empty"), "No flight on this board is like that.");
    }
  }

  /** The table is one stop of the Tab key, and the arrow keys move between its rows. */
  function rove() {
    if (!active || !rows.has(active)) {
      const next = shown.rows.find((row) => row.departs_at > shown.at) ?? shown.rows[0];
      active = next?.flight ?? null;
    }
    for (const [flight, entry] of rows) {
      const index = flight === active ? 0 : -1;
      if (entry.flight.tabIndex !== index) entry.flight.tabIndex = entry.plane.tabIndex = index;
    }
  }

  function scrollToNow() {
    const line = body.querySelector(".divider.now");
    $("follow").hidden = true;
    if (line) scroller.scrollTop = line.offsetTop - scroller.clientHeight * 0.4;
  }

  function hold() {
    held = true;
    $("follow").hidden = false;
  }

  /** Scrolls to a flight and highlights it, if it is on the board. */
  function point(flight) {
    const entry = rows.get(flight);
    if (!entry) return false;
    hold();
    scroller.scrollTop = entry.element.offsetTop - scroller.clientHeight * 0.4;
    highlight([entry.element]);
    return true;
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const entry = rows.get(event.target.closest("tr")?.dataset.flight);
    if (!entry) return;
    active = entry.row.flight;
    rove();
    if (button?.dataset.go === "plane") onPlane(entry.row.plane, entry.row);
    else onFlight(entry.row.flight);
  });
  body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const from = event.target.closest("tr");
    if (!step || !from) return;
    event.preventDefault();
    let to = from;
    do to = step > 0 ? to.nextElementSibling : to.previousElementSibling;
    while (to && (to.hidden || !to.dataset.flight));
    if (!to) return;
    hold();
    active = to.dataset.flight;
    rove();
    const entry = rows.get(active);
    const go = event.target.dataset.go;
    (go === "plane" && !entry.plane.hidden ? entry.plane : entry.flight).focus();
  });
  for (const kind of ["wheel", "touchmove", "pointerdown"]) {
    scroller.addEventListener(kind, hold, { passive: true });
  }
  scroller.addEventListener("keydown", (event) => event.key !== "Tab" && hold());
  $("follow").addEventListener("click", () => {
    held = false;
    scrollToNow();
    scroller.focus();
  });
  $("find").value = inAddress("find") ?? "";
  $("find").addEventListener("input", () => {
    correct({ find: $("find").value.trim() || null });
    if (shown) refind();
  });

  function refind() {
    filter();
    rove();
    if (!held) scrollToNow();
  }

  /** Selects an airport, as a click on its tab does. */
  function choose(chosen) {
    if (chosen === airport || !$(`tab-${chosen}`)) return;
    markTab(tabs, chosen);
    show({ airport: chosen });
    onAirport(chosen);
  }

  markTab(tabs, airport);
  startTabs(tabs, (chosen) => {
    goTo({ airport: chosen });
    choose(chosen);
  });
  onStep((changed) => {
    if (changed.has("airport")) choose(airportInAddress());
    if (changed.has("find")) {
      $("find").value = inAddress("find") ?? "";
      if (shown) refind();
    }
  });

  /** Draws the rows again, after the names of the airports came. */
  function renamed() {
    for (const entry of rows.values()) entry.text = null;
    if (shown) for (const row of shown.rows) update(rows.get(row.flight), row, shown.at);
    if (shown) summarise();
  }

  body.append(...skeleton());
  return {
    show, point, again, connected, renamed, choose, shown: () => shown, airport: () => airport,
  };
}

/** Rows in the place of those that are asked for. */
function skeleton() {
  return Array.from({ length: 12 }, () => h("tr", { class: "skeleton", role: "row" },
    h("td", { colspan: 5, role: "cell" }, h("span", {}))));
}

/** A problem of a query, with the words for a view that is late or stands still. */
function problemWords(problem, message = problem.detail ?? problem.title) {
  const words = sentence(message);
  return {
    "urn:diptych:not-yet": `The view is behind, and will come: ${words}`,
    "urn:diptych:view-stopped": `The view of the board has stopped: ${words} Commands still work.`,
  }[problem.type] ?? words;
}

function divider(kind, text) {
  return h("tr", { class: `divider ${kind}`, role: "row" },
    h("td", { colspan: 5, role: "cell" }, h("span", {}, text)));
}

function highlight(elements) {
  if (elements.length === 0) return;
  for (const element of elements) element.classList.remove("changed");
  void elements[0].offsetWidth; // Starts the animations again where they are running.
  for (const element of elements) element.classList.add("changed");
}
