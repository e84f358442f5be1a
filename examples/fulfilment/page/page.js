// The page: asks the window each second, and draws what has changed.
import { SERVICES, STEPS, after, kindOf, line, money, serviceOf } from "./words.js";

const BETWEEN_MS = 1000;
// Each service reads its log for a flow, so a flow is asked for again only after a change, or late.
const BETWEEN_FLOWS_MS = 10_000;
const $ = (id) => document.getElementById(id);
// The order whose flow is shown, and the correlation of that flow once it is known.
let chosen = null;
let correlation = null;
// What was known of the order when its flow was asked for, and when that was; null to ask again.
let asked = null;
// The work list of each service, as it was told last.
const work = new Map();

async function reach(path) {
  const answered = await fetch(path);
  if (!answered.ok) throw new Error(await answered.text());
  return answered.json();
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

function memberTile({ name, is_up, kills }) {
  const [title, task] = SERVICES[name];
  const times = kills === 1 ? "killed once" : `killed ${kills} times`;
  return element("li", { "data-service": name },
    element("h3", {}, title),
    element("span", { class: "badge", "data-is": is_up ? "live" : "lost" }, is_up ? "up" : "down"),
    element("p", {}, task),
    element("p", { class: "small" }, kills === 0 ? "not killed" : times));
}

function orderRow(order) {
  const onclick = () => choose(order);
  const row = element("button", {
    type: "button", "data-key": order.order, "aria-pressed": order.order === chosen?.order, onclick,
  },
  element("span", {}, `${order.order}`),
  element("span", {}, `${order.product}, ${money(order.cents)}`),
  element("span", { class: "step", "data-is": order.step }, STEPS[order.step]));
  return element("li", {}, row);
}

function workRow(item) {
  const onclick = () => find(item.order);
  const key = `${item.service} ${item.kind} ${item.order}`;
  return element("li", { "data-service": item.service },
    element("h3", {}, `Order ${item.order}: ${kindOf(item.kind)}`),
    element("p", { class: "small" }, `${serviceOf(item.service)}: ${item.reason}`),
    element("button", { type: "button", "data-key": key, onclick }, `Show the flow of order ${item.order}`));
}

/** Chooses an order by its number. */
async function find(number) {
  try {
    const order = await reach(`api/order/${number}`);
    if (order) await choose(order);
  } catch (error) {
    console.info("ordering does not answer", error);
  }
}

async function choose(order) {
  [chosen, correlation, asked] = [order, null, null];
  history.replaceState(null, "", `#${order.order}`);
  // The next look tells of a failure.
  await show().catch(() => {});
  $("flow-title").focus();
}

/** The trees of the steps. The cause of a step is the last one before it of a smaller depth. */
function trees(steps) {
  const [roots, open] = [[], []];
  for (const step of steps) {
    const node = { step, effects: [] };
    open.length = Math.min(open.length, step.depth);
    (open.at(-1)?.effects ?? roots).push(node);
    open.push(node);
  }
  return roots;
}

/** The steps below a step. The reaction of a process is no line of its own: its actions are. */
function below(node) {
  return node.effects.flatMap((effect) => (effect.step.step === "reaction" ? below(effect) : [effect]));
}

/** A step and its effects. A step that came from another service has a frame, as the first has. */
function branch(node, begin, isRoot = false) {
  const { step } = node;
  const [title, text] = line(step);
  const isFramed = isRoot || Boolean(step.origin);
  const is = step.outcome?.is ?? "";
  const row = element("div", { class: "row", "data-step": step.step, "data-is": is });
  if (isFramed) row.append(element("span", { class: "chip" }, serviceOf(step.service)));
  row.append(element("span", { class: "title" }, title));
  if (text) row.append(element("span", { class: "small" }, text));
  if (step.at && begin) row.append(element("time", { datetime: step.at }, after(begin, step.at)));
  const made = element("li", { "data-service": step.service }, row);
  if (isFramed) made.className = "service";
  const effects = below(node);
  if (effects.length > 0) {
    // A narrow page does not indent the only effect of a step.
    const isOnly = effects.length === 1 && !effects[0].step.origin;
    const list = element("ul", {}, ...effects.map((effect) => branch(effect, begin)));
    if (isOnly) made.classList.add("chained");
    made.append(list);
  }
  return made;
}

/** Asks for the flow if `known`, the facts about the order and the services, is new. */
async function showFlow(known) {
  if (!chosen) return;
  const isKnown = asked?.known === known && Date.now() - asked.at < BETWEEN_FLOWS_MS;
  if (isKnown) return;
  const order = chosen;
  asked = { known, at: Date.now() };
  const flow = await reach(`api/flow/${correlation ?? order.position}`).catch(() => null);
  // Another order was chosen meanwhile.
  if (chosen !== order) return;
  if (!flow) {
    asked = null;
    tellAway(`Ordering cannot be asked now, so the flow of order ${order.order} comes later.`);
    return;
  }
  correlation = flow.correlation;
  $("flow-title").textContent = `The flow of order ${order.order}`;
  $("no-flow").hidden = true;
  const roots = trees(flow.steps);
  const first = roots.find(({ step }) => step.at)?.step.at;
  const begin = first ? new Date(first) : null;
  draw("flow", roots, (node) => branch(node, begin, true));
  const away = flow.services.filter((service) => service.away);
  if (away.length > 0) asked = null;
  const names = away.map(({ name }) => serviceOf(name)).join(" and ");
  tellAway(names ? `${names} cannot be asked now. The rest of the flow is here.` : "");
}

function tellAway(said) {
  const away = $("away");
  if (away.textContent !== said) away.textContent = said;
  away.hidden = said === "";
}

async function show() {
  const order = chosen;
  const path = order ? `api/overview/${order.order}` : "api/overview";
  const { members, orders, chosen: now, work: told } = await reach(path);
  draw("members", members, memberTile);
  for (const { service, items } of told) {
    if (items) work.set(service, items.map((item) => ({ ...item, service })));
  }
  const waiting = [...work.values()].flat();
  draw("work", waiting, workRow);
  $("work-count").textContent = waiting.length;
  $("no-work").hidden = waiting.length > 0;
  $("no-orders").textContent = orders ? "No order has come yet." : "Ordering is down.";
  if (orders) {
    const counts = Object.keys(STEPS).map((step) => [step, orders.steps[step] ?? 0]);
    const all = counts.reduce((sum, [, count]) => sum + count, 0);
    $("sums-count").textContent = all;
    $("no-orders").hidden = all > 0;
    draw("sums", counts.filter(([, count]) => count > 0), ([step, count]) => element("div", {},
      element("dt", { class: "step", "data-is": step }, STEPS[step]), element("dd", {}, `${count}`)));
    chosen ??= orders.newest.find((order) => order.step === "sent") ?? null;
    const rows = orders.newest.map((order) => ({ ...order, chosen: order.order === chosen?.order }));
    draw("orders", rows, orderRow);
  }
  // The answer is about an order that was chosen before.
  if (order && chosen !== order) return;
  const waits = waiting.filter((item) => item.order === chosen?.order);
  const up = members.filter(({ name }) => name !== "provider").map(({ is_up }) => is_up);
  await showFlow(JSON.stringify([(now ?? chosen)?.step, waits, up]));
}

async function follow() {
  const badge = $("connection");
  try {
    await show();
    [badge.textContent, badge.dataset.is] = ["Live", "live"];
  } catch (error) {
    [badge.textContent, badge.dataset.is] = ["No answer", "lost"];
    console.info("the window does not answer", error);
  }
  setTimeout(follow, BETWEEN_MS);
}

// The address may have the number of an order, such as #7.
const wanted = Number(location.hash.slice(1));
if (wanted > 0) find(wanted);
follow();
