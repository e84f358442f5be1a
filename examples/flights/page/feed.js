// The feed: the newest events and refusals, or the latest ones before the time that is shown.
import { $, h, say } from "./dom.js";
import { count, dayOf, flightName, inLocalTime, originOf, spokenOf, timeOf } from "./words.js";

/** While the time moves, a list of the time just before is no fault. */
const STALE_AFTER_MS = 400;

export const isRefusal = (item) => /refus|reject/i.test(item.type);

export function startFeed({ onFlight }) {
  const feed = $("feed");
  const items = new Map();
  let paused = false;
  /** The newest answer of now, also while the page shows the past or the feed is paused. */
  let newest = null;
  let at = null;
  /** The time of the list, null for now; undefined before the first one. */
  let drawnAt;
  let staleTimer = 0;
  let isLost = false;

  function happenings(answer) {
    newest = answer;
    if (at === null && !paused) draw(answer);
  }

  /** The time of the page moved. Until the answer comes, the list is of another time. */
  function moved(to) {
    if (to === at) return;
    at = to;
    $("feed-pause").hidden = at !== null;
    if (at === null && newest) draw(newest);
    else mark();
  }

  /** Without a connection, the list of now stands still. */
  function connected(state) {
    if (state === "connecting") return;
    const wasLost = isLost;
    isLost = state === "lost";
    if (isLost !== wasLost) mark();
  }

  /** Greys the list if it is of another time than the clock, and says of which one it is. */
  function mark() {
    clearTimeout(staleTimer);
    if (drawnAt === undefined) return;
    if (drawnAt !== null) say($("feed-order"), `The latest before ${spokenOf(drawnAt)} first.`);
    else {
      say($("feed-order"), isLost ? "As it was when the connection was lost."
        : "Newest in the log first.");
    }
    if (drawnAt === at && !(at === null && isLost)) {
      delete $("feed-log").dataset.stale;
      return;
    }
    const isOfOtherMode = (drawnAt === null) !== (at === null);
    staleTimer = setTimeout(() => ($("feed-log").dataset.stale = "true"),
      isOfOtherMode || at === null ? 0 : STALE_AFTER_MS);
  }

  function past(answer, then) {
    if (at !== null) draw(answer, then);
  }

  function draw(answer, then = null) {
    drawnAt = then;
    // While the time moves on, the newest list is the one before it.
    delete $("feed-log").dataset.stale;
    mark();
    const wanted = new Set(answer.recent.map((item) => item.position));
    for (const [position, element] of items) {
      if (wanted.has(position)) continue;
      element.remove();
      items.delete(position);
    }
    for (const line of feed.querySelectorAll(".empty, .skeleton")) line.remove();
    if (answer.recent.length === 0) {
      feed.append(h("li", { class: "empty" }, then === null ? "The log has no event yet."
        : "Nothing had happened yet."));
    }
    let cursor = feed.firstElementChild;
    const isFirst = items.size === 0;
    for (const item of answer.recent) {
      let element = items.get(item.position);
      if (!element) {
        element = newItem(item, !isFirst);
        items.set(item.position, element);
      }
      if (cursor === element) cursor = cursor.nextElementSibling;
      else feed.insertBefore(element, cursor);
    }
    $("types").replaceChildren(...answer.events.map(({ type, count: n }) =>
      h("span", {}, h("b", {}, count(n)), ` ${type}`)));
  }

  function newItem(item, isNew) {
    const refusal = isRefusal(item);
    return h("li", {
      class: `${refusal ? "refused" : ""} ${isNew ? "new" : ""}`,
      "data-type": item.type, "data-number": item.number, "data-position": item.position,
      "data-flight": item.flight,
    },
    h("span", { class: "when" }, `${dayOf(item.at).replace(/^\S+ /, "")}, ${timeOf(item.at)}`),
    h("span", { class: "kind" }, `${refusal ? "✕ refused" : item.type}, `,
      h("span", { class: "position" }, `position ${count(item.position)}`)),
    h("span", { class: "what" }, item.flight
      ? h("button", { type: "button", class: "link", tabindex: -1,
        onclick: () => onFlight(item.flight) },
      `${flightName(item.flight)} from ${originOf(item.flight)}`) : "",
    item.flight ? ` ${inLocalTime(item.text)}` : inLocalTime(item.text)));
  }

  $("feed-pause").addEventListener("click", () => {
    paused = !paused;
    $("feed-pause").setAttribute("aria-pressed", String(paused));
    say($("feed-pause"), paused ? "Go on" : "Pause");
    if (!paused && newest && at === null) draw(newest);
  });

  return { happenings, moved, past, connected };
}
