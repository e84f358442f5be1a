// The way of a sent command: how it becomes an event at a position, and how views take that in.
import { ask, explain } from "./api.js";
import { flow } from "./diptych.js";
import { $, h } from "./dom.js";
import { statusOf } from "./status.js";
import {
  airlineName, airportName, count, flightName, millis, momentOf, plural, spokenOf,
} from "./words.js";

/** Draws the way in each of these places. */
export function startTrip({ places }) {
  let trip = null;
  draw();

  function draw() {
    for (const place of places) {
      const isPicture = place === $("trip");
      if (trip === null && !isPicture) place.replaceChildren();
      else place.replaceChildren(list(trip));
    }
    for (const row of $("views").children) {
      const isReached = trip?.views.some((view) => view.name === row.dataset.view && view.ms);
      row.classList.toggle("reached", Boolean(isReached));
    }
  }

  function begin(sent) {
    trip = { sent, state: "sending", views: [] };
    draw();
  }

  /** A receipt came. Returns the flight as the board has it, or null. */
  async function accepted(sent, receipt, ms, isAgain) {
    const mine = { sent, state: "accepted", receipt, ms, isAgain, type: null, views: [] };
    trip = mine;
    const came = performance.now();
    mine.views = VIEWS.map((view) => ({ ...view, ms: null, words: "asking …" }));
    draw();
    flow(1);
    const barrel = document.querySelector(".barrel");
    barrel.classList.remove("changed");
    void barrel.offsetWidth; // Starts the animation again.
    barrel.classList.add("changed");
    const change = () => trip === mine && draw();
    const card = await Promise.all([
      ...mine.views.map((view) => reach(mine, view, came, change)), typeOf(mine, change),
    ]).then(([answer]) => answer);
    return card;
  }

  /** Asks a view with the receipt, so that its answer contains the event. */
  async function reach(mine, view, came, change) {
    view.problem = null;
    try {
      const args = { ...view.args(mine.sent.body), _after: mine.receipt.receipt };
      const { answer } = await ask(view.query, args);
      view.ms = performance.now() - came;
      view.words = view.say(answer, mine.sent.body);
      change();
      return answer;
    } catch (problem) {
      const isLate = problem.body.type === "urn:diptych:not-yet";
      view.words = isLate ? `has not reached position ${count(mine.receipt.last)} yet. `
        : `could not be asked: ${problem.message}. `;
      view.again = () => reach(mine, view, performance.now(), change);
      view.problem = problem;
      change();
      return null;
    }
  }

  /** The type of the event at the receipt's position, as the log has it. */
  async function typeOf(mine, change) {
    try {
      const { events } = await explain("flight-card", { flight: mine.sent.body.flight });
      mine.type = events.find((event) => event.position === mine.receipt.last)?.type ?? null;
      change();
    } catch (problem) {
      console.info("the type of the event could not be asked for", problem);
    }
  }

  async function refused(sent, rule, reason) {
    const mine = { sent, state: "refused", rule, reason, views: [] };
    trip = mine;
    draw();
    try {
      const { answer } = await ask("refusals", { top: 0 });
      mine.total = answer.total;
      if (trip === mine) draw();
    } catch (problem) {
      console.info("the refusals could not be counted", problem);
    }
  }

  /** It is not known what became of the command, or it was no valid command. */
  function failed(sent, words) {
    trip = { sent, state: "failed", reason: words, views: [] };
    draw();
  }

  return { begin, accepted, refused, failed };
}

/** Views that every accepted command changes. */
const VIEWS = [
  {
    name: "Board", query: "flight-card", args: ({ flight }) => ({ flight }),
    say: (card) => (card === null ? "does not know the flight" : boardWords(card)),
  },
  {
    name: "Punctuality", query: "punctuality", args: () => ({}),
    say(answer, { flight }) {
      const airline = answer.airlines.find((of) => of.airline === flight.slice(0, 2));
      return airline ? `${airline.name ?? airlineName(airline.airline)} has now `
        + `${plural(airline.scheduled, "flight", "flights")}, ${count(airline.departed)} departed`
        : "does not know the airline";
    },
  },
  {
    name: "Happenings", query: "happenings", args: () => ({}),
    say: (answer) => `counts ${count(answer.accepted)} accepted commands; the feed shows the event`,
  },
];

