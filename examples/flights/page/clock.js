// The clock that the whole page follows, as text: its time, its mode, and a sentence that says so.
import { $, say } from "./dom.js";
import { clockDayOf, spokenOf, timeOf, zoneOf } from "./words.js";

/** The large clock: the time of the live answer, or the chosen time. */
export function showClock(ms) {
  $("bar").classList.remove("waiting");
  $("clock-time").hidden = false;
  say($("clock-time"), timeOf(ms));
  say($("clock-day"), clockDayOf(ms));
  say($("clock-zone"), `New York time (${zoneOf(ms)})`);
}

/** A log without a flight of the data has no time. Commands of visitors do not move the clock. */
export function showNoClock() {
  $("bar").classList.remove("waiting");
  $("clock-time").hidden = true;
  say($("clock-day"), "No time yet");
  say($("clock-zone"), "it starts with the first flight of the data");
}

/**
 * Says which time the page shows. `at` is null for the present, `last` is the end of the log, or
 * null as long as no flight is known. `isEmpty` says that the log has none.
 */
export function showMode({ at, last, isEmpty, isPlaying, connection }) {
  const page = document.documentElement;
  page.dataset.mode = at === null ? "live" : "past";
  const words = at !== null ? (isPlaying ? "Replay" : "Past")
    : { open: "Live", connecting: "Connecting" }[connection] ?? "Not live";
  say($("mode"), words);
  $("mode").dataset.mode = at === null ? "live" : "past";
  $("mode").dataset.connection = connection;
  say($("clock-words"), isEmpty ? "No flight of the data is in the log yet."
    : sentenceOf(at, last, connection));
}

function sentenceOf(at, last, connection) {
  if (last === null) return "";
  const end = `The log ends on ${spokenOf(last)}.`;
  if (at !== null) return `Showing ${spokenOf(at)}. ${end}`;
  return connection === "open" ? "Showing the end of the log, which goes on as events come."
    : `${end} New events are not seen without a connection.`;
}
