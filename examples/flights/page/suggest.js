// Suggested commands: values that the rules accept at the time that the page shows.
import { ask, send } from "./api.js";
import { dayIn, instant, toInput } from "./words.js";

const MINUTE_MS = 60 * 1000;
export const HOUR_MS = 60 * MINUTE_MS;
/** A command for a log without a time is of the first morning of the data, in New York. */
export const FIRST_MORNING_MS = Date.parse("2013-01-01T10:00:00Z");
/** The data has no flight numbers from here on. */
const FIRST_FREE_NUMBER = 9001;
const MOST_TRIES = 60;
/** Suggested times: a flight departs a little late, and lands or is diverted later. */
const LEAVES_AFTER_MS = 4 * MINUTE_MS;
const MILES_A_MINUTE = 7.5;
const USUAL_MILES = 1000;
/** A tail number that is not in the data. */
const OWN_PLANE = "N9DIPT";
const DESTINATION = "SFO";

/** The status that a flight must have before each command. */
const STATUS_BEFORE = {
  "depart-flight": "scheduled", "cancel-flight": "scheduled",
  "land-flight": "departed", "divert-flight": "departed",
};

/** `time` is the clock of the page, `board` the state of the board. */
export function startSuggestions({ time, board }) {
  let number = FIRST_FREE_NUMBER;
  let free = { of: "", flight: "" };

  const now = () => Math.ceil((time.shown() ?? FIRST_MORNING_MS) / MINUTE_MS) * MINUTE_MS;

  async function newFlight() {
    const departsAt = Math.ceil((now() + HOUR_MS) / (5 * MINUTE_MS)) * 5 * MINUTE_MS;
    return {
      flight: await freeFlight(board.airport(), dayIn(departsAt)),
      departs_at: toInput(departsAt), destination: DESTINATION, plane: "", distance_miles: "",
    };
  }

  /** Cached for each number, airport and day, because suggestions are frequent. */
  async function freeFlight(origin, day) {
    const of = () => `${number}-${origin}-${day}`;
    if (free.of !== of()) {
      const flight = await findFree(origin, day);
      free = { of: of(), flight };
    }
    return free.flight;
  }

  async function findFree(origin, day) {
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const flight = `UA${number}-${origin}-${day}`;
      try {
        if ((await ask("flight-card", { flight })).answer === null) return flight;
      } catch (problem) {
        console.info("a free number could not be asked for", problem);
        return flight;
      }
      number += 1;
    }
    return `UA${number}-${origin}-${day}`;
  }

  /** A change of the reader's own flight, or of one on the board. `offer` gets all such flights. */
  async function nextChange(name, own, offer) {
    const wanted = STATUS_BEFORE[name];
    const current = await boardOfTheEnd();
    offer(current.rows.filter((row) => row.status === wanted), current.rows);
    const row = own?.status === wanted ? own : nextRow(current, wanted);
    return {
      flight: row?.flight ?? "", plane: row?.plane ?? "", at: toInput(changeAt(name, row)),
      arrival_delay_minutes: "0",
    };
  }

  /**
   * The board at the time of the page, with everything that the log has. Rules read the whole log,
   * also while the page shows the past.
   */
  async function boardOfTheEnd() {
    const shown = board.shown();
    if (time.at() === null && shown?.isNow && shown.airport === board.airport()) return shown;
    try {
      const at = time.at() === null ? null : instant(time.at());
      return (await ask("departure-board", { airport: board.airport(), at })).answer;
    } catch (problem) {
      console.info("the board could not be asked for", problem);
      return { rows: [], at: null };
    }
  }

  /** The suggested time: after the scheduled departure, plus a flight time by distance. */
  function changeAt(name, row) {
    if (!row || name === "cancel-flight") return now();
    if (name === "depart-flight") {
      return Math.max(now(), Date.parse(row.departs_at) + LEAVES_AFTER_MS);
    }
    const minutes = Math.round((row.distance_miles ?? USUAL_MILES) / MILES_A_MINUTE);
    const departedAt = Date.parse(row.departed_at ?? row.departs_at);
    return Math.max(now(), departedAt + minutes * MINUTE_MS);
  }

  function nextRow({ rows: all, at }, status, other = () => true) {
    const rows = all.filter((row) => row.status === status && other(row));
    if (status === "scheduled") return rows.find((row) => row.departs_at >= at) ?? rows[0];
    return rows.at(-1);
  }

  /** Schedules a new flight if the data has no suitable one. Returns its id. */
  async function scheduleOwn(plane, departsAt) {
    const flight = await freeFlight(board.airport(), dayIn(departsAt));
    number += 1;
    await send("schedule-flight", {
      flight, departs_at: instant(departsAt), destination: DESTINATION, plane,
      distance_miles: null,
    }, crypto.randomUUID(), instant(now() - MINUTE_MS));
    return flight;
  }

  /** A flight that is scheduled already. */
  async function twice() {
    const current = await boardOfTheEnd();
    const row = nextRow(current, "scheduled") ?? current.rows[0];
    const departsAt = row ? Date.parse(row.departs_at) : now() + HOUR_MS;
    return {
      flight: row?.flight ?? await scheduleOwn(null, departsAt), departs_at: toInput(departsAt),
      destination: row?.destination ?? DESTINATION, plane: row?.plane ?? "", distance_miles: "",
    };
  }

  /** Finds a plane in the air and a scheduled flight, or creates them. */
  async function planeInTheAir() {
    const current = await boardOfTheEnd();
    let plane = nextRow(current, "departed", (row) => row.plane !== null)?.plane;
    let next = nextRow(current, "scheduled");
    if (!next) {
      const departsAt = now() + HOUR_MS;
      next = { flight: await scheduleOwn(null, departsAt), departs_at: instant(departsAt) };
    }
    if (!plane) {
      plane = OWN_PLANE;
      const flight = await scheduleOwn(plane, now() + 5 * MINUTE_MS);
      const at = instant(now() + 5 * MINUTE_MS + LEAVES_AFTER_MS);
      await send("depart-flight", { flight, plane, at }, crypto.randomUUID(), at);
    }
    return { plane, flight: next.flight, at: toInput(changeAt("depart-flight", next)) };
  }

  return {
    newFlight, nextChange, twice, planeInTheAir,
    /** The suggested number is used. */
    used: () => (number += 1),
    another: () => (free = { of: "", flight: "" }),
  };
}