function boardWords(card) {
  const { words, detail } = statusOf(card, null);
  return `${flightName(card.flight)}, ${words.toLowerCase()}${detail ? ` (${detail})` : ""}, `
    + `to leave for ${airportName(card.destination)} on ${spokenOf(card.departs_at)}`;
}

function list(trip) {
  const step = (state, title, ...content) =>
    h("li", { "data-step": state }, h("h3", {}, title), ...content);
  const text = (...words) => h("p", {}, ...words);
  if (trip === null) {
    return h("ol", { class: "trip", "data-state": "none" },
      step("later", "1. A command", text("asks for a change. Rules read the earlier events of the "
        + "flight, and accept the command or refuse it.")),
      step("later", "2. An event", text("says what happened. It gets the next position in the log, "
        + "is on the disk, and never changes.")),
      step("later", "3. Views", text("read the log in its order. Each folds every event into the "
        + "answers to its own question. The lag is how far a view is behind the log.")));
  }
  const { sent, state } = trip;
  const named = [h("b", {}, sent.name), sent.body.flight ? ` for ${flightName(sent.body.flight)}`
    : ""];
  return h("ol", { class: "trip", "data-state": state },
    step(state === "sending" ? "now" : state, "1. The command",
      text(...named, { sending: ": the rules are asked …",
        accepted: trip.isAgain ? " came with a known key. It was not carried out again."
          : " was accepted: no earlier event of the flight forbids it.",
        refused: ` was refused by the rule “${trip.rule}”: ${trip.reason}.`,
        failed: `: ${trip.reason}` }[state])),
    ...(state === "accepted" ? acceptedSteps(trip, step, text) : []),
    ...(state === "refused" ? [
      step("refused", "2. No event of the flight",
        text("Nothing happened to the flight. The log notes only that the command was refused, "
          + "as an event command-refused.")),
      step("refused", "3. The views", text("The board stays as it was. The view Refusals counts "
        + `${trip.total === undefined ? "the note" : plural(trip.total, "refusal", "refusals")}.`)),
    ] : []));
}

function acceptedSteps({ receipt, ms, isAgain, type, views }, step, text) {
  const { first, last } = receipt;
  const where = first === last ? `position ${count(last)}`
    : `positions ${count(first)} to ${count(last)}`;
  const became = isAgain ? "The log has it once: " : "It became one event: ";
  return [
    step("accepted", "2. The event",
      text(first === last ? became : "It became several events: ", h("b", {}, type ?? "an event"),
        ` at ${where}. `, isAgain ? "The receipt is the same."
          : `It was on the disk when the answer came, ${millis(ms)} after the click.`)),
    step(views.every((view) => view.ms) ? "accepted" : "now", "3. The views",
      text("Every view has read the event by itself. Three of them were asked at once, and this long "
        + "after the click’s answer each showed it:"),
      h("ul", {}, ...views.map((view) => h("li", { "data-reached": view.ms ? view.name : null },
        h("b", {}, view.name), view.ms ? ` after ${millis(view.ms)}: ` : ": ", view.words,
        view.problem ? h("button", { type: "button", class: "link", onclick: view.again },
          "Ask again") : "")))),
  ];
}

/** The read-back of the card, as a sentence. */
export function readBackWords(card) {
  if (card === null) return "It could not be read back.";
  const status = statusOf(card, null);
  return `Read back after the receipt: ${status.words.toLowerCase()}`
    + `${status.detail ? `, ${status.detail}` : ""}, to depart ${momentOf(card.departs_at)}.`;
}
