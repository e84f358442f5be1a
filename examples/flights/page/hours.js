// The chart of one day in New York: departures, their delay and the weather, hour by hour.
import { choiceInAddress, goTo, inAddress, onStep } from "./address.js";
import { ceiling, chart, nothing, text, ticks } from "./chart.js";
import { $, s, say } from "./dom.js";
import { asTable, loader, meanWords } from "./pictures.js";
import {
  count, dayIn, decimal, digits, fromInput, isDay, plural, spokenOf, timeOf,
} from "./words.js";

const HOUR_MS = 60 * 60 * 1000;
const LATE_MINUTES = 15;

export function startHours({ time }) {
  const figure = $("hours");
  const [airport, day, follows] = [$("hours-airport"), $("hours-day"), $("hours-follow")];
  let list = null;
  let past = {};
  const ofBoard = () => choiceInAddress("airport", airport);
  readAddress();

  function readAddress() {
    airport.value = inAddress("hourly") === null ? ofBoard() : choiceInAddress("hourly", airport);
    follows.checked = !isDay(inAddress("hours"));
    if (!follows.checked) day.value = inAddress("hours");
  }

  const redraw = chart(figure.querySelector(".plot"), (width) => {
    if (list === null) return null;
    if (list.every((hour) => hour.departed === 0 && hour.wind_mph === null)) {
      return nothing(width, "Nothing was known of this day.");
    }
    return drawn(width, list);
  });

  function show(...answers) {
    list = hoursOf(day.value, answers);
    const departed = list.reduce((sum, hour) => sum + hour.departed, 0);
    const delays = list.reduce((sum, hour) =>
      sum + hour.departed * (hour.mean_delay_minutes ?? 0), 0);
    say($("hours-hint"), departed === 0 ? emptyWords()
      : `${plural(departed, "departure", "departures")} on this day, on average `
        + `${meanWords(delays / departed)}. All times are New York’s.`);
    redraw();
    asTable(figure, "Delay and weather by hour", ["Hour in New York", "Departed",
      "Mean delay, min", "Temperature, °F", "Wind, mph", "Gusts, mph", "Precipitation, in",
      "Visibility, miles"],
    list.map((hour) => [timeOf(hour.at), count(hour.departed), decimal(hour.mean_delay_minutes),
      decimal(hour.temperature_f), decimal(hour.wind_mph), decimal(hour.gust_mph),
      hour.precipitation_inches === null ? "–" : digits(hour.precipitation_inches),
      decimal(hour.visibility_miles)]));
  }

  function emptyWords() {
    const [first, last] = [time.first(), time.shown()];
    return `No flight departed from ${airport.value} on this day, as far as the clock goes. `
      + `The log has flights from ${spokenOf(first)}, to ${spokenOf(last)}.`;
  }

  /** A day in New York lies in two days of UTC, by which the server keeps the hours. */
  const ask = loader(figure, () => {
    const args = (utc) => ["delay-by-hour", { airport: airport.value, day: utc }];
    return [args(day.value), args(dayAfter(day.value))];
  }, show);

  async function load(of = past) {
    past = of;
    if (time.shown() === null) return true;
    if (follows.checked || !day.value) day.value = dayIn(time.shown());
    return ask(past);
  }

  /** The chart follows the board, unless the reader chose another airport for it. */
  function setAirport(code) {
    if (airport.value === code || inAddress("hourly") !== null) return;
    airport.value = code;
    load();
  }

  airport.addEventListener("change", () => {
    goTo({ hourly: airport.value === ofBoard() ? null : airport.value });
    load();
  });
  day.addEventListener("change", () => {
    follows.checked = false;
    goTo({ hours: day.value || null });
    load();
  });
  follows.addEventListener("change", () => {
    goTo({ hours: follows.checked ? null : day.value });
    load();
  });
  onStep((changed) => {
    if (!changed.has("hours") && !changed.has("hourly")) return;
    readAddress();
    load();
  });
  return { load, setAirport };
}

const dayAfter = (day) => new Date(Date.parse(day) + 24 * HOUR_MS).toISOString().slice(0, 10);

/** The hours from midnight to midnight in New York: 24, or one more or less at a clock change. */
function hoursOf(day, answers) {
  const hours = answers.flatMap((answer) => answer.hours.map((hour) =>
    ({ ...hour, at: Date.parse(answer.day) + hour.hour * HOUR_MS })));
  const [from, to] = [fromInput(`${day}T00:00`), fromInput(`${dayAfter(day)}T00:00`)];
  return hours.filter((hour) => hour.at >= from && hour.at < to);
}

