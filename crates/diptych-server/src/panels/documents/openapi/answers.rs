//! The answers of the server, as shared responses, headers and schemas of the OpenAPI document.

use diptych::catalogue::SCHEMAS;
use serde_json::{Map, Value, json};

/// The problems with a response of their own: the status, its name, and a description.
const PROBLEMS: [(&str, &str, &str); 9] = [
    ("400", "bad-request", "The request is malformed or invalid."),
    ("401", "unauthorized", "The caller is unknown."),
    ("403", "forbidden", "The caller is not allowed, or the host or origin is wrong."),
    ("404", "not-found", "The name or path is unknown."),
    (
        "409",
        "conflict",
        "A concurrent commit, a token of another log, a key of another command, or a wrong order.",
    ),
    ("413", "too-large", "The body is larger than the limit."),
    ("415", "content-type", "The content type is not JSON."),
    ("503", "unavailable", "Retry later. `outcome-unknown`: the command may have been executed."),
    ("default", "problem", "Another problem."),
];

/// The headers of answers, each with its description and whether it is a number.
const HEADERS: [(&str, &str, bool); 13] = [
    ("Diptych-Position", "The position of the answer.", true),
    ("Diptych-Token", "The token of that position, for Diptych-After and _after.", false),
    ("Diptych-Receipt", "The receipt, for Diptych-After and _after.", false),
    ("Diptych-Session", "The next token of the session, if the request names one.", false),
    ("Diptych-Cost-Events", "The number of events that were read for the answer.", true),
    ("Diptych-Stale", "The position that the answer should have, if it is stale.", true),
    ("Diptych-Poisoned-Keys", "The number of keys whose events the answer lacks.", true),
    ("Diptych-View-State", "The state of the view, if it stands still.", false),
    ("Diptych-View-Since", "The instant since which the view stands still.", false),
    ("Diptych-Source-Age", "The age of the answer of a poster, in seconds.", false),
    ("Diptych-Source-Away-Since", "The instant since which a poster lacks its source.", false),
    ("Diptych-Total", "The number of items of the whole list.", true),
    ("Link", "The next part of the list, as rel=\"next\", if there is one.", false),
];

/// The headers of each answer of a query.
const OF_ANSWER: [&str; 10] = [
    "Diptych-Position",
    "Diptych-Token",
    "Diptych-Session",
    "Diptych-Cost-Events",
    "Diptych-Stale",
    "Diptych-Poisoned-Keys",
    "Diptych-View-State",
    "Diptych-View-Since",
    "Diptych-Source-Age",
    "Diptych-Source-Away-Since",
];

/// The parts of an answer that its headers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    Receipt,
    Answer,
    Page,
    Explanation,
}

impl AnswerKind {
    fn headers(self) -> Vec<&'static str> {
        match self {
            AnswerKind::Receipt => vec!["Diptych-Receipt", "Diptych-Position", "Diptych-Session"],
            AnswerKind::Answer => OF_ANSWER.to_vec(),
            AnswerKind::Page => [OF_ANSWER.as_slice(), &["Diptych-Total", "Link"]].concat(),
            AnswerKind::Explanation => vec!["Diptych-Position", "Link"],
        }
    }
}

/// The response to a request that succeeded.
pub(super) fn answer(kind: AnswerKind, what: &str, schema: Value) -> Value {
    let headers = kind.headers().into_iter().map(|name| (name.to_owned(), header(name)));
    json!({
        "description": what,
        "headers": headers.collect::<Map<_, _>>(),
        "content": { "application/json": { "schema": schema } },
    })
}

/// References to the responses of these statuses, and to that of any other problem.
pub(super) fn problems(statuses: &[&str]) -> Map<String, Value> {
    let named = PROBLEMS.iter().filter(|(status, ..)| {
        statuses.contains(status) || *status == "401" || *status == "default"
    });
    let response = |(status, name, _): &(&str, &str, &str)| {
        let reference = format!("#/components/responses/diptych-{name}");
        ((*status).to_owned(), json!({ "$ref": reference }))
    };
    named.map(response).collect()
}

/// The response to a command that a rule rejects.
pub(super) fn rejected(rejection: &Value, is_recorded: bool) -> Value {
    let mut properties = Map::from_iter([("rejection".to_owned(), rejection.clone())]);
    if is_recorded {
        let noted = json!({
            "type": ["boolean", "null"],
            "description": "Whether the rejection was recorded; null if that is not known.",
        });
        let problem = json!({
            "type": "string",
            "description": "The type of the problem that the record met.",
        });
        properties.extend([("noted".to_owned(), noted), ("note_problem".to_owned(), problem)]);
    }
    let schema = json!({
        "allOf": [own("problem"), {
            "type": "object", "required": ["rejection"], "properties": properties,
        }],
    });
    problem("A rule rejects the command, with its reason.", schema)
}

