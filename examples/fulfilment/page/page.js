// The page: asks the window each second, and draws what has changed.
import { SERVICES, STEPS, after, kindOf, line, money, serviceOf } from "./words.js";

const BETWEEN_MS = 1000;
const $ = (id) => document.getElementById(id);
// The order whose flow is shown, and the correlation of that flow once it is known.
let chosen = null;
let correlation = null;
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
  [chosen, correlation] = [order, null];
  history.replaceState(null, "", `#${order.order}`);
  // The next look tells of a failure.
  await show().catch(() => {});
  $("flow-title").focus();
}

/** The steps below a step. The reaction of a process is no line of its own: its actions are. */
function below(node) {
  return node.effects.flatMap((effect) => (effect.step.step === "reaction" ? below(effect) : [effect]));
}

function branch(node, begin) {
  const { service, is_foreign, step } = node;
  const [title, text] = line(step);
  const is = step.outcome?.is ?? "";
  const row = element("div", { class: "row", "data-step": step.step, "data-is": is });
  if (is_foreign) row.append(element("span", { class: "chip" }, serviceOf(service)));
  row.append(element("span", { class: "title" }, title));
  if (text) row.append(element("span", { class: "small" }, text));
  if (step.at && begin) row.append(element("time", { datetime: step.at }, after(begin, step.at)));
  const made = element("li", { "data-service": service }, row);
  if (is_foreign) made.className = "service";
  const effects = below(node);
  if (effects.length > 0) {
    made.append(element("ul", {}, ...effects.map((effect) => branch(effect, begin))));
  }
  return made;
}

function root(node, begin) {
  const made = branch(node, begin);
  made.className = "service";
  if (!node.is_foreign) {
    made.firstChild.prepend(element("span", { class: "chip" }, serviceOf(node.service)));
  }
  return made;
}

async function showFlow() {
  if (!chosen) return;
  const order = chosen;
  const flow = await reach(`api/flow/${correlation ?? order.position}`).catch(() => null);
  // Another order was chosen meanwhile.
  if (chosen !== order) return;
  if (!flow) {
    tellAway(`Ordering cannot be asked now, so the flow of order ${order.order} comes later.`);
    return;
  }
  correlation = flow.correlation;
  $("flow-title").textContent = `The flow of order ${order.order}`;
  $("no-flow").hidden = true;
  const first = flow.roots[0]?.step.at;
  const begin = first ? new Date(first) : null;
  draw("flow", flow.roots, (node) => root(node, begin));
  const names = flow.away.map(serviceOf).join(" and ");
  tellAway(names ? `${names} cannot be asked now. The rest of the flow is here.` : "");
}

function tellAway(said) {
  const away = $("away");
  if (away.textContent !== said) away.textContent = said;
  away.hidden = said === "";
}

async function show() {
  const { members, orders, work: told } = await reach("api/overview");
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
  await showFlow();
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
