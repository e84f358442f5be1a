// The stream: new events and refusals as they arrive, and the counts of refusals.
import { ask } from "./api.js";
import { $, h, say, table } from "./dom.js";
import { count, dayOf, inLocalTime, plural, timeOf } from "./words.js";

/** Shortest interval between two queries for refusals. */
const REFUSALS_MS = 1000;

export const isRefusal = (item) => /refus|reject/i.test(item.type);

export function startStream({ onFlight }) {
  const feed = $("feed");
  const items = new Map();
  let paused = false;
  let waiting = null;
  let refused = null;
  let timer = 0;

  function happenings(answer) {
    if (answer.refused !== refused) {
      refused = answer.refused;
      clearTimeout(timer);
      timer = setTimeout(loadRefusals, refusals.asked ? REFUSALS_MS : 0);
    }
    if (paused) waiting = answer;
    else draw(answer);
  }

  function draw(answer) {
    const wanted = new Set(answer.recent.map((item) => item.number));
    for (const [number, element] of items) {
      if (wanted.has(number)) continue;
      element.remove();
      items.delete(number);
    }
    feed.querySelector(".empty")?.remove();
    if (answer.recent.length === 0) {
      feed.append(h("li", { class: "empty" }, "Nothing has happened yet."));
    }
    let cursor = feed.firstElementChild;
    const isFirst = items.size === 0;
    for (const item of answer.recent) {
      let element = items.get(item.number);
      if (!element) {
        element = newItem(item, !isFirst);
        items.set(item.number, element);
      }
      if (cursor === element) cursor = cursor.nextElementSibling;
      else feed.insertBefore(element, cursor);
    }
    const kinds = answer.events.map(({ type, count: n }) =>
      h("span", {}, h("b", {}, count(n)), ` ${type}`));
    $("types").replaceChildren(...kinds);
  }

  function newItem(item, isNew) {
    const refusal = isRefusal(item);
    return h("li", {
      class: `${refusal ? "refused" : ""} ${isNew ? "new" : ""}`,
      "data-type": item.type, "data-number": item.number,
    },
    h("span", { class: "when" }, `${dayOf(item.at).replace(/^\S+ /, "")} ${timeOf(item.at)}`),
    h("span", { class: "kind" }, refusal ? "✕ refused" : item.type),
    item.flight
      ? h("button", { type: "button", class: "link", tabindex: -1,
        onclick: () => onFlight(item.flight) }, inLocalTime(item.text))
      : h("span", { class: "what" }, inLocalTime(item.text)));
  }

  async function loadRefusals() {
    refusals.asked = true;
    try {
      refusals((await ask("refusals", { top: 50 })).answer);
    } catch (problem) {
      say($("refusals-total"), `This could not be asked: ${problem.message}.`);
    }
  }

  $("feed-pause").addEventListener("click", () => {
    paused = !paused;
    $("feed-pause").setAttribute("aria-pressed", String(paused));
    say($("feed-pause"), paused ? "Go on" : "Pause");
    if (!paused && waiting) draw(waiting);
    waiting = null;
  });

  function refusals({ total, by_rule, newest }) {
    say($("refusals-total"), total === 0 ? "Nothing yet. Real data is dirty: it will come."
      : `${plural(total, "command was", "commands were")} refused. The data breaks the rules `
        + "now and then; what is refused leaves no event of the flight.");
    $("refusals-rules").replaceChildren(by_rule.length === 0 ? "" : table("Refusals by rule",
      ["Rule", "Command", "Refused"],
      by_rule.map((line) => [line.rule, line.command, count(line.count)])));
    $("refusals-newest").replaceChildren(...newest.map((refusal) => h("li", {},
      h("span", { class: "label" }, `${dayOf(refusal.at)}, ${timeOf(refusal.at)}`),
      h("b", {}, `${refusal.command}: ${refusal.rule}`),
      h("button", { type: "button", class: "link", onclick: () => onFlight(refusal.flight) },
        refusal.flight ?? ""),
      h("span", {}, refusal.reason))));
  }

  return { happenings };
}
