// The words of the page for the names in the logs.

export const SERVICES = {
  ordering: ["Ordering", "takes orders, and knows how far each is"],
  payment: ["Payment", "gets the money, and gives it back"],
  shipping: ["Shipping", "sends the goods, if there are some"],
  provider: ["Provider", "outside: charges cards, unreliably"],
};

export const STEPS = {
  placed: "waits for payment",
  paid: "paid",
  "out-of-stock": "goods are missing",
  sent: "sent",
  unpaid: "not paid",
  cancelled: "cancelled",
  refunded: "money given back",
};

const EVENTS = {
  "order-placed": "Order placed",
  "order-cancelled": "Order cancelled",
  "order-paid": "Noted: the order is paid",
  "order-unpaid": "Noted: the order is not paid",
  "order-refunded": "Noted: the money is back",
  "order-sent": "Noted: the order is sent",
  "order-out-of-stock": "Noted: the goods are missing",
  "payment-due": "Noted: a payment is due",
  "payment-received": "Payment received",
  "payment-refused": "Payment refused",
  "payment-overdue": "Payment overdue",
  "payment-unwanted": "Money came too late",
  "refund-due": "Noted: the money is to go back",
  "payment-returned": "Money given back",
  "parcel-wanted": "Noted: a parcel is wanted",
  "parcel-released": "Noted: the parcel is paid",
  "parcel-sent": "Parcel sent",
  "goods-missing": "Goods are missing",
};

// The events of the feeds.
const NEWS = {
  "order-accepted": "order accepted",
  "order-withdrawn": "order withdrawn",
  "payment-arrived": "payment arrived",
  "payment-failed": "payment failed",
  "payment-sent-back": "payment sent back",
  "parcel-left": "parcel left",
  "stock-ran-out": "goods are missing",
};

const GATEWAYS = { charge: "Charge the card", refund: "Give the money back" };

const COMMANDS = {
  "note-receipt": "Note the payment",
  "note-refusal": "Note the refusal",
  "give-up": "Give the payment up",
  "note-return": "Note that the money went back",
  pack: "Pack the parcel",
  cancel: "Cancel the order",
};

const KINDS = {
  call: "a call may have been sent",
  letter: "a process cannot go on",
  intake: "an event of another service cannot be taken in",
};

export const money = (cents) => `$${(cents / 100).toFixed(2)}`;
export const serviceOf = (name) => SERVICES[name]?.[0] ?? name;
export const kindOf = (kind) => KINDS[kind] ?? kind;

/** The line of a step of a flow: a title, and a smaller text beside it. */
export function line(step) {
  const outcome = step.outcome ?? {};
  switch (step.step) {
    case "event": return [EVENTS[step.type] ?? step.type, ""];
    case "command": return [COMMANDS[Object.keys(step.body)[0]] ?? step.command, ofCommand(outcome)];
    case "call": return [GATEWAYS[step.gateway] ?? step.gateway, ofCall(outcome)];
    case "timer": return ["Set the payment deadline", ofTimer(outcome)];
    case "timer-cancelled": return ["Stop the payment deadline", ""];
    case "end": return ["This part of the flow has ended", ""];
    case "parked": return ["The process cannot go on", step.answer ? `answered: ${step.answer}` : step.reason];
    case "foreign-parked": return [`Cannot be taken in: ${newsOf(step.type)}`, ofNews(step)];
    case "behind": return ["Waits behind an event that cannot be taken", ""];
    default: return [step.step, ""];
  }
}

/** The name of a published event, which has a version. */
function newsOf(type) {
  return NEWS[type.replace(/\.v\d+$/, "")] ?? type;
}

function ofNews({ reason, answer }) {
  if (answer) return `answered: ${answer}`;
  return reason ? `needs a person: ${reason}` : "waits behind an earlier event of the order";
}

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
    answered: "answered",
    refused: `refused: ${outcome.text}`,
    withheld: "not sent",
  }[outcome.is] ?? "";
}

function ofTimer(outcome) {
  return {
    pending: "is running",
    fired: "has passed",
    replaced: "stopped before its end",
  }[outcome.is] ?? "";
}

/** The time from one instant to another. */
export function after(begin, text) {
  const ms = new Date(text) - begin;
  return ms < 10_000 ? `+${(ms / 1000).toFixed(2)} s` : `+${(ms / 1000).toFixed(0)} s`;
}
