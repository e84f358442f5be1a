// The chart of routes: the busiest ones, or the latest ones.
import { choiceInAddress, goTo, onStep } from "./address.js";
import { bars, chart, nothing } from "./chart.js";
import { $, say } from "./dom.js";
import { asTable, loader, meanWords } from "./pictures.js";
import { airportName, count, decimal, plural } from "./words.js";

/** From this mean delay on, a bar has the colour of late flights. */
const LATE_MINUTES = 15;

export function startRoutes() {
  const figure = $("routes");
  const [order, origin] = [$("routes-order"), $("routes-origin")];
  let list = null;
  let past = {};
  readAddress();

  function readAddress() {
    order.value = choiceInAddress("routes", order);
    origin.value = choiceInAddress("from", origin);
  }

  const place = (route) => route.destination_name ?? airportName(route.destination);

  const redraw = chart(figure.querySelector(".plot"), (width) => {
    if (list === null) return null;
    if (list.length === 0) return nothing(width, "No route had enough flights at this time.");
    const isLatest = order.value === "latest";
    const rows = list.map((route) => {
      const delay = route.mean_arrival_delay_minutes;
      return {
        label: `${route.origin}–${route.destination} ${place(route)}`,
        value: isLatest ? delay ?? 0 : route.departed,
        shown: isLatest ? decimal(delay) : count(route.departed),
        beside: isLatest ? `of ${count(route.landed)}` : "",
        tone: isLatest && delay >= LATE_MINUTES ? "late" : "",
        lines: [`${route.origin} to ${place(route)} (${route.destination})`,
          `${plural(route.departed, "departure", "departures")}, ${count(route.landed)} landed`,
          `${count(route.late)} late`,
          `on average ${delay === null ? "not known" : meanWords(delay)}`],
      };
    });
    return bars(width, rows, {
      labelWidth: Math.min(220, width * 0.44), unit: isLatest ? "min late" : "departures",
      label: `Bars of ${list.length} routes, the ${order.value} first. First: `
        + `${list[0].origin} to ${place(list[0])} with ${rows[0].shown}.`,
    });
  });

  function show(answer) {
    list = answer.routes;
    const isLatest = order.value === "latest";
    $("routes-legend").hidden = !isLatest;
    say($("routes-hint"), isLatest
      ? "Mean arrival delay in minutes, and the number of landings that it is the mean of. Routes "
        + "with fewer than 20 landings are left out."
      : "Number of departures.");
    redraw();
    asTable(figure, "Routes", ["Route", "Destination", "Departed", "Landed", "Late",
      "Mean arrival delay, min"],
    list.map((route) => [`${route.origin}–${route.destination}`, place(route),
      count(route.departed), count(route.landed), count(route.late),
      decimal(route.mean_arrival_delay_minutes)]));
  }

  const ask = loader(figure,
    () => [["routes", { order: order.value, origin: origin.value || null }]], show);
  function load(of = past) {
    past = of;
    return ask(past);
  }
  for (const select of [order, origin]) {
    select.addEventListener("change", () => {
      goTo({ routes: order.value === "busiest" ? null : order.value, from: origin.value || null });
      load();
    });
  }
  onStep((changed) => {
    if (!changed.has("routes") && !changed.has("from")) return;
    readAddress();
    load();
  });
  return { load };
}
