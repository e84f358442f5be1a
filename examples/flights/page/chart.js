// Code of all charts: the drawing, which follows the width, and the tip with the values.
import { $, h, s } from "./dom.js";
import { digits } from "./words.js";

/**
 * Makes a chart in `plot`. `draw(width)` returns { height, parts, marks, label }: SVG elements, and
 * the values that have a tip, each as { element, lines, x, y }. Returns a function that redraws.
 */
export function chart(plot, draw) {
  const svg = s("svg", { role: "img", tabindex: 0, class: "chart",
    "aria-label": "A chart that is asked for" });
  const said = h("p", { class: "sr", role: "status" });
  plot.replaceChildren(svg, said);
  let marks = [];
  let active = -1;
  let drawnWidth = 0;

  function redraw() {
    const width = Math.floor(plot.clientWidth);
    if (width === 0) return;
    drawnWidth = width;
    const drawn = draw(width);
    if (!drawn) return;
    svg.setAttribute("viewBox", `0 0 ${width} ${drawn.height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", drawn.height);
    svg.setAttribute("aria-label", drawn.label);
    svg.replaceChildren(...drawn.parts);
    marks = drawn.marks;
    if (active >= marks.length) active = -1;
    marks.forEach((mark) => {
      mark.element.addEventListener("pointerenter", () => point(marks.indexOf(mark)));
      mark.element.addEventListener("pointerleave", leave);
    });
    if (active >= 0 && document.activeElement === svg) point(active);
  }

  function point(index) {
    marks[active]?.element.classList.remove("active");
    active = index;
    const mark = marks[index];
    mark.element.classList.add("active");
    showTip(mark, svg);
  }

  function leave() {
    marks[active]?.element.classList.remove("active");
    active = -1;
    $("tip").hidden = true;
  }

  svg.addEventListener("keydown", (event) => {
    if (marks.length === 0) return;
    const next = {
      ArrowRight: active + 1, ArrowDown: active + 1,
      ArrowLeft: active - 1, ArrowUp: active - 1,
      Home: 0, End: marks.length - 1,
    }[event.key];
    if (event.key === "Escape") leave();
    if (next === undefined) return;
    event.preventDefault();
    point(Math.max(0, Math.min(marks.length - 1, next)));
    said.textContent = marks[active].lines.join(", ");
  });
  svg.addEventListener("blur", leave);
  // In a frame of its own, because a drawing within the notice changes what is observed.
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (Math.floor(plot.clientWidth) !== drawnWidth) redraw();
  })).observe(plot);
  return redraw;
}

/** Shows the tip at the right of the value, or at its left if there is no room. */
function showTip(mark, svg) {
  const tip = $("tip");
  const [first, ...rest] = mark.lines;
  tip.replaceChildren(h("b", {}, first), ...rest.map((line) => h("span", {}, line)));
  tip.hidden = false;
  const box = svg.getBoundingClientRect();
  const shape = mark.element.getBoundingClientRect();
  const most = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const right = box.left + mark.x + 8;
  const left = right <= most ? right : Math.max(8, shape.left - tip.offsetWidth - 8);
  const isBeside = right <= most || shape.left - tip.offsetWidth - 8 >= 8;
  // Without room at either side, the tip is below the value, so that it does not cover it.
  const top = isBeside ? box.top + mark.y - tip.offsetHeight / 2 : shape.bottom + 6;
  const lowest = document.documentElement.clientHeight - tip.offsetHeight - 8;
  tip.style.left = `${Math.min(left, Math.max(8, most))}px`;
  tip.style.top = `${Math.max(8, Math.min(top, lowest))}px`;
}

/** A chart without values, with words. */
export function nothing(width, words) {
  return { height: 48, parts: [text(width / 2, 24, words, { class: "empty" })], marks: [],
    label: words };
}

const STEPS = [1, 2, 2.5, 3, 4, 5];

/**
 * Round values of an axis from `least` to `most`: about `wanted` of them above zero, and those below
 * zero. The last one is at `most` if that does not make it more of them. Counts have only whole ones.
 */
export function ticks(least, most, wanted, { isWhole = false } = {}) {
  const unit = 10 ** Math.floor(Math.log10(most));
  const steps = [unit / 10, unit].flatMap((of) => STEPS.map((n) => n * of))
    .filter((step) => !isWhole || Number.isInteger(step))
    .map((step) => ({ step, count: Math.floor(most / step + 1e-9) }))
    .filter(({ count }) => count >= 1);
  const isUneven = ({ step, count }) => Math.abs(step * count - most) > 1e-9;
  const distance = ({ count }) => Math.abs(count - wanted);
  const [{ step, count }] = steps.sort((a, b) => distance(a) - distance(b)
    || isUneven(a) - isUneven(b));
  const from = Math.ceil(least / step - 1e-9);
  return Array.from({ length: count - from + 1 }, (_, index) => (from + index) * step);
}

/** A round number at or above `value`, for the end of an axis. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((n) => n * unit).find((n) => n >= value);
}

export function text(x, y, words, attributes = {}) {
  return s("text", { x, y, ...attributes }, words);
}

const ruler = document.createElement("canvas").getContext("2d");

/** The width of a text in the font of the charts. */
export function widthOf(words) {
  ruler.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(words).width;
}

/** The text, shortened to fit. */
export function fit(words, width) {
  if (widthOf(words) <= width) return words;
  let most = words.length;
  while (most > 1 && widthOf(`${words.slice(0, most)}…`) > width) most -= 1;
  return `${words.slice(0, most).trimEnd()}…`;
}

const AXIS_HEIGHT = 30;

/**
 * Horizontal bars over an axis: rows are { label, value, shown, beside, lines, tone }. A value
 * below zero goes to the left.
 */
export function bars(width, rows, { label, most, labelWidth, unit, rowHeight = 26 }) {
  const valueWidth = 36 + (rows.some((row) => row.beside) ? 64 : 12);
  const top = ceiling(Math.max(most ?? 0, ...rows.map((row) => row.value)));
  const least = Math.min(0, ...rows.map((row) => row.value));
  const room = width - labelWidth - valueWidth;
  const x = (value) => labelWidth + ((value - least) / (top - least)) * room;
  const bottom = rows.length * rowHeight;
  const parts = [];
  const marks = [];
  const axis = ticks(least, top, room < 150 ? 2 : 4);
  axis.forEach((tick, index) => {
    const isLast = index === axis.length - 1;
    parts.push(s("line", { x1: x(tick), x2: x(tick), y1: 0, y2: bottom + 4,
      class: tick === 0 ? "grid zero" : "grid" }),
    text(x(tick), bottom + 14, isLast ? `${digits(tick)} ${unit}` : digits(tick),
      { class: isLast ? "axis last" : "axis middle" }));
  });
  rows.forEach((row, index) => {
    const y = index * rowHeight;
    const [from, to] = [Math.min(x(0), x(row.value)), Math.max(x(0), x(row.value))];
    const element = s("g", { class: `bar-row ${row.tone ?? ""}` },
      s("rect", { x: 0, y, width, height: rowHeight, class: "hit" }),
      text(0, y + rowHeight / 2, fit(row.label, labelWidth - 8), { class: "name" }),
      s("rect", { x: from, y: y + 5, width: Math.max(to - from, 1), height: rowHeight - 10, rx: 2,
        class: "bar" }),
      text(to + 6, y + rowHeight / 2, row.shown, { class: "value" }),
      row.beside ? text(width, y + rowHeight / 2, row.beside, { class: "count" }) : null);
    parts.push(element);
    marks.push({ element, lines: row.lines, x: to + 44, y: y + rowHeight / 2 });
  });
  return { height: bottom + AXIS_HEIGHT, parts, marks, label };
}
