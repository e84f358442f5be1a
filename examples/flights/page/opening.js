// When the log no longer grows, the board at its end is empty. The page then opens with a replay of
// the newest day with flights, or stands still in it for a reader who wants no movement.
import { ask } from "./api.js";
import { $, say } from "./dom.js";
import { hourBefore, instant, spokenOf } from "./words.js";

/** A board with fewer rows counts as empty. */
const FEWEST_ROWS = 5;
/** A log without new events for this many seconds is at rest. */
const REST_SECONDS = 2;
/** After this many consecutive seconds with events the page returns to the present. */
const BUSY_SECONDS = 2;
const MOST_DAYS = 7;
const HOUR_MS = 60 * 60 * 1000;
/** The hours of the day that is shown: the day is chosen at its busiest, and replayed. */
const FULL_HOUR = 17;
const REPLAY_FROM_HOURS = -10.5;
const REPLAY_TO_HOURS = 5.5;

/** Moves the time only until the reader moves it. */
export function startOpening({ time, board }) {
  let head = null;
  let still = 0;
  let busy = 0;
  let isFirst = true;
  let lookedAt = null;
  let putAt = null;
  let evening = null;

  /** Checks once a second whether the log grows. */
  function status(answer) {
    const grew = head !== null && answer.log.head > head;
    still = grew || head === null ? 0 : still + 1;
    busy = grew ? busy + 1 : 0;
    head = answer.log.head;
    if (putAt !== null && busy >= BUSY_SECONDS) {
      time.stop();
      time.put(null);
    } else look();
  }

  /** Called when the board or the clock has its first value. */
  async function look() {
    const shown = board.shown();
    if (time.isChosen() || time.at() !== null || !shown?.isNow || time.last() === null) return;
    const isAtRest = isFirst || still >= REST_SECONDS;
    if (shown.rows.length >= FEWEST_ROWS) isFirst = false;
    if (!isAtRest || shown.rows.length >= FEWEST_ROWS || lookedAt === time.last()) return;
    isFirst = false;
    lookedAt = time.last();
    evening = await findLife();
    if (evening === null || time.isChosen() || time.at() !== null) return;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      time.put(evening);
      return;
    }
    time.put(Math.max(time.first(), evening + REPLAY_FROM_HOURS * HOUR_MS));
    time.play(evening + REPLAY_TO_HOURS * HOUR_MS);
    words();
  }

  /** Finds the newest evening with enough flights on the board. */
  async function findLife() {
    let at = time.last();
    for (let day = 0; day < MOST_DAYS; day += 1) {
      at = hourBefore(at, FULL_HOUR);
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

  /** Called when the time moves. The explanation is shown only at a time that the page chose. */
  function moved(at) {
    putAt = at !== null && !time.isChosen() ? at : null;
    $("rest").hidden = putAt === null;
    if (putAt !== null) words();
  }

  function words() {
    const [day] = spokenOf(evening).split(",");
    say($("rest-said"), time.isPlaying()
      ? `All flights are in the log already. This is a replay of ${day}: at each time, the page `
        + "asks the log what was so then. The replay changes nothing, and commands that you send "
        + "come after the newest event."
      : `All flights are in the log already, and at its end the board is nearly empty, so the page `
        + `shows ${spokenOf(putAt)}. Press Play, or move the slider.`);
  }

  $("rest-end").addEventListener("click", () => {
    $("play").focus();
    time.now();
  });
  return { status, look, moved };
}
