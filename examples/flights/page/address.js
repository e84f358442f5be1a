// The part of the page's state that is in its address: time, airport, card, plane and charts. An
// address opens the same page again, and the browser's back and forward go through such pages.

/** All parameters of the address. */
const NAMES = ["at", "airport", "find", "flight", "position", "plane", "day", "order", "routes",
  "from", "hours", "hourly"];

/** `null` stands for a parameter that is absent. */
let state = read();
const watchers = [];

function read() {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.map((name) => [name, given.get(name) || null]));
}

export const inAddress = (name) => state[name];

/** The parameter if the list offers it, and else the first choice of the list. */
export function choiceInAddress(name, list) {
  const values = [...list.options].map((option) => option.value);
  return values.includes(state[name]) ? state[name] : values[0];
}

/** Writes parameters into the address, as a new page of the history. */
export function goTo(changes) {
  write(changes, "pushState");
}

/** Writes parameters into the address of the present page of the history. */
export function correct(changes) {
  write(changes, "replaceState");
}

function write(changes, how) {
  const next = { ...state, ...changes };
  if (NAMES.every((name) => next[name] === state[name])) return;
  state = next;
  const given = NAMES.filter((name) => next[name] !== null);
  const search = new URLSearchParams(given.map((name) => [name, next[name]])).toString();
  history[how](null, "", `${location.pathname}${search && `?${search}`}${location.hash}`);
}

/** Calls `watch` with the parameters that changed after a step back or forward. */
export function onStep(watch) {
  watchers.push(watch);
}

window.addEventListener("popstate", () => {
  const before = state;
  state = read();
  const changed = NAMES.filter((name) => before[name] !== state[name]);
  if (changed.length > 0) for (const watch of watchers) watch(new Set(changed));
});
