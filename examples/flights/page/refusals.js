// The commands that rules refused, of now or of the time that is shown.
import { ask } from "./api.js";
import { $, h, say, table } from "./dom.js";
import {
  count, dayOf, flightName, inLocalTime, instant, originOf, plural, spokenOf, timeOf,
} from "./words.js";

/** Shortest interval between two queries. */
const BETWEEN_MS = 1000;
const SHOWN = 50;

export function startRefusals({ timeShown, onFlight }) {
  let known = null;
  let timer = 0;
  let asked = 0;
  let newest = null;

  /** Asks again if the number of refusals before `at` differs from the one that is shown. */
  function counted(refused, at) {
    if (refused === known) {
      if (newest) draw(newest, at);
      return;
    }
    const isFirst = known === null;
    known = refused;
    clearTimeout(timer);
    timer = setTimeout(load, isFirst ? 0 : BETWEEN_MS);
  }

  async function load() {
    const mine = ++asked;
    const at = timeShown();
    const past = at === null ? {} : { _occurred_before: instant(at) };
    try {
      const { answer } = await ask("refusals", { top: SHOWN, ...past });
      if (mine !== asked) return;
      newest = answer;
      draw(answer, at);
    } catch (problem) {
      known = null;
      if (mine === asked) troubled(problem);
    }
  }

  /** The refusals of the page's time could not be asked for. Those that are shown are grey. */
  function troubled(problem) {
    if (problem === null) return;
    $("refusals").dataset.stale = "true";
    const which = newest === null ? "" : " The refusals below are of another time.";
    say($("refusals-total"), `This could not be asked: ${problem.message}.${which}`);
  }

  function draw({ total, by_rule: byRule, newest: latest }, at) {
    delete $("refusals").dataset.stale;
    const until = at === null ? "" : ` before ${spokenOf(at)}`;
    say($("refusals-total"), total === 0 ? `No command was refused${until}.`
      : `${plural(total, "command was", "commands were")} refused${until}. The data breaks the `
        + "rules now and then. A refused command leaves no event of its flight, only the note "
        + "that it was refused.");
    $("refusals-rules").replaceChildren(byRule.length === 0 ? "" : table("Refusals by rule",
      ["Rule", "Command", "Refused"],
      byRule.map((line) => [line.rule, line.command, count(line.count)])));
    $("refusals-more").hidden = latest.length === 0;
    $("refusals-newest").replaceChildren(...latest.map((refusal) => h("li", {},
      h("span", { class: "label" }, `${dayOf(refusal.at)}, ${timeOf(refusal.at)}`),
      h("b", {}, `${refusal.command}: ${refusal.rule}`),
      refusal.flight ? h("button", { type: "button", class: "link",
        onclick: () => onFlight(refusal.flight) },
      `${flightName(refusal.flight)} from ${originOf(refusal.flight)}`) : "",
      h("span", {}, inLocalTime(refusal.reason)))));
  }

  return { counted, troubled };
}
