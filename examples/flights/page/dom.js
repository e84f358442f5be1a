// Builds elements by calls and never from markup in strings, so that data cannot become script.
const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An HTML element; `attributes` may hold listeners (`onclick`), booleans and data. */
export function h(name, attributes, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function s(name, attributes, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

/** A symbol from the page's own set. */
export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));
}

/** Sets a text only if it differs, so that a screen reader does not repeat it. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * The table that replaces a chart: `columns` are headings, `rows` are lists of cells. A column of
 * numbers is right-aligned.
 */
export function table(caption, columns, rows) {
  const isNumber = (text) => typeof text === "string" && /^(–|[−\d][\d,.]*( %)?)$/.test(text);
  const numeric = columns.map((_, index) => index > 0 && rows.length > 0
    && rows.every((row) => isNumber(row[index])));
  const kind = (index) => (numeric[index] ? "number" : null);
  return h(
    "table",
    { class: "plain" },
    h("caption", { class: "sr" }, caption),
    h("thead", {}, h("tr", {}, ...columns.map((text, index) =>
      h("th", { scope: "col", class: kind(index) }, text)))),
    h("tbody", {}, ...rows.map(([first, ...rest]) =>
      h("tr", {}, h("th", { scope: "row" }, first),
        ...rest.map((cell, index) => h("td", { class: kind(index + 1) }, cell))))),
  );
}

/** A label and its value, as entries of a `dl`. */
export function fact(label, ...value) {
  return h("div", {}, h("dt", {}, label), h("dd", {}, ...value));
}

function build(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}
