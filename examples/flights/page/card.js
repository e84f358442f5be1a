// The card of a flight: its details, and the events behind them.
import { goTo, inAddress, onStep } from "./address.js";
import { ask, explain } from "./api.js";
import { $, fact, h, say } from "./dom.js";
import { statusOf } from "./status.js";
import {
  airlineName, airportName, count, flightName, instant, lateness, millis, momentOf,
} from "./words.js";

export function startCard({ onPlane, timeShown }) {
  const dialog = $("card");
  let flight = null;
  let card = null;
  let upTo = null;

  function open(chosen) {
    goTo({ flight: chosen, position: null });
    return show(chosen, null);
  }

  /** The address has the flight and the position. */
  function openFromAddress() {
    const position = Number(inAddress("position"));
    if (inAddress("flight")) show(inAddress("flight"), position > 0 ? position : null);
    else if (dialog.open) dialog.close();
  }

  async function show(chosen, position) {
    flight = chosen;
    card = null;
    upTo = position;
    say($("card-title"), flightName(chosen));
    say($("card-said"), "Asking …");
    $("card-facts").replaceChildren();
    $("card-events").replaceChildren();
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    await load();
  }

  async function load() {
    const asked = flight;
    const then = timeShown();
    const past = then === null ? {} : { _occurred_before: instant(then) };
    const point = upTo === null ? past : { _as_of: upTo };
    try {
      const [answered, explanation] = await Promise.all([
        ask("flight-card", { flight, ...point }), explain("flight-card", { flight }),
      ]);
      if (asked !== flight) return;
      card = answered.answer;
      drawFacts(then);
      drawEvents(explanation, then);
      say($("card-said"), `${howAsked(then)} Answered in ${millis(answered.ms)}.`);
    } catch (problem) {
      say($("card-said"), `This could not be asked: ${problem.message}.`);
    }
  }

  /** Shows the card as of a position, or as of the time of the page. */
  function pointAt(position) {
    upTo = position;
    goTo({ position: position === null ? null : String(position) });
    load();
  }

  function howAsked(then) {
    if (upTo !== null) return `As of position ${count(upTo)} of the log.`;
    return then === null ? "As it is now." : `What was so before ${momentOf(then)}.`;
  }

  function drawFacts(then) {
    $("card-whole").hidden = upTo === null;
    $("card-plane").hidden = !card?.plane;
    if (card === null) {
      $("card-facts").replaceChildren(fact("Status", "not known at this time"));
      return;
    }
    const to = airportName(card.destination);
    say($("card-title"), `${card.airline} ${card.number} to ${to}`);
    // At a position, no time is known by which a flight would be late.
    const now = card.ended_at ?? card.departed_at
      ?? (then === null || upTo !== null ? null : instant(then));
    const status = statusOf(card, now);
    const facts = [
      fact("Status", status.words + (status.detail ? `, ${status.detail}` : "")),
      fact("Airline", airlineName(card.airline)),
      fact("From", `${airportName(card.origin)} (${card.origin})`),
      fact("To", `${to} (${card.destination})`),
      fact("To depart", moment(card.departs_at)),
      card.departed_at
        && fact("Departed", momentOf(card.departed_at), late(card.delay_minutes)),
      card.ended_at
        && fact(endWord(card.status), momentOf(card.ended_at), late(card.arrival_delay_minutes)),
      fact("Plane", card.plane ?? "not known"),
      fact("Distance", card.distance_miles === null ? "not known"
        : `${count(card.distance_miles)} miles`),
      fact("Flight", card.flight),
    ];
    $("card-facts").replaceChildren(...facts.filter(Boolean));
  }

  function drawEvents(explanation, then) {
    const events = explanation.events;
    say($("card-events-hint"), events.length === 0 ? "The log has no event of this flight."
      : "All that the card is made of, read from the log. Choose one to see the card as it was "
        + "then."
        + (explanation.is_whole ? "" : " There are more than are shown."));
    $("card-events").replaceChildren(...events.map((event) => eventItem(event, then)));
  }

  function eventItem(event, then) {
    const later = upTo === null
      ? then !== null && Date.parse(event.occurred_at) >= then : event.position > upTo;
    const data = Object.entries(event.data ?? {})
      .map(([key, value]) => fact(key, valueWords(value)));
    return h("li", { class: later ? "later" : "", "data-type": event.type },
      h("div", { class: "event-top" },
        h("b", {}, event.type),
        later ? h("span", { class: "label" }, "not yet") : "",
        h("button", {
          type: "button", class: "quiet", "aria-pressed": String(upTo === event.position),
          onclick: () => pointAt(event.position),
        }, `position ${count(event.position)}`)),
      h("p", { class: "hint" }, `occurred ${moment(event.occurred_at)}`,
        event.actor ? `, by ${event.actor}` : "",
        event.recorded_at ? h("span", { class: "recorded" },
          ` · recorded ${moment(event.recorded_at)}`) : ""),
      h("dl", { class: "payload" }, ...data));
  }

  $("card-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    flight = null;
    goTo({ flight: null, position: null });
  });
  $("card-whole").addEventListener("click", () => pointAt(null));
  $("card-plane").addEventListener("click", () => {
    const chosen = card;
    dialog.close();
    onPlane(chosen.plane, chosen);
  });

  /** Refreshes the open card if its flight is among these flights with new events. */
  function happened(flights) {
    if (dialog.open && upTo === null && timeShown() === null && flights.has(flight)) load();
  }

  onStep((changed) => {
    if (["flight", "position", "at"].some((name) => changed.has(name))) openFromAddress();
  });

  return { open, openFromAddress, happened };
}

const INSTANT = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/;

function valueWords(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  return INSTANT.test(value) ? momentOf(value) : value;
}

const moment = (at) => (at ? momentOf(at) : "–");
const late = (minutes) => (minutes === null ? "" : `, ${lateness(minutes)}`);

function endWord(status) {
  return { landed: "Landed", cancelled: "Cancelled", diverted: "Diverted" }[status] ?? "Ended";
}