fn problem(what: &str, schema: Value) -> Value {
    json!({ "description": what, "content": { "application/problem+json": { "schema": schema } } })
}

/// The shared responses.
pub(super) fn shared_responses() -> Value {
    let response = |(_, name, what): (&str, &str, &str)| {
        (format!("diptych-{name}"), problem(what, own("problem")))
    };
    Value::Object(PROBLEMS.into_iter().map(response).collect())
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// The shared headers.
pub(super) fn shared_headers() -> Value {
    let header = |(name, description, is_number): (&str, &str, bool)| {
        let schema = if is_number { number() } else { text() };
        (name.to_owned(), json!({ "description": description, "schema": schema }))
    };
    Value::Object(HEADERS.into_iter().map(header).collect())
}

/// A reference to a schema of the server, under a name that no Rust type has.
pub(super) fn own(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/diptych-{name}") })
}

/// The schemas of the server.
pub(super) fn shared_schemas() -> Value {
    let receipt = object(
        "The place of the events of a command in the log.",
        &["receipt", "first", "last", "events"],
        json!({ "receipt": text(), "first": number(), "last": number(), "events": number() }),
    );
    let explanation = object(
        "The events that made an answer, in the order in which they are folded.",
        &["upto", "is_whole", "next", "events"],
        json!({
            "upto": number(),
            "is_whole": { "type": "boolean" },
            "next": { "type": ["integer", "null"] },
            "events": { "type": "array", "items": own("event") },
        }),
    );
    let missed = object(
        "An event that a command conflicts with. Only some callers get its payload.",
        &["position", "type"],
        json!({ "position": number(), "type": text(), "recorded_at": text(), "data": {} }),
    );
    json!({
        "diptych-problem": problem_schema(),
        "diptych-receipt": receipt,
        "diptych-explanation": explanation,
        "diptych-event": event_schema(),
        "diptych-missed-event": missed,
        "diptych-consistency": { "type": "string", "enum": ["eventual", "strong"] },
    })
}

fn problem_schema() -> Value {
    object(
        "The reason why a request failed (RFC 9457). `type` and `status` decide which of the \
         optional members it has.",
        &["type", "title", "status", "detail"],
        json!({
            "type": { "type": "string", "examples": ["urn:diptych:not-yet"] },
            "title": text(),
            "status": number(),
            "detail": text(),
            "field": { "type": "string", "description": "The field of the body that is wrong." },
            "problem": { "type": "string", "description": "The rule that the field breaks." },
            "line": number(),
            "column": number(),
            "argument": { "type": "string", "description": "The argument that is wrong." },
            "parameter": { "type": "string", "description": "The parameter that is wrong." },
            "header": { "type": "string", "description": "The header that is wrong." },
            "limit": number(),
            "limit_bytes": number(),
            "need": { "type": "integer", "description": "The position that the view needs." },
            "have": { "type": "integer", "description": "The position that the view has." },
            "within_ms": number(),
            "position": number(),
            "head": number(),
            "at": number(),
            "after": number(),
            "attempts": number(),
            "first": number(),
            "last": number(),
            "ordinal": { "type": "integer", "description": "The number of the command." },
            "missing": { "type": "integer", "description": "The number that has to come first." },
            "window": { "type": "integer", "description": "How many commands lack an outcome." },
            "missed": { "type": "array", "items": own("missed-event") },
            "views": { "type": "array", "items": text() },
            "query": { "type": "string", "description": "The query of a stream that is wrong." },
        }),
    )
}

fn event_schema() -> Value {
    let optional = || json!({ "type": ["string", "null"] });
    object(
        "An event of an explanation. The program can leave members out for some callers.",
        &[],
        json!({
            "position": number(),
            "id": text(),
            "type": optional(),
            "version": { "type": ["integer", "null"] },
            "occurred_at": text(),
            "recorded_at": text(),
            "actor": optional(),
            "correlation": optional(),
            "causation": optional(),
            "tags": { "type": ["array", "null"], "items": text() },
            "data": {},
        }),
    )
}

fn object(description: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "description": description,
        "required": required,
        "properties": properties,
    })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer" })
}
