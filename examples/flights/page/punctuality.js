// The chart of arrivals on time: a stacked bar of delays for each airline.
import { choiceInAddress, goTo, onStep } from "./address.js";
import { chart, fit, nothing, text } from "./chart.js";
import { $, h, s } from "./dom.js";
import { asTable, loader } from "./pictures.js";
import { count, decimal, plural } from "./words.js";

const BINS = [
  "more than 15 min early", "up to 15 min early", "1 to 14 min late", "15 to 29 min late",
  "30 to 59 min late", "1 to 2 h late", "2 h and more late",
];
const ON_TIME_BINS = 3;
const TICKS = [0, 25, 50, 75, 100];
const AXIS_HEIGHT = 24;

const arrivals = (airline) => airline.arrivals_by_delay.reduce((sum, n) => sum + n, 0);
const percent = (n) => (n === null ? "–" : `${Math.round(n)} %`);

function share(airline) {
  const all = arrivals(airline);
  return all === 0 ? null : (airline.on_time / all) * 100;
}

export function startPunctuality() {
  const figure = $("punctuality");
  const order = $("punctuality-order");
  let answer = null;
  let airlines = [];
  order.value = choiceInAddress("order", order);
  drawLegend();

  const redraw = chart(figure.querySelector(".plot"), (width) => {
    if (answer === null) return null;
    if (airlines.length === 0) return nothing(width, "No flight was known at this time.");
    return drawn(width, airlines);
  });

  function show(answered = answer) {
    answer = answered;
    airlines = [...answer.airlines];
    if (order.value === "on-time") airlines.sort((a, b) => (share(b) ?? -1) - (share(a) ?? -1));
    redraw();
    asTable(figure, "Punctuality by airline", ["Airline", "Flights", "Departed", "Landed",
      "Cancelled", "Diverted", "On time", "Mean departure delay, min", "Mean arrival delay, min",
      ...BINS],
    airlines.map((airline) => [airline.name ?? airline.airline, count(airline.scheduled),
      count(airline.departed), count(airline.landed), count(airline.cancelled),
      count(airline.diverted), percent(share(airline)),
      decimal(airline.mean_departure_delay_minutes), decimal(airline.mean_arrival_delay_minutes),
      ...airline.arrivals_by_delay.map(count)]));
  }

  order.addEventListener("change", () => {
    goTo({ order: order.value === "flights" ? null : order.value });
    if (answer) show();
  });
  onStep((changed) => {
    if (!changed.has("order")) return;
    order.value = choiceInAddress("order", order);
    if (answer) show();
  });
  return { load: loader(figure, () => [["punctuality", {}]], show) };
}

/** The colours, in the two groups that they belong to. */
function drawLegend() {
  const group = (title, bins) => h("li", { class: "group" }, h("b", {}, title),
    h("ul", {}, ...bins.map(([label, bin]) => h("li", {},
      s("svg", { width: 12, height: 12, "aria-hidden": "true" },
        s("rect", { width: 12, height: 12, rx: 2, class: `bin${bin}` })), label))));
  const bins = BINS.map((label, bin) => [label, bin]);
  $("punctuality-legend").replaceChildren(
    group("on time", bins.slice(0, ON_TIME_BINS)), group("late", bins.slice(ON_TIME_BINS)));
}

function drawn(width, airlines) {
  const isNarrow = width < 620;
  const labelWidth = isNarrow ? 0 : 256;
  const rowHeight = isNarrow ? 44 : 28;
  const room = width - labelWidth - 52;
  const bottom = airlines.length * rowHeight;
  const parts = [];
  const marks = [];
  for (const tick of TICKS) {
    const x = labelWidth + (tick / 100) * room;
    const edge = tick === 0 ? "axis" : tick === 100 ? "axis end" : "axis middle";
    parts.push(s("line", { x1: x, x2: x, y1: 0, y2: bottom + 4, class: "grid" }),
      text(x, bottom + 14, `${tick} %`, { class: edge }));
  }
  airlines.forEach((airline, index) => {
    const y = index * rowHeight;
    const barY = isNarrow ? y + 20 : y + 5;
    const all = arrivals(airline);
    const name = airline.name ?? airline.airline;
    const landed = plural(all, "arrival", "arrivals");
    parts.push(
      text(0, isNarrow ? y + 11 : y + rowHeight / 2,
        fit(name, isNarrow ? room - 80 : labelWidth - 104), { class: "name" }),
      text(isNarrow ? width - 52 : labelWidth - 12, isNarrow ? y + 11 : y + rowHeight / 2,
        landed, { class: "count" }));
    let x = labelWidth;
    airline.arrivals_by_delay.forEach((n, bin) => {
      const long = all === 0 ? 0 : (n / all) * room;
      if (long === 0) return;
      // The gap after the third bar separates on-time from late.
      const gap = bin === ON_TIME_BINS - 1 ? 3 : 1;
      const element = s("rect", { x, y: barY, width: Math.max(0.5, long - gap), height: 18,
        class: `bin${bin}` });
      parts.push(element);
      marks.push({ element, x: x + long, y: barY + 9,
        lines: [`${percent((n / all) * 100)} ${BINS[bin]}`, `${count(n)} of ${landed}`, name,
          `${percent(share(airline))} on time`,
          `${plural(airline.scheduled, "flight", "flights")}, ${count(airline.cancelled)} `
            + `cancelled, ${count(airline.diverted)} diverted`] });
      x += long;
    });
    parts.push(text(width, barY + 9, percent(share(airline)), { class: "value end" }));
  });
  const best = [...airlines].sort((a, b) => (share(b) ?? -1) - (share(a) ?? -1));
  return {
    height: bottom + AXIS_HEIGHT, parts, marks,
    label: `Stacked bars of arrivals by delay for ${airlines.length} airlines. Most on time: `
      + `${best[0].name ?? best[0].airline} with ${percent(share(best[0]))}; least: `
      + `${best.at(-1).name ?? best.at(-1).airline} with ${percent(share(best.at(-1)))}.`,
  };
}
