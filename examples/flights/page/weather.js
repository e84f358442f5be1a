// The charts of delay by weather: wind, visibility and precipitation.
import { bars, chart, nothing } from "./chart.js";
import { $, h } from "./dom.js";
import { asTable, loader, meanWords } from "./pictures.js";
import { count, decimal, plural } from "./words.js";

const LATE_MINUTES = 15;
const KINDS = [
  ["wind", "Wind"], ["visibility", "Visibility"], ["precipitation", "Precipitation"],
];

export function startWeather() {
  const figure = $("weather");
  const plot = figure.querySelector(".plot");
  let answer = null;
  const redraws = KINDS.map(([kind, title]) => {
    const box = h("div", {});
    plot.append(h("div", {}, h("h4", {}, title), box));
    return chart(box, (width) => (answer === null ? null : drawn(width, kind, answer)));
  });
  const load = loader(figure, () => [["delay-by-weather", {}]], (answered) => {
    answer = answered;
    redraws.forEach((redraw) => redraw());
    asTable(figure, "Delay by weather", ["Weather", "Kind", "Departed", "Mean delay, min"],
      KINDS.flatMap(([kind, title]) => answer[kind].map((bin) =>
        [bin.label, title, count(bin.departed), decimal(bin.mean_delay_minutes)])));
  });
  return { load };
}

function drawn(width, kind, answer) {
  if (answer[kind].every((bin) => bin.departed === 0)) {
    return nothing(width, "Nothing was known at this time.");
  }
  const most = Math.max(...KINDS.flatMap(([other]) =>
    answer[other].map((bin) => bin.mean_delay_minutes ?? 0)));
  const rows = answer[kind].map((bin) => ({
    label: bin.label,
    value: bin.mean_delay_minutes ?? 0,
    shown: decimal(bin.mean_delay_minutes),
    beside: bin.departed === 0 ? "no flight" : `of ${count(bin.departed)}`,
    tone: (bin.mean_delay_minutes ?? 0) >= LATE_MINUTES ? "late" : "",
    lines: [bin.label, plural(bin.departed, "departure", "departures"),
      bin.mean_delay_minutes === null ? "no delay is known"
        : `on average ${meanWords(bin.mean_delay_minutes)}`],
  }));
  return bars(width, rows, { most, labelWidth: 120, unit: "min late",
    label: `Mean delay by ${kind}: `
      + rows.map((row) => `${row.label} ${row.shown}`).join(", ") });
}
