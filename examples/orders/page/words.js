// The words of the page for the names in the log.

export const STEPS = {
  placed: "waits for payment",
  paid: "paid",
  reserved: "goods reserved",
  missing: "goods are missing",
  shipped: "shipped",
  cancelled: "cancelled",
  returned: "money given back",
};

const EVENTS = {
  "order-placed": "Order placed",
  "order-paid": "Paid",
  "goods-reserved": "Goods reserved",
  "goods-missing": "Goods are missing",
  "order-shipped": "Shipped",
  "order-cancelled": "Cancelled",
  "payment-returned": "Money given back",
  "goods-delivered": "Goods came in",
};

const COMMANDS = {
  NotePayment: "Note the payment",
  Reserve: "Reserve the goods",
  Ship: "Ship the order",
  Cancel: "Cancel the order",
  NoteReturn: "Note that the money went back",
};

const GATEWAYS = { payment: "Charge the card", refund: "Give the money back" };

export const money = (cents) => `$${(cents / 100).toFixed(2)}`;
export const orderOf = (instance) => instance.replace("order:", "Order ");
export const gateway = (name) => GATEWAYS[name] ?? name;

/** The line of a step of a flow: a title, and a smaller text below it. */
export function line(step) {
  const outcome = step.outcome ?? {};
  switch (step.step) {
    case "event": return [EVENTS[step.type] ?? step.type, time(step.at)];
    case "reaction": return ["The process reacted", time(step.at)];
    case "command": return [command(step), ofCommand(outcome)];
    case "call": return [gateway(step.gateway), ofCall(outcome)];
    case "timer": return ["Set the payment deadline", ofTimer(step.due, outcome)];
    case "timer-cancelled": return ["Stop the payment deadline", ""];
    case "end": return ["The flow has ended", ""];
    case "parked": return ["Stopped: the process failed at this event", parked(step)];
    case "behind": return ["Waits behind the event that cannot be taken", ""];
    default: return [step.step, ""];
  }
}

const command = (step) => COMMANDS[Object.keys(step.body)[0]] ?? step.command;
const parked = (step) => (step.answer ? `answered: ${step.answer}` : step.reason);

function ofCommand(outcome) {
  return {
    waiting: "waits to be carried out",
    committed: "done",
    "nothing-to-do": "there was nothing to do",
    rejected: `the rule said no: ${outcome.text}`,
  }[outcome.is] ?? "";
}

function ofCall(outcome) {
  return {
    waiting: "no answer yet",
    unknown: `needs a person: ${outcome.reason}`,
    "sending-again": "is sent again",
    answered: `answered${outcome.by ? ` by ${outcome.by.who}` : ""}`,
    refused: `refused: ${outcome.text}`,
    withheld: "not sent",
  }[outcome.is] ?? "";
}

function ofTimer(due, outcome) {
  return {
    pending: `ends at ${time(due)}`,
    fired: `ended at ${time(outcome.at)}`,
    replaced: "stopped before its end",
  }[outcome.is] ?? "";
}

export function time(text) {
  return new Date(text).toLocaleTimeString("en-GB");
}
