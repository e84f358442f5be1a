// The charts: punctuality, routes, delay and weather by hour, delay by weather.
import { ask } from "./api.js";
import { bars, ceiling, chart, fit, text } from "./chart.js";
import { $, h, s, say, table } from "./dom.js";
import {
  airportName, count, decimal, instant, millis, momentOf, plural, timeOf, utcDay,
} from "./words.js";

const BINS = [
  "more than 15 min early", "up to 15 min early", "1 to 14 min late", "15 to 29 min late",
  "30 to 59 min late", "1 to 2 h late", "2 h and more late",
];
const ON_TIME_BINS = 3;

export function startPictures({ timeShown, lastInstant }) {
  const pictures = [punctuality(), routes(), hours(lastInstant), weather()];
  let then = null;

  /** Refreshes all charts, or only those of the clock's day, for the present or for `then`. */
  async function refresh() {
    const past = then === null ? {} : { _occurred_before: instant(then) };
    const started = performance.now();
    await Promise.all(pictures.map((picture) => picture.load(past)));
    const took = millis(performance.now() - started);
    say($("pictures-state"), then === null ? "Shows the present, and is drawn again as events come."
      : `Shows the state before ${momentOf(then)}: folded from the log in ${took} together.`);
  }

  /** Called when the clock has stopped at `at`. */
  function settled(at) {
    $("pictures-then").hidden = at === null || at === then;
    $("pictures-now").hidden = then === null;
    if (at === null && then !== null) showNow();
    else pictures[2].follow(at ?? lastInstant(), then);
  }

  function showNow() {
    then = null;
    settled(timeShown());
    refresh();
  }

  $("pictures-then").addEventListener("click", () => {
    then = timeShown();
    say($("pictures-state"), "Asking the log …");
    settled(then);
    refresh();
  });
  $("pictures-now").addEventListener("click", showNow);
  return {
    refresh,
    settled,
    isOfNow: () => then === null,
    airport: (code) => pictures[2].setAirport(code, then),
  };
}

/** Asks a query and passes the answer to `show`. Only the newest of several answers is shown. */
function loader(figure, query, args, show) {
  let asked = 0;
  return async (past = {}) => {
    const mine = ++asked;
    try {
      const { answer } = await ask(query, { ...args(), ...past });
      if (mine !== asked) return;
      figure.querySelector(".trouble")?.remove();
      show(answer);
    } catch (problem) {
      if (mine !== asked) return;
      figure.querySelector(".trouble")?.remove();
      const words = `This could not be asked: ${problem.message}.`;
      figure.querySelector("figcaption").append(h("p", { class: "trouble" }, words));
    }
  };
}

function asTable(figure, ...content) {
  figure.querySelector(".as-table").replaceChildren(table(...content));
}

function nothing(width, words) {
  return { height: 48, parts: [text(width / 2, 24, words, { class: "empty" })], marks: [],
    label: words };
}

