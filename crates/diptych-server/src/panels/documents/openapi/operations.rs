//! The routes for operators of processes and intakes in the OpenAPI document.

use serde_json::{Map, Value, json};

use super::answers::problems;

/// The paths of the routes.
pub(super) fn paths() -> Map<String, Value> {
    let mut paths = Map::new();
    for (path, id, summary, parameters) in questions().into_iter().chain(of_intakes()) {
        let mut responses = problems(&["400", "403", "404", "503"]);
        responses.insert("200".into(), object_answer(summary));
        let get = json!({
            "operationId": id, "tags": [tag(path)], "summary": summary,
            "parameters": parameters, "responses": responses,
        });
        paths.insert(path.to_owned(), json!({ "get": get }));
    }
    let position = || parameter("position", "path", "The position that names it.", "integer");
    let posts = [
        ("/processes/letters/{position}", "answer-letter", "Answers a letter.", letter_answer()),
        ("/processes/calls/{position}", "answer-call", "Answers a call.", call_answer()),
        (
            "/intakes/letters/{position}",
            "answer-parked-event",
            "Answers a parked event of an intake.",
            event_answer(),
        ),
    ];
    for (path, id, summary, answer) in posts {
        let mut responses = problems(&["400", "403", "404", "409", "413", "415", "503"]);
        responses.insert("200".into(), object_answer("The position of the answer."));
        let schema = json!({
            "type": "object",
            "required": ["answer", "why"],
            "properties": {
                "answer": answer,
                "who": {
                    "type": "string",
                    "description": "The operator, if the server knows no name of the caller.",
                },
                "why": { "type": "string", "description": "The reason, which the log keeps." },
            },
            "additionalProperties": false,
        });
        let post = json!({
            "operationId": id, "tags": [tag(path)], "summary": summary,
            "parameters": [position()],
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": schema } },
            },
            "responses": responses,
        });
        if let Some(Value::Object(methods)) = paths.get_mut(path) {
            methods.insert("post".to_owned(), post);
        }
    }
    paths
}

/// The path, the id, the summary and the parameters of each question.
fn questions() -> [(&'static str, &'static str, &'static str, Vec<Value>); 9] {
    let limit = parameter("limit", "query", "Maximum number of rows.", "integer");
    let process = parameter("process", "query", "Only those of this process.", "string");
    let position = || parameter("position", "path", "The position that names it.", "integer");
    [
        ("/processes", "list-processes", "The processes that the log knows.", Vec::new()),
        (
            "/processes/instances",
            "list-instances",
            "The instances that were active last.",
            vec![process.clone(), limit.clone()],
        ),
        (
            "/processes/letters",
            "list-letters",
            "The parked letters, which wait for an answer.",
            vec![process.clone(), limit.clone()],
        ),
        (
            "/processes/letters/{position}",
            "show-letter",
            "A parked letter, with the event before which its instance stands.",
            vec![position()],
        ),
        (
            "/processes/calls",
            "list-calls",
            "The calls that wait for an operator.",
            vec![process.clone(), limit.clone()],
        ),
        (
            "/processes/calls/{position}",
            "show-call",
            "A call that waits for an operator.",
            vec![position()],
        ),
        (
            "/processes/gateway-calls",
            "list-gateway-calls",
            "All calls of gateways with their outcomes, the newest first.",
            vec![
                process.clone(),
                parameter("gateway", "query", "Only those of this gateway.", "string"),
                parameter("state", "query", "Only those in this state.", "string"),
                parameter("before", "query", "Only those before this position.", "integer"),
                limit.clone(),
            ],
        ),
        (
            "/processes/timers",
            "list-timers",
            "The pending timers, the first due first.",
            vec![process, limit.clone()],
        ),
        (
            "/trace/{id}",
            "trace",
            "The flow of an event: its position, its id, or a correlation.",
            vec![
                parameter("id", "path", "A position, or a UUID.", "string"),
                limit,
                parameter("whole_log", "query", "Whether the whole log is searched.", "boolean"),
            ],
        ),
    ]
}

/// The questions about feeds and intakes, in the same form.
fn of_intakes() -> [(&'static str, &'static str, &'static str, Vec<Value>); 4] {
    [
        ("/feeds", "list-feeds", "The feeds of the app, and how much was read.", Vec::new()),
        ("/intakes", "list-intakes", "The intakes that the log knows.", Vec::new()),
        (
            "/intakes/letters",
            "list-parked-events",
            "The published events that wait for an answer.",
            vec![
                parameter("intake", "query", "Only those of this intake.", "string"),
                parameter("limit", "query", "Maximum number of rows.", "integer"),
            ],
        ),
        (
            "/intakes/letters/{position}",
            "show-parked-event",
            "A published event that waits for an answer.",
            vec![parameter("position", "path", "The position that names it.", "integer")],
        ),
    ]
}

/// The tag of a path.
fn tag(path: &str) -> &'static str {
    match path.starts_with("/intakes") || path.starts_with("/feeds") {
        true => "intakes",
        false => "processes",
    }
}

fn parameter(name: &str, place: &str, what: &str, kind: &str) -> Value {
    json!({
        "name": name, "in": place, "required": place == "path",
        "description": what, "schema": { "type": kind },
    })
}

fn object_answer(what: &str) -> Value {
    json!({
        "description": what,
        "content": { "application/json": { "schema": { "type": "object" } } },
    })
}

fn letter_answer() -> Value {
    json!({ "oneOf": [
        { "type": "string", "enum": ["retry", "skip"] },
        variant("replace", json!({
            "type": "array", "items": {},
            "description": "The actions in place of the reaction, as the log stores them.",
        })),
    ] })
}

fn event_answer() -> Value {
    json!({ "oneOf": [
        { "type": "string", "enum": ["retry", "skip"] },
        variant("replace", json!({ "description": "The payload in place of that of the event." })),
    ] })
}

fn call_answer() -> Value {
    json!({ "oneOf": [
        { "type": "string", "enum": ["send-again"] },
        variant("answered", json!({ "description": "The answer of the gateway." })),
        variant("refused", json!({
            "type": "object", "required": ["text", "json"],
            "properties": { "text": { "type": "string" }, "json": {} },
        })),
    ] })
}

fn variant(name: &str, schema: Value) -> Value {
    json!({
        "type": "object", "required": [name], "properties": { name: schema },
        "additionalProperties": false,
    })
}
