// Code of all charts: the drawing, which follows the width, and the tip with the values.
import { $, h, s } from "./dom.js";

/**
 * Makes a chart in `plot`. `draw(width)` returns { height, parts, marks, label }: SVG elements, and
 * the values that have a tip, each as { element, lines, x, y }. Returns a function that redraws.
 */
export function chart(plot, draw) {
  const svg = s("svg", { role: "img", tabindex: 0, class: "chart" });
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
  new ResizeObserver(() => {
    if (Math.floor(plot.clientWidth) !== drawnWidth) redraw();
  }).observe(plot);
  return redraw;
}

function showTip(mark, svg) {
  const tip = $("tip");
  const [first, ...rest] = mark.lines;
  tip.replaceChildren(h("b", {}, first), ...rest.map((line) => h("span", {}, line)));
  tip.hidden = false;
  const box = svg.getBoundingClientRect();
  const left = box.left + mark.x - tip.offsetWidth / 2;
  const top = box.top + mark.y - tip.offsetHeight - 8;
  const most = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(left, most))}px`;
  tip.style.top = `${top < 8 ? box.top + mark.y + 16 : top}px`;
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

/** Horizontal bars: rows are { label, value, shown, lines, tone }. */
export function bars(width, rows, { label, most, labelWidth, rowHeight = 26 }) {
  const valueWidth = 56;
  const top = (most ?? Math.max(...rows.map((row) => row.value ?? 0))) || 1;
  const room = width - labelWidth - valueWidth;
  const parts = [];
  const marks = [];
  rows.forEach((row, index) => {
    const y = index * rowHeight;
    const long = Math.max(0, ((row.value ?? 0) / top) * room);
    const element = s("g", { class: `bar-row ${row.tone ?? ""}` },
      s("rect", { x: 0, y, width, height: rowHeight, class: "hit" }),
      text(0, y + rowHeight / 2, fit(row.label, labelWidth - 8), { class: "name" }),
      s("rect", { x: labelWidth, y: y + 5, width: Math.max(long, 1), height: rowHeight - 10, rx: 2,
        class: "bar" }),
      text(labelWidth + long + 6, y + rowHeight / 2, row.shown, { class: "value" }));
    parts.push(element);
    marks.push({ element, lines: row.lines, x: labelWidth + long / 2, y });
  });
  return { height: rows.length * rowHeight, parts, marks, label };
}
