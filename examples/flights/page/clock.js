// The clock that the whole page follows, as text: its time, its mode, and a sentence that says so.
import { $, say } from "./dom.js";
import { longDayOf, spokenOf, timeOf, zoneOf } from "./words.js";

/** The large clock: the time of the live answer, or the chosen time. */
export function showClock(ms) {
  $("bar").classList.remove("waiting");
  say($("clock-time"), timeOf(ms));
  say($("clock-day"), longDayOf(ms));
  say($("clock-zone"), `New York time (${zoneOf(ms)})`);
}

/**
 * Says which time the page shows. `at` is null for the present, `last` is the end of the log, or
 * null as long as no flight is known.
 */
export function showMode({ at, last, isPlaying, connection }) {
  const page = document.documentElement;
  page.dataset.mode = at === null ? "live" : "past";
  const words = at !== null ? (isPlaying ? "Replay" : "Past")
    : { open: "Live", connecting: "Connecting" }[connection] ?? "Not live";
  say($("mode"), words);
  $("mode").dataset.mode = at === null ? "live" : "past";
  $("mode").dataset.connection = connection;
  say($("clock-words"), sentenceOf(at, last, connection));
}

function sentenceOf(at, last, connection) {
  if (last === null) return "";
  const end = `The log ends on ${spokenOf(last)}.`;
  if (at !== null) return `Showing ${spokenOf(at)}. ${end}`;
  return connection === "open" ? "Showing the end of the log, which goes on as events come."
    : `${end} New events are not seen without a connection.`;
}
