// Formats times, numbers and names. The page uses New York time, the log uses UTC.
const ZONE = "America/New_York";
const clock = formatter({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayShort = formatter({ weekday: "short", day: "numeric", month: "short" });
const dayOfClock = formatter({ weekday: "short", day: "numeric", month: "long", year: "numeric" });
const dayLong = formatter({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
const dayNamed = formatter({ weekday: "long", day: "numeric", month: "long" });
const yearOnly = formatter({ year: "numeric" });
const parts = formatter({
  year: "numeric", month: "2-digit", day: "2-digit",
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const zoneName = new Intl.DateTimeFormat("en-US", { timeZone: ZONE, timeZoneName: "short" });
const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en-GB", {
  minimumFractionDigits: 1, maximumFractionDigits: 1,
});

const names = { airlines: {}, airports: {} };
/** The year of the flights. Times of other years are written with their year. */
let usualYear = null;

export function learnYear(instant) {
  usualYear = yearOnly.format(new Date(instant));
}

export function learnNames(answer) {
  Object.assign(names, answer);
}

export const airlineName = (code) => names.airlines[code] ?? code;
export const airportName = (code) => names.airports[code]?.name ?? code;
export const airports = () => names.airports;

export const timeOf = (instant) => clock.format(new Date(instant));
export const dayOf = (instant) => withYear(dayShort.format(new Date(instant)), instant);
export const clockDayOf = (instant) => dayOfClock.format(new Date(instant));
export const longDayOf = (instant) => dayLong.format(new Date(instant));
/** A day and a time in a sentence: "Thursday 31 January, 17:00". */
export const spokenOf = (instant) =>
  `${withYear(dayNamed.format(new Date(instant)), instant)}, ${timeOf(instant)}`;
export const zoneOf = (instant) =>
  zoneName.formatToParts(new Date(instant)).find((part) => part.type === "timeZoneName").value;
export const momentOf = (instant) => `${dayOf(instant)}, ${timeOf(instant)} ${zoneOf(instant)}`;

/** Replaces the UTC instants in a text by the time of the boards. */
export const inLocalTime = (text) =>
  text.replace(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, (at) => momentOf(at));

/** An instant in the format of the log. */
export const instant = (ms) => new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
/** The day in New York, as `2013-01-31`. */
export const dayIn = (ms) => toInput(ms).slice(0, 10);

/** Whether a text is a day, as `dayIn` writes it. */
export const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text));

/** The value for a `datetime-local` input, in New York time. */
export function toInput(ms) {
  const at = wall(ms);
  return `${at.year}-${at.month}-${at.day}T${at.hour}:${at.minute}`;
}

/** Parses the New York time of an input. Returns milliseconds, or NaN if it is not a time. */
export function fromInput(text) {
  const asUtc = Date.parse(`${text}Z`);
  if (Number.isNaN(asUtc)) return NaN;
  // The first guess may lie on the other side of a clock change, so the offset is read twice.
  const once = asUtc - offset(asUtc);
  return asUtc - offset(once);
}

/** The last time before this instant when it was this hour in New York. */
export function hourBefore(ms, hour) {
  const then = (day) => fromInput(`${dayIn(day)}T${String(hour).padStart(2, "0")}:00`);
  const same = then(ms);
  return same < ms ? same : then(same - 24 * 60 * 60 * 1000);
}

/** Turns a lower-case message of the server into a sentence. */
export function sentence(words) {
  const text = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

export const count = (n) => (n === null || n === undefined ? "–" : minus(whole.format(n)));
export const decimal = (n) => (n === null || n === undefined ? "–" : minus(tenth.format(n)));
/** A number as its digits, such as a tick of an axis. */
export const digits = (n) => minus(String(+n.toFixed(3)));
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
export const millis = (ms) => `${ms < 10 ? tenth.format(ms) : whole.format(ms)} ms`;
export const rate = (n) => (n > 0 && n < 10 ? tenth.format(n) : whole.format(n));

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  if (n < 1e3) return `${whole.format(n)} B`;
  if (n < 1e6) return `${whole.format(n / 1e3)} kB`;
  return n < 1e9 ? `${tenth.format(n / 1e6)} MB` : `${tenth.format(n / 1e9)} GB`;
}

/** Every duration on the page: "44 min", "1 h 44 min". */
export function duration(minutes) {
  const n = Math.abs(Math.round(minutes));
  const [hours, rest] = [Math.floor(n / 60), n % 60];
  if (hours === 0) return `${rest} min`;
  return rest === 0 ? `${hours} h` : `${hours} h ${rest} min`;
}

export function lateness(minutes) {
  if (minutes === null || minutes === undefined) return "";
  if (Math.round(minutes) === 0) return "on time";
  return `${duration(minutes)} ${minutes > 0 ? "late" : "early"}`;
}

/** The name of a flight for people: "UA 1545". */
export function flightName(flight) {
  const [, airline, number] = /^(..)(\d+)-/.exec(flight) ?? [];
  return number === undefined ? flight : `${airline} ${number}`;
}

/** The airport of a flight. */
export const originOf = (flight) => flight.split("-")[1];

const minus = (text) => text.replace("-", "−");

function withYear(text, instant) {
  const year = yearOnly.format(new Date(instant));
  return usualYear === null || year === usualYear ? text : `${text} ${year}`;
}

function formatter(options) {
  return new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, ...options });
}

function wall(ms) {
  const list = parts.formatToParts(new Date(ms));
  return Object.fromEntries(list.map((part) => [part.type, part.value]));
}

function offset(ms) {
  const at = wall(ms);
  const text = `${at.year}-${at.month}-${at.day}T${at.hour}:${at.minute}:${at.second}Z`;
  return Date.parse(text) - Math.floor(ms / 1000) * 1000;
}
