// The page: asks the server each second, and draws what has changed.
import { STEPS, gateway, line, money, orderOf, time } from "./words.js";

const BETWEEN_MS = 1000;
const ORDERS = 24;
const $ = (id) => document.getElementById(id);
let chosen = null;

async function reach(path, body) {
  const options = body && {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answered = await fetch(path, options || {});
  const json = await answered.json();
  const reason = json.detail ?? json.title ?? `the server answered ${answered.status}`;
  if (!answered.ok) throw new Error(reason);
  return json;
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Draws children again only if their data changed, so that a focused button stays. */
function draw(id, data, make) {
  const text = JSON.stringify(data);
  const target = $(id);
  if (target.dataset.drawn === text) return;
  const active = document.activeElement;
  const focused = target.contains(active) ? active.dataset.key : null;
  target.dataset.drawn = text;
  target.replaceChildren(...data.map(make));
  if (focused) target.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

async function answer(kind, place, given, words) {
  const said = $("said");
  said.hidden = false;
  try {
    await reach(`processes/${kind}/${place}`, { answer: given, who: "the page", why: words });
    said.textContent = `Answered: ${words}.`;
  } catch (error) {
    said.textContent = `The answer was not taken: ${error.message}`;
  }
  await show();
}

function button(kind, place, title, given) {
  const onclick = (event) => {
    event.currentTarget.disabled = true;
    answer(kind, place, given, title);
  };
  const key = `${kind}${place}${title}`;
  return element("button", { type: "button", "data-key": key, onclick }, title);
}

function work(item) {
  const at = item.listed_at ?? item.parked_at;
  const is_call = item.listed_at !== undefined;
  const title = is_call
    ? `${orderOf(item.instance)}: ${gateway(item.gateway).toLowerCase()}`
    : `${orderOf(item.instance)}: cannot go on`;
  const text = is_call
    ? "The call may have been sent, and the provider cannot tell. Ask it by telephone."
    : "The program failed at this event. Later events of the order wait behind it.";
  const buttons = is_call
    ? [
      button("calls", at, "It was done", { answered: { receipt: "by telephone" } }),
      button("calls", at, "It was not done", { refused: { text: "it was not done", json: null } }),
      button("calls", at, "Send it again", "send-again"),
    ]
    : [
      button("letters", at, "Try again", "retry"),
      button("letters", at, "Leave the event out", "skip"),
    ];
  return element("li", { "data-kind": is_call ? "call" : "letter" },
    element("h3", {}, title), element("p", {}, text),
    element("p", { class: "reason" }, `Since ${time(item.since)}. Reason: ${item.reason}`),
    element("div", { class: "buttons" }, ...buttons));
}

function orderRow(order) {
  const onclick = () => choose(order);
  const row = element("button", {
    type: "button", "data-key": order.order, "aria-pressed": chosen?.order === order.order, onclick,
  },
  element("span", {}, `${order.order}`),
  element("span", {}, `${order.product}, ${money(order.cents)}`),
  element("span", { class: "step", "data-is": order.step }, STEPS[order.step]));
  return element("li", {}, row);
}

async function choose(order) {
  chosen = order;
  await show();
  $("flow-title").focus();
}

function flowLine(step) {
  const [title, below] = line(step);
  const made = element("li", { "data-step": step.step, "data-is": step.outcome?.is ?? "" }, title);
  made.style.setProperty("--depth", step.depth);
  if (below) made.append(element("small", {}, below));
  return made;
}

async function show() {
  const [list, calls, letters, timers] = await Promise.all([
    reach(`queries/orders?limit=${ORDERS}`),
    reach("processes/calls?limit=50"),
    reach("processes/letters?limit=50"),
    reach("processes/timers?limit=12"),
  ]);
  draw("sums", Object.keys(STEPS).map((step) => [STEPS[step], list.steps[step] ?? 0]),
    ([name, count]) => element("div", {}, element("dt", {}, name), element("dd", {}, `${count}`)));
  const waiting = [...calls.calls, ...letters.letters];
  draw("work", waiting, work);
  $("work-count").textContent = calls.count + letters.count;
  $("no-work").hidden = waiting.length > 0;
  chosen ??= list.newest.find((order) => order.step === "shipped") ?? null;
  const rows = list.newest.map((order) => ({ ...order, chosen: order.order === chosen?.order }));
  draw("orders", rows, orderRow);
  draw("timers", timers.timers, (timer) => element("li", {},
    element("span", {}, orderOf(timer.instance)), element("span", {}, time(timer.due))));
  $("timers-count").textContent = timers.count;
  $("no-timers").hidden = timers.count > 0;
  if (chosen) {
    const { steps } = await reach(`trace/${chosen.position}`);
    $("flow-title").textContent = `The flow of order ${chosen.order}`;
    draw("flow", steps, flowLine);
  }
}

async function follow() {
  const badge = $("connection");
  try {
    await show();
    [badge.textContent, badge.dataset.is] = ["Live", "live"];
  } catch (error) {
    [badge.textContent, badge.dataset.is] = ["The shop does not answer", "lost"];
    console.info("the shop does not answer", error);
  }
  setTimeout(follow, BETWEEN_MS);
}

follow();
