//! The options of requests, as shared parameters of the OpenAPI document.

use serde_json::{Map, Value, json};

use super::answers::own;
use crate::door::request::{
    AFTER, LIMIT, LIST_PARAMETERS, OFFSET, PARAMETERS, SESSION_TOKEN, START_AFTER, option_of,
};

/// The headers of a command, with the option that each one sets.
const COMMAND_HEADERS: [(&str, &str, &str); 11] = [
    ("Idempotency-Key", "key", "A retry under the same key is not executed again."),
    ("Diptych-Client", "client", "The unique name of a client that numbers its commands."),
    ("Diptych-Ordinal", "ordinal", "The number of the command: they are decided in order."),
    ("Diptych-Settled", "settled", "The client has the outcomes up to this number."),
    ("Diptych-Occurred-At", "occurred-at", "The instant at which it happened, with a zone."),
    ("Diptych-Correlation", "correlation", "The id of the case or request of the command."),
    ("Diptych-Causation", "causation", "The id of the event that caused it."),
    ("Diptych-Session", "session", "The token of the client's session."),
    ("Diptych-After", "after", "A receipt or token: the command sees its events."),
    (
        "Diptych-Unchanged-Since",
        "unchanged-since",
        "A position: no relevant event may be after it.",
    ),
    ("If-Match", "if-match", "The position of Diptych-Unchanged-Since, in quotes."),
];

/// The shared parameters.
pub(super) fn shared() -> Value {
    let mut shared = Map::new();
    for parameter in PARAMETERS.into_iter().chain(LIST_PARAMETERS) {
        let option = option_of(parameter);
        let value = json!({
            "name": parameter,
            "in": "query",
            "description": query_option(parameter),
            "schema": schema(&option),
        });
        shared.insert(parameter_key(parameter), value);
    }
    for (name, option, description) in COMMAND_HEADERS {
        let schema = match option {
            // A header is text, and some generators refuse another type there.
            "occurred-at" => json!({ "type": "string", "examples": ["2013-01-01T10:15:00Z"] }),
            _ => schema(option),
        };
        let value = json!({
            "name": name, "in": "header", "description": description, "schema": schema,
        });
        shared.insert(header_key(name), value);
    }
    Value::Object(shared)
}

/// References to the headers of a command.
pub(super) fn of_command() -> Vec<Value> {
    COMMAND_HEADERS.iter().map(|(name, ..)| reference(&header_key(name))).collect()
}

/// References to the options of an answer.
pub(super) fn of_answer(is_paged: bool) -> Vec<Value> {
    let pages: &[&str] = if is_paged { &[LIMIT, OFFSET] } else { &[] };
    PARAMETERS.iter().chain(pages).map(|name| reference(&parameter_key(name))).collect()
}

/// References to the options of an explanation.
pub(super) fn of_explanation() -> Vec<Value> {
    let own = [LIMIT, START_AFTER];
    PARAMETERS.into_iter().chain(own).map(|name| reference(&parameter_key(name))).collect()
}

/// References to the options of live answers.
pub(super) fn of_live() -> Vec<Value> {
    vec![reference(&parameter_key(SESSION_TOKEN))]
}

fn reference(key: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{key}") })
}

fn parameter_key(parameter: &str) -> String {
    format!("diptych-{}", option_of(parameter))
}

fn header_key(header: &str) -> String {
    format!("diptych-header-{}", header.trim_start_matches("Diptych-").to_ascii_lowercase())
}

fn query_option(parameter: &str) -> &'static str {
    match parameter {
        "_consistency" => "How fresh the answer is: as the view is, or with all events.",
        AFTER => "A receipt or token: the answer contains its events.",
        SESSION_TOKEN => "The token of the client's session.",
        "_within" => "The maximum wait for the answer, in milliseconds.",
        "_at_most" => "The maximum age of the answer, in milliseconds.",
        "_or_stale" => "Accept a stale answer after the wait.",
        "_as_of" => "A position: the answer as it was then.",
        "_recorded_before" => "The answer from the events that were recorded before this instant.",
        "_occurred_before" => "The answer from the events that occurred before this instant.",
        LIMIT => "The maximum number of items or events.",
        OFFSET => "The number of items before the page.",
        START_AFTER => "The position of the event after which the list begins.",
        _ => "",
    }
}

/// The schema of an option, in a header or in a parameter.
fn schema(option: &str) -> Value {
    match option {
        "consistency" => own("consistency"),
        "or-stale" => json!({ "type": "boolean" }),
        "within" | "at-most" | "as-of" | "limit" | "offset" | "start-after" | "unchanged-since"
        | "settled" => {
            json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX })
        }
        "ordinal" => json!({ "type": "integer", "format": "uint64", "minimum": 1 }),
        "client" => json!({ "type": "string", "minLength": 1, "maxLength": 128 }),
        "recorded-before" | "occurred-before" => {
            json!({ "type": "string", "format": "date-time" })
        }
        "correlation" | "causation" => json!({ "type": "string", "format": "uuid" }),
        "after" | "session" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}