function drawn(width, list) {
  const left = 38;
  const band = (width - left - 4) / list.length;
  const middle = (index) => left + (index + 0.5) * band;
  const parts = [];
  const panels = [
    { title: "mean delay of departures, minutes", height: 112, of: "mean_delay_minutes",
      as: "bars", tickCount: 4 },
    { title: "number of departures", height: 44, of: "departed", as: "count", tickCount: 2 },
    { title: "wind (line) and gusts (dots), mph", height: 56, of: "wind_mph", and: "gust_mph",
      as: "line", tickCount: 3 },
    { title: "precipitation, inches", height: 44, of: "precipitation_inches", as: "rain",
      tickCount: 2 },
    { title: "visibility, miles", height: 44, of: "visibility_miles", as: "line", most: 10,
      tickCount: 2 },
  ];
  let top = 0;
  for (const panel of panels) {
    const start = top + 20;
    const values = list.map((hour) => hour[panel.of]);
    const known = values.concat(panel.and ? list.map((hour) => hour[panel.and]) : [])
      .filter((value) => value !== null);
    const most = panel.most ?? ceiling(Math.max(0, ...known));
    const least = panel.as === "bars" ? Math.min(0, ...known) : 0;
    const y = (value) => start + panel.height * (1 - (value - least) / (most - least));
    parts.push(text(left, top + 9, panel.title, { class: "panel-title" }));
    for (const value of ticks(least, most, panel.tickCount, { isWhole: panel.as === "count" })) {
      parts.push(s("line", { x1: left, x2: width - 4, y1: y(value), y2: y(value),
        class: value === 0 ? "grid zero" : "grid" }),
      text(left - 6, y(value), digits(value), { class: "axis end" }));
    }
    if (known.length === 0 || (panel.as === "rain" && known.every((value) => value === 0))) {
      const words = known.length === 0 ? "nothing is known" : "none";
      parts.push(text(left + 8, start + panel.height / 2, words, { class: "axis" }));
    }
    if (panel.as === "line") {
      parts.push(...lines(values, middle, y));
      if (panel.and) {
        list.forEach((hour, index) => hour[panel.and] !== null && parts.push(
          s("circle", { cx: middle(index), cy: y(hour[panel.and]), r: 2, class: "gust" })));
      }
    } else {
      const tone = (value) => ({ rain: "rain", count: "rain" }[panel.as]
        ?? (value >= LATE_MINUTES ? "late" : ""));
      values.forEach((value, index) => value !== null && value !== 0 && parts.push(s("rect", {
        x: left + index * band + 1.5, width: Math.max(1, band - 3),
        y: Math.min(y(value), y(0)), height: Math.max(1, Math.abs(y(value) - y(0))), rx: 1,
        class: `bar ${tone(value)}`,
      })));
    }
    top = start + panel.height + 16;
  }
  const every = width < 420 ? 6 : 3;
  for (let hour = 0; hour < list.length; hour += every) {
    parts.push(text(left + hour * band, top + 4, timeOf(list[hour].at), { class: "axis" }));
  }
  const marks = list.map((hour, index) => {
    const element = s("rect", { x: left + index * band, y: 0, width: band, height: top - 10,
      class: "hit hour" });
    parts.push(element);
    return { element, x: left + (index + 1) * band, y: 60, lines: hourLines(hour) };
  });
  const worst = list.reduce((a, b) =>
    ((b.mean_delay_minutes ?? -99) > (a.mean_delay_minutes ?? -99) ? b : a));
  return {
    height: top + 14, parts, marks,
    label: "Departures, their mean delay, wind, precipitation and visibility for each hour of a "
      + `day. The worst hour begins at ${timeOf(worst.at)}, `
      + `${worst.mean_delay_minutes === null ? "of none" : meanWords(worst.mean_delay_minutes)}.`,
  };
}

/** A line with gaps at unknown values. */
function lines(values, x, y) {
  const runs = [];
  let run = [];
  values.forEach((value, index) => {
    if (value === null) {
      if (run.length > 0) runs.push(run);
      run = [];
    } else run.push(`${x(index).toFixed(1)},${y(value).toFixed(1)}`);
  });
  if (run.length > 0) runs.push(run);
  return runs.map((points) => (points.length === 1
    ? s("circle", { cx: points[0].split(",")[0], cy: points[0].split(",")[1], r: 1.5,
      class: "dot" })
    : s("polyline", { points: points.join(" "), class: "line-of" })));
}

function hourLines(hour) {
  const known = (value, words) => (value === null ? null : words);
  return [
    `${timeOf(hour.at)} to ${timeOf(hour.at + HOUR_MS)}`,
    hour.departed === 0 ? "no departures" : `${plural(hour.departed, "departure", "departures")}, `
      + `on average ${meanWords(hour.mean_delay_minutes ?? 0)}`,
    known(hour.wind_mph, `wind ${decimal(hour.wind_mph)} mph`
      + (hour.gust_mph === null ? "" : `, gusts ${decimal(hour.gust_mph)} mph`)),
    known(hour.precipitation_inches, `precipitation ${digits(hour.precipitation_inches ?? 0)} in`),
    known(hour.visibility_miles, `visibility ${decimal(hour.visibility_miles)} miles`),
    known(hour.temperature_f, `${decimal(hour.temperature_f)} °F`),
  ].filter((line) => line !== null);
}
