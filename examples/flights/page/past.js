// Figures and feed of the past: asked of the log while the page shows an earlier time.
import { ask } from "./api.js";
import { instant } from "./words.js";

/** Pause after an answer, because each one folds all events before its time. */
const BETWEEN_MS = 700;

/** `onAnswer` gets each answer with its time, `onTrouble` a problem, or null once it is over. */
export function startPast({ onAnswer, onTrouble }) {
  let at = null;
  let shown = null;
  let isAsking = false;

  function moved(to) {
    at = to;
    if (at === null) {
      shown = null;
      onTrouble(null);
    } else load();
  }

  /** Sends one request at a time. While it runs, only the newest time waits. */
  async function load() {
    if (isAsking || at === null || at === shown) return;
    isAsking = true;
    const asked = at;
    try {
      const answered = await ask("happenings", { _occurred_before: instant(asked) });
      shown = asked;
      if (at !== null) {
        onTrouble(null);
        onAnswer(answered, asked);
      }
    } catch (problem) {
      // Another time, or the connection, starts the next try.
      if (at !== null) onTrouble(problem);
    }
    setTimeout(() => {
      isAsking = false;
      if (at !== asked) load();
    }, BETWEEN_MS);
  }

  /** Asks again for the same time, after the log got an event of that time. */
  function again() {
    shown = null;
    load();
  }

  return { moved, again };
}
