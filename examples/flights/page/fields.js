// The commands and their fields, made from the server's OpenAPI document.
import { $, h, say } from "./dom.js";
import { airportName, airports, fromInput, instant, sentence } from "./words.js";

/** Units at the end of a field's name. */
const UNITS = ["miles", "minutes", "seconds"];
/** Lists of known values, by the type of the field. */
const LISTS = { FlightId: "flights", Airport: "destinations", Plane: "planes" };

/** Reads all commands of the document, each with its fields in the order of their declaration. */
export function readCommands(document) {
  const commands = Object.entries(document.paths)
    .filter(([path, { post }]) => post && /^\/commands\/[a-z0-9-]+$/.test(path))
    .map(([path, { post }]) => {
      const schema = resolve(document, post.requestBody.content["application/json"].schema);
      const required = schema.required ?? [];
      const names = [...required,
        ...Object.keys(schema.properties).filter((name) => !required.includes(name))];
      return {
        name: path.slice("/commands/".length), summary: post.summary ?? "",
        fields: names.map((name) =>
          readField(document, name, schema.properties[name], required.includes(name))),
      };
    });
  const order = ["schedule", "depart", "land", "cancel", "divert"];
  const rank = ({ name }) => (order.indexOf(name.split("-")[0]) + order.length + 1)
    % (order.length + 1);
  return commands.sort((a, b) => rank(a) - rank(b));
}

function resolve(document, schema) {
  if (!schema.$ref) return schema;
  return { ...document.components.schemas[schema.$ref.split("/").at(-1)], of: schema.$ref
    .split("/").at(-1) };
}

function readField(document, name, property, isRequired) {
  const kinds = property.anyOf ?? [property];
  const type = resolve(document, kinds.find((kind) => kind.type !== "null"));
  const isNullable = kinds.length > 1 || [type.type].flat().includes("null");
  const isInteger = [type.type].flat().includes("integer");
  return {
    name, label: label(name), of: type.of ?? null,
    kind: isInteger ? "integer" : type.format === "date-time" ? "time" : "text",
    hint: property.description ?? "", form: type.description ?? "",
    isOptional: !isRequired || isNullable, minimum: type.minimum, maximum: type.maximum,
    /** Codes have only capital letters, and a reader may type small ones. */
    capitals: /A-Z/.test(type.pattern ?? "") && !/a-z/.test(type.pattern)
      ? new RegExp(type.pattern) : null,
  };
}

/** `distance_miles` as "Distance, miles". */
function label(name) {
  const words = name.split("_");
  const unit = UNITS.includes(words.at(-1)) ? `, ${words.pop()}` : "";
  return sentence(words.join(" ")).slice(0, -1) + unit;
}

export function startFields() {
  let commands = [];
  let shown = null;
  const input = (name) => $(`field-${name}`);

  /** Draws the choice of commands. */
  function learn(document) {
    commands = readCommands(document);
    const lasts = new Set(commands.map(({ name }) => name.split("-").at(-1)));
    $("commands").replaceChildren(...commands.map(({ name }, index) => {
      const words = name.split("-");
      if (lasts.size === 1) words.pop();
      return h("label", {},
        h("input", { type: "radio", name: "command", value: name, checked: index === 0 }),
        h("span", {}, sentence(words.join(" ")).slice(0, -1)));
    }));
    show(commands[0]?.name);
    return commands.length > 0;
  }

  /** Draws the fields of a command. */
  function show(name) {
    const next = commands.find((command) => command.name === name);
    if (!next || shown === next) return;
    shown = next;
    say($("command-summary"), shown.summary);
    $("fields").replaceChildren(...shown.fields.map(fieldOf));
  }

  function fieldOf(field, index) {
    const id = `field-${field.name}`;
    const type = { integer: "number", time: "datetime-local" }[field.kind] ?? "text";
    return h("div", { class: index === 0 ? "field wide" : "field", "data-field": field.name },
      h("label", { for: id }, field.label, field.isOptional
        ? h("span", { class: "optional" }, " (optional)") : ""),
      h("input", {
        id, name: field.name, type, spellcheck: "false",
        list: LISTS[field.of], min: field.kind === "integer" ? field.minimum : null,
        max: field.kind === "integer" ? field.maximum : null,
        inputmode: field.kind === "integer" ? "numeric" : null,
        autocapitalize: field.capitals ? "characters" : null,
        required: field.isOptional ? null : true,
        "aria-describedby": `hint-${field.name} error-${field.name}`,
      }),
      h("p", { class: "hint", id: `hint-${field.name}` }, hintOf(field)),
      h("p", { class: "error", id: `error-${field.name}`, hidden: true }));
  }

  function hintOf(field) {
    const zone = field.kind === "time" ? " New York time." : "";
    const form = field.of === "FlightId" ? ` ${sentence(field.form.replace(/^a flight: /, ""))}`
      : "";
    return `${sentence(field.hint.replace(/\.$/, ""))}${zone}${form}`;
  }

  function fill(values) {
    for (const [name, value] of Object.entries(values)) {
      if (input(name)) input(name).value = value;
    }
    nameAirport();
  }

  /** The name of the airport whose code is in the field. */
  function nameAirport() {
    for (const field of shown?.fields ?? []) {
      if (field.of !== "Airport") continue;
      const code = input(field.name).value.trim().toUpperCase();
      const isKnown = airports()[code] !== undefined;
      say($(`hint-${field.name}`), isKnown ? airportName(code) : hintOf(field));
    }
  }

  /** The command in the fields. A value that does not parse is sent as typed. */
  function body() {
    return Object.fromEntries((shown?.fields ?? []).map((field) =>
      [field.name, valueOf(field, input(field.name))]));
  }

  function valueOf(field, { value }) {
    const capital = value.trim().toUpperCase();
    const text = field.capitals?.test(capital) ? capital : value.trim();
    if (text === "" && (field.isOptional || field.kind === "integer")) return null;
    if (field.kind === "integer") return Number(text);
    if (field.kind !== "time") return text;
    const ms = fromInput(text);
    return Number.isNaN(ms) ? text : instant(ms);
  }

  function showError(name, words) {
    const field = input(name);
    if (!field) return;
    field.setAttribute("aria-invalid", "true");
    $(`error-${name}`).hidden = false;
    say($(`error-${name}`), words);
    field.focus();
  }

  function clearErrors() {
    for (const { name } of shown?.fields ?? []) {
      input(name).removeAttribute("aria-invalid");
      $(`error-${name}`).hidden = true;
    }
  }

  /** Values to choose from. */
  function offer(flights, rows) {
    $("flights").replaceChildren(...flights.map((row) =>
      h("option", { value: row.flight, label: `to ${airportName(row.destination)}` })));
    const planes = new Set(rows.map((row) => row.plane).filter(Boolean));
    $("planes").replaceChildren(...[...planes].map((plane) => h("option", { value: plane })));
  }

  function learnAirports() {
    $("destinations").replaceChildren(...Object.entries(airports()).map(([code, { name }]) =>
      h("option", { value: code, label: name })));
    nameAirport();
  }

  /** Whether the field holds a number. */
  const isNumber = (name) => input(name)?.type === "number";

  return {
    learn, show, fill, body, showError, clearErrors, offer, learnAirports, nameAirport, isNumber,
    input,
    isKnown: () => shown !== null,
  };
}