function punctuality() {
  const figure = $("punctuality");
  let airlines = [];
  const arrivals = (airline) => airline.arrivals_by_delay.reduce((sum, n) => sum + n, 0);
  const share = (airline) => {
    const all = arrivals(airline);
    return all === 0 ? null : (airline.on_time / all) * 100;
  };
  const percent = (n) => (n === null ? "–" : `${Math.round(n)} %`);

  $("punctuality-legend").replaceChildren(...BINS.map((label, bin) => h("li", {},
    s("svg", { width: 12, height: 12, "aria-hidden": "true" },
      s("rect", { width: 12, height: 12, rx: 2, class: `bin${bin}` })), label)));

  const redraw = chart(figure.querySelector(".plot"), (width) => {
    if (airlines.length === 0) return nothing(width, "No flight is in the log yet.");
    const isNarrow = width < 620;
    const labelWidth = isNarrow ? 0 : 236;
    const rowHeight = isNarrow ? 44 : 28;
    const room = width - labelWidth - 52;
    const parts = [];
    const marks = [];
    airlines.forEach((airline, index) => {
      const y = index * rowHeight;
      const barY = isNarrow ? y + 20 : y + 5;
      const all = arrivals(airline);
      const name = airline.name ?? airline.airline;
      const flights = plural(airline.scheduled, "flight", "flights");
      const element = s("g", { class: "bar-row" },
        s("rect", { x: 0, y, width, height: rowHeight, class: "hit" }),
        text(0, isNarrow ? y + 11 : y + rowHeight / 2,
          fit(name, isNarrow ? room - 80 : labelWidth - 64), { class: "name" }),
        text(isNarrow ? width - 52 : labelWidth - 12, isNarrow ? y + 11 : y + rowHeight / 2,
          isNarrow ? flights : count(airline.scheduled), { class: "count" }));
      let x = labelWidth;
      airline.arrivals_by_delay.forEach((n, bin) => {
        const long = all === 0 ? 0 : (n / all) * room;
        // The gap after the third bar separates on-time from late.
        const gap = bin === ON_TIME_BINS - 1 ? 3 : 1;
        if (long > 0) {
          element.append(s("rect", { x, y: barY, width: Math.max(0.5, long - gap), height: 18,
            class: `bin${bin}` }));
        }
        x += long;
      });
      element.append(text(width, barY + 9, percent(share(airline)), { class: "value end" }));
      parts.push(element);
      marks.push({
        element, x: labelWidth + room / 2, y,
        lines: [`${name}: ${percent(share(airline))} on time`,
          ...airline.arrivals_by_delay.map((n, bin) =>
            `${percent(all === 0 ? null : (n / all) * 100)} ${BINS[bin]} (${count(n)})`),
          `${flights}, ${count(airline.cancelled)} cancelled, ${count(airline.diverted)} diverted`],
      });
    });
    const best = [...airlines].sort((a, b) => (share(b) ?? -1) - (share(a) ?? -1));
    return {
      height: airlines.length * rowHeight, parts, marks,
      label: `Stacked bars of arrivals by delay for ${airlines.length} airlines. Most on time: `
        + `${best[0].name ?? best[0].airline} with ${percent(share(best[0]))}; least: `
        + `${best.at(-1).name ?? best.at(-1).airline} with ${percent(share(best.at(-1)))}.`,
    };
  });

  function show(answer) {
    airlines = [...answer.airlines];
    if ($("punctuality-order").value === "on-time") {
      airlines.sort((a, b) => (share(b) ?? -1) - (share(a) ?? -1));
    }
    show.last = answer;
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

  $("punctuality-order").addEventListener("change", () => show.last && show(show.last));
  return { load: loader(figure, "punctuality", () => ({}), show) };
}

function routes() {
  const figure = $("routes");
  const order = $("routes-order");
  let list = [];
  let past = {};
  const place = (route) => route.destination_name ?? airportName(route.destination);

  const redraw = chart(figure.querySelector(".plot"), (width) => {
    if (list.length === 0) return nothing(width, "No route has enough flights yet.");
    const isLatest = order.value === "latest";
    const rows = list.map((route) => {
      const delay = route.mean_arrival_delay_minutes;
      return {
        label: `${route.origin}–${route.destination} ${place(route)}`,
        value: isLatest ? Math.max(0, delay ?? 0) : route.departed,
        shown: isLatest ? `${decimal(delay)}` : count(route.departed),
        tone: isLatest ? "late" : "",
        lines: [`${route.origin} to ${place(route)} (${route.destination})`,
          `${plural(route.departed, "departure", "departures")}, ${count(route.landed)} landed`,
          `${count(route.late)} late`,
          `on average ${delay === null ? "not known" : meanWords(delay)}`],
      };
    });
    return bars(width, rows, {
      labelWidth: Math.min(220, width * 0.46),
      label: `Bars of ${list.length} routes, the ${order.value} first. First: `
        + `${list[0].origin} to ${place(list[0])} with ${rows[0].shown}.`,
    });
  });

  function show(answer) {
    list = answer.routes;
    say($("routes-hint"), order.value === "latest"
      ? "Mean arrival delay in minutes, of routes with at least 20 landings."
      : "Flights that departed.");
    redraw();
    asTable(figure, "Routes", ["Route", "Destination", "Departed", "Landed", "Late",
      "Mean arrival delay, min"],
    list.map((route) => [`${route.origin}–${route.destination}`, place(route),
      count(route.departed), count(route.landed), count(route.late),
      decimal(route.mean_arrival_delay_minutes)]));
  }

  const ask = loader(figure, "routes",
    () => ({ order: order.value, origin: $("routes-origin").value || null }), show);
  const load = (asOf = past) => {
    past = asOf;
    return ask(past);
  };
  order.addEventListener("change", () => load());
  $("routes-origin").addEventListener("change", () => load());
  return { load };
}

function hours(lastInstant) {
  const figure = $("hours");
  const airport = $("hours-airport");
  const day = $("hours-day");
  let list = [];
  let past = {};

  const redraw = chart(figure.querySelector(".plot"), (width) => {
    if (list.length === 0) return nothing(width, "Nothing is known of this day.");
    return drawHours(width, list, day.value);
  });

  function show(answer) {
    list = answer.hours;
    const departed = list.reduce((sum, hour) => sum + hour.departed, 0);
    const delays = list.reduce((sum, hour) =>
      sum + hour.departed * (hour.mean_delay_minutes ?? 0), 0);
    say($("hours-hint"), departed === 0 ? "No flight departed on this day, as far as is known."
      : `${plural(departed, "departure", "departures")}, on average `
        + `${meanWords(delays / departed)}. Hours are New York’s; the day is UTC’s.`);
    redraw();
    asTable(figure, "Delay and weather by hour", ["Hour UTC", "New York", "Departed",
      "Mean delay, min", "Temperature, °F", "Wind, mph", "Gusts, mph", "Precipitation, in",
      "Visibility, miles"],
    list.map((hour) => [String(hour.hour).padStart(2, "0"), localHour(day.value, hour.hour),
      count(hour.departed), decimal(hour.mean_delay_minutes), decimal(hour.temperature_f),
      decimal(hour.wind_mph), decimal(hour.gust_mph), hour.precipitation_inches ?? "–",
      decimal(hour.visibility_miles)]));
  }

  const ask = loader(figure, "delay-by-hour",
    () => ({ airport: airport.value, day: day.value }), show);
  const load = async (asOf = past) => {
    past = asOf;
    if (!day.value && lastInstant() !== null) day.value = utcDay(lastInstant());
    if (day.value) await ask(past);
  };

  function follow(at) {
    if (!$("hours-follow").checked || at === null || day.value === utcDay(at)) return;
    day.value = utcDay(at);
    load();
  }

  function setAirport(code) {
    if (airport.value === code) return;
    airport.value = code;
    load();
  }

  airport.addEventListener("change", () => load());
  day.addEventListener("change", () => {
    $("hours-follow").checked = false;
    load();
  });
  $("hours-follow").addEventListener("change", () => follow(lastInstant()));
  return { load, follow, setAirport };
}

function drawHours(width, list, day) {
  const left = 34;
  const band = (width - left - 4) / 24;
  const middle = (hour) => left + (hour + 0.5) * band;
  const parts = [];
  const panels = [
    { title: "delay, minutes", height: 112, of: "mean_delay_minutes", as: "bars" },
    { title: "wind and gusts, mph", height: 56, of: "wind_mph", and: "gust_mph", as: "line" },
    { title: "precipitation, inches", height: 40, of: "precipitation_inches", as: "rain" },
    { title: "visibility, miles", height: 40, of: "visibility_miles", as: "line", most: 10 },
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
    for (const value of [0, most]) {
      parts.push(s("line", { x1: left, x2: width - 4, y1: y(value), y2: y(value), class: "grid" }),
        text(left - 6, y(value), String(+value.toFixed(3)), { class: "axis end" }));
    }
    if (known.length === 0 || (panel.as === "rain" && known.every((value) => value === 0))) {
      const words = known.length === 0 ? "nothing is known" : "none";
      parts.push(text(left + 8, start + panel.height / 2, words, { class: "axis" }));
    }
    if (panel.as === "line") {
      parts.push(...lines(values, middle, y));
      if (panel.and) {
        list.forEach((hour) => hour[panel.and] !== null && parts.push(
          s("circle", { cx: middle(hour.hour), cy: y(hour[panel.and]), r: 2, class: "gust" })));
      }
    } else {
      values.forEach((value, index) => value !== null && value !== 0 && parts.push(s("rect", {
        x: left + list[index].hour * band + 1.5, width: Math.max(1, band - 3),
        y: Math.min(y(value), y(0)), height: Math.max(1, Math.abs(y(value) - y(0))), rx: 1,
        class: panel.as === "rain" ? "bar rain" : `bar ${value >= 15 ? "late" : ""}`,
      })));
    }
    top = start + panel.height + 16;
  }
  const every = width < 420 ? 6 : 3;
  for (let hour = 0; hour < 24; hour += every) {
    const x = left + hour * band;
    parts.push(text(x, top + 8, localHour(day, hour), { class: "axis middle-ish" }),
      text(x, top + 22, `${String(hour).padStart(2, "0")} UTC`, { class: "axis faint" }));
  }
  const marks = list.map((hour) => {
    const element = s("rect", { x: left + hour.hour * band, y: 0, width: band, height: top,
      class: "hit hour" });
    parts.push(element);
    return { element, x: middle(hour.hour), y: 20, lines: hourLines(hour, day) };
  });
  const worst = list.reduce((a, b) =>
    ((b.mean_delay_minutes ?? -99) > (a.mean_delay_minutes ?? -99) ? b : a));
  return {
    height: top + 32, parts, marks,
    label: `Mean departure delay, wind, precipitation and visibility for 24 hours. The worst hour `
      + `is ${localHour(day, worst.hour)} in New York, `
      + `${worst.mean_delay_minutes === null ? "of none" : meanWords(worst.mean_delay_minutes)}.`,
  };
}

/** A line with gaps at unknown values. */
function lines(values, x, y) {
  const runs = [];
  let run = [];
  values.forEach((value, hour) => {
    if (value === null) {
      if (run.length > 0) runs.push(run);
      run = [];
    } else run.push(`${x(hour).toFixed(1)},${y(value).toFixed(1)}`);
  });
  if (run.length > 0) runs.push(run);
  return runs.map((points) => (points.length === 1
    ? s("circle", { cx: points[0].split(",")[0], cy: points[0].split(",")[1], r: 1.5,
      class: "dot" })
    : s("polyline", { points: points.join(" "), class: "line-of" })));
}

function hourLines(hour, day) {
  const known = (value, words) => (value === null ? null : words);
  return [
    `${localHour(day, hour.hour)} in New York, ${String(hour.hour).padStart(2, "0")} UTC`,
    hour.departed === 0 ? "no departures" : `${plural(hour.departed, "departure", "departures")}, `
      + meanWords(hour.mean_delay_minutes ?? 0),
    known(hour.wind_mph, `wind ${decimal(hour.wind_mph)} mph`
      + (hour.gust_mph === null ? "" : `, gusts ${decimal(hour.gust_mph)}`)),
    known(hour.precipitation_inches, `precipitation ${hour.precipitation_inches} in`),
    known(hour.visibility_miles, `visibility ${decimal(hour.visibility_miles)} miles`),
    known(hour.temperature_f, `${decimal(hour.temperature_f)} °F`),
  ].filter((line) => line !== null);
}

function weather() {
  const figure = $("weather");
  const kinds = [
    ["wind", "Wind"], ["visibility", "Visibility"], ["precipitation", "Precipitation"],
  ];
  let answer = null;
  const plot = figure.querySelector(".plot");
  const redraws = kinds.map(([kind, title]) => {
    const box = h("div", {});
    plot.append(h("div", {}, h("h4", {}, title), box));
    return chart(box, (width) => {
      if (answer === null || answer[kind].length === 0) return nothing(width, "Nothing is known.");
      const most = Math.max(...kinds.flatMap(([other]) =>
        answer[other].map((bin) => bin.mean_delay_minutes ?? 0)));
      const rows = answer[kind].map((bin) => ({
        label: bin.label,
        value: Math.max(0, bin.mean_delay_minutes ?? 0),
        shown: decimal(bin.mean_delay_minutes),
        tone: (bin.mean_delay_minutes ?? 0) >= 15 ? "late" : "",
        lines: [bin.label, plural(bin.departed, "departure", "departures"),
          bin.mean_delay_minutes === null ? "no delay is known"
            : `on average ${meanWords(bin.mean_delay_minutes)}`],
      }));
      return bars(width, rows, { most, labelWidth: 132,
        label: `Mean delay by ${kind}: `
          + rows.map((row) => `${row.label} ${row.shown}`).join(", ") });
    });
  });
  const load = loader(figure, "delay-by-weather", () => ({}), (answered) => {
    answer = answered;
    redraws.forEach((redraw) => redraw());
    asTable(figure, "Delay by weather", ["Weather", "Kind", "Departed", "Mean delay, min"],
      kinds.flatMap(([kind, title]) => answer[kind].map((bin) =>
        [bin.label, title, count(bin.departed), decimal(bin.mean_delay_minutes)])));
  });
  return { load };
}

function localHour(day, hour) {
  return timeOf(`${day}T${String(hour).padStart(2, "0")}:00:00Z`);
}

function meanWords(minutes) {
  if (Math.abs(minutes) < 0.05) return "on time";
  return `${decimal(Math.abs(minutes))} min ${minutes > 0 ? "late" : "early"}`;
}
