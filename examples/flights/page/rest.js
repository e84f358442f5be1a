// A log at rest, whose end has an empty board: the page opens at an instant with life instead.
import { ask } from "./api.js";
import { $, say } from "./dom.js";
import { eveningBefore, instant, momentOf } from "./words.js";

/** A board with fewer rows is not worth looking at. */
const FEWEST_ROWS = 5;
/** Seconds without an event after which a log that was growing is at rest. */
const REST_SECONDS = 2;
/** Seconds with events, one after another, after which the page is live again by itself. */
const BUSY_SECONDS = 2;
const MOST_DAYS = 7;

/** Only moves the time as long as the reader has not moved it. */
export function startRest({ time, board }) {
  let head = null;
  let still = 0;
  let busy = 0;
  let isOpening = true;
  let lookedAt = null;
  let putAt = null;

  /** Once a second: does the log grow? */
  function status(answer) {
    const grew = head !== null && answer.log.head > head;
    still = grew || head === null ? 0 : still + 1;
    busy = grew ? busy + 1 : 0;
    head = answer.log.head;
    if (putAt !== null && busy >= BUSY_SECONDS) time.put(null);
    else look();
  }

  /** The board or the clock came. */
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

  /** The newest evening with a board that is not empty. */
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

  /** The time moved: only where the page put it, it says why it is there. */
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
