// When the log no longer grows, the board at its end is empty. The page then opens at an earlier
// time with flights.
import { ask } from "./api.js";
import { $, say } from "./dom.js";
import { eveningBefore, instant, momentOf } from "./words.js";

/** A board with fewer rows counts as empty. */
const FEWEST_ROWS = 5;
/** A log without new events for this many seconds is at rest. */
const REST_SECONDS = 2;
/** After this many consecutive seconds with events the page returns to the present. */
const BUSY_SECONDS = 2;
const MOST_DAYS = 7;

/** Moves the time only until the reader moves it. */
export function startRest({ time, board }) {
  let head = null;
  let still = 0;
  let busy = 0;
  let isOpening = true;
  let lookedAt = null;
  let putAt = null;

  /** Checks once a second whether the log grows. */
  function status(answer) {
    const grew = head !== null && answer.log.head > head;
    still = grew || head === null ? 0 : still + 1;
    busy = grew ? busy + 1 : 0;
    head = answer.log.head;
    if (putAt !== null && busy >= BUSY_SECONDS) time.put(null);
    else look();
  }

  /** Called when the board or the clock has its first value. */
  async function look() {
    const shown = board.shown();
    if (time.isChosen() || time.at() !== null || !shown?.isNow || time.last() === null) return;
    const isAtRest = isOpening || still >= REST_SECONDS;
    if (shown.rows.length >= FEWEST_ROWS) isOpening = false;
    if (!isAtRest || shown.rows.length >= FEWEST_ROWS || lookedAt === time.last()) return;
    isOpening = false;
    lookedAt = time.last();
    const at = await findLife();
    if (at !== null && !time.isChosen() && time.at() === null) time.put(at);
  }

  /** Finds the newest evening with enough flights on the board. */
  async function findLife() {
    let at = time.last();
    for (let day = 0; day < MOST_DAYS; day += 1) {
      at = eveningBefore(at);
      if (at < time.first()) return null;
      try {
        const then = instant(at);
        const args = { airport: board.airport(), at: then, _occurred_before: then };
        const { answer } = await ask("departure-board", args);
        if (answer.rows.length >= FEWEST_ROWS) return at;
      } catch (problem) {
        console.info("no evening could be asked for", problem);
        return null;
      }
    }
    return null;
  }

  /** Called when the time moves. The explanation is shown only at the time that the page chose. */
  function moved(at) {
    putAt = at !== null && !time.isChosen() ? at : null;
    $("rest").hidden = putAt === null;
    if (putAt === null) return;
    say($("rest-said"), `The log is at rest: it ends at ${momentOf(time.last())}, with next to no `
      + `flight on the board. You see ${momentOf(at)}. Press Play, or move the slider.`);
  }

  $("rest-end").addEventListener("click", () => {
    $("play").focus();
    time.now();
  });
  return { status, look, moved };
}
