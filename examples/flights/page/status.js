// The status of a flight, in words and tones.
import { duration, lateness } from "./words.js";

const LATE_MINUTES = 15;
const VERY_LATE_MINUTES = 60;

/** The status of a row in words, with a tone and a mark, because colour alone is not enough. */
export function statusOf(row, now) {
  const left = row.delay_minutes === null ? "" : `left ${lateness(row.delay_minutes)}`;
  switch (row.status) {
    case "departed":
      return { words: "In the air", detail: left, tone: tone(row.delay_minutes), mark: "departed" };
    case "landed":
      return {
        words: "Landed", detail: lateness(row.arrival_delay_minutes),
        tone: tone(row.arrival_delay_minutes, "good"), mark: "landed",
      };
    case "cancelled":
      return { words: "Cancelled", detail: "", tone: "bad", mark: "cancelled" };
    case "diverted":
      return { words: "Diverted", detail: left, tone: "bad", mark: "diverted" };
    default: {
      const over = (Date.parse(now) - Date.parse(row.departs_at)) / 60000;
      if (!(over >= 1)) return { words: "Scheduled", detail: "", tone: "", mark: "scheduled" };
      return {
        words: "Waiting", detail: `${duration(over)} so far`, tone: tone(over), mark: "waiting",
      };
    }
  }
}

function tone(minutes, otherwise = "") {
  if (minutes === null || minutes < LATE_MINUTES) return otherwise;
  return minutes < VERY_LATE_MINUTES ? "late" : "bad";
}
