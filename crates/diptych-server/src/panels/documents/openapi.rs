//! The OpenAPI document.

use axum::body::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    door::request::PARAMETERS,
    json::merged,
    panels::entries::{
        Entries,
        command::CommandEntry,
        query::QueryEntry,
        schema::{SCHEMAS, resolved},
    },
};

/// The document of these entries, whose types have these schemas.
pub(crate) fn document(entries: &Entries, schemas: &Value, has_metrics: bool) -> Value {
    let mut paths = Map::new();
    for (name, entry) in &entries.commands {
        paths.insert(format!("/commands/{name}"), command_path(name, entry));
    }
    for (name, entry) in &entries.queries {
        let parameters_of = |options: &[&str]| parameters(entry, schemas, options);
        let parameters = parameters_of(&PARAMETERS);
        paths.insert(format!("/queries/{name}"), query_path(name, entry, &parameters));
        if entry.is_explained() {
            let path = format!("/queries/{name}/explanation");
            paths.insert(path, explanation_path(name, &parameters));
        }
        if entry.is_live() {
            paths.insert(
                format!("/queries/{name}/live"),
                live_path(name, &parameters_of(&["_session"])),
            );
        }
    }
    if entries.queries.values().any(QueryEntry::is_live) {
        paths.insert("/live".to_owned(), page_path());
    }
    paths.insert("/receipts/{key}".to_owned(), receipt_path());
    let plain = plain_paths().into_iter();
    paths.extend(plain.filter(|(path, _)| has_metrics || path != "/metrics"));
    json!({
        "openapi": "3.1.0",
        "info": { "title": entries.title, "version": entries.version },
        "paths": paths,
        "components": { "schemas": with_own(schemas.clone()) },
    })
}

/// The document of routes that are mounted below a prefix.
pub(crate) fn below(prefix: &str, document: &Bytes) -> Bytes {
    let servers = json!([{ "url": prefix }]);
    // The document is a JSON object with members, so another member can be put in front.
    let members = document.get(1..).unwrap_or_default();
    let mut whole = format!("{{\"servers\":{servers},").into_bytes();
    whole.extend_from_slice(members);
    whole.into()
}

fn command_path(name: &str, entry: &CommandEntry) -> Value {
    let header = |name: &str, description: &str| {
        let option = name.trim_start_matches("Diptych-").to_ascii_lowercase();
        let schema = option_schema(&option);
        json!({ "name": name, "in": "header", "description": description, "schema": schema })
    };
    let mut responses = problems(&["400", "403", "404", "409", "413", "415", "503"]);
    responses.insert("200".into(), answer("The receipt. The events are durable.", own("receipt")));
    if let Some(rejection) = &entry.rejection {
        let noted = json!({
            "type": ["boolean", "null"],
            "description": "Whether the rejection was recorded; null if that is not known.",
        });
        let note_problem = json!({ "type": "string" });
        let properties = match entry.records_rejections {
            true => json!({
                "rejection": rejection, "noted": noted, "note_problem": note_problem,
            }),
            false => json!({ "rejection": rejection }),
        };
        let rejection = json!({
            "allOf": [own("problem"), {
                "type": "object",
                "required": ["rejection"],
                "properties": properties,
            }],
        });
        responses.insert(
            "422".into(),
            problem("A rule rejects the command, with its reason.", rejection),
        );
    }
    json!({ "post": {
        "operationId": name,
        "tags": ["commands"],
        "summary": summary(&entry.body, name),
        "parameters": [
            header("Idempotency-Key", "A retry under the same key is not executed again."),
            header("Diptych-Occurred-At", "The instant at which it happened."),
            header("Diptych-Correlation", "The id of the case or request of the command."),
            header("Diptych-Causation", "The id of the event that caused it."),
            header("Diptych-Session", "The token of the client's session."),
            header("Diptych-After", "A receipt or token: the command sees its events."),
            header("Diptych-Unchanged-Since", "A position: no relevant event may be after it."),
            header("If-Match", "The position of Diptych-Unchanged-Since, in quotes."),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": entry.body } },
        },
        "responses": responses,
    } })
}

fn query_path(name: &str, entry: &QueryEntry, parameters: &[Value]) -> Value {
    let mut responses = problems(&["400", "403", "404", "409", "503"]);
    let what = "The answer. The header Diptych-Position has its position.";
    responses.insert("200".into(), answer(what, entry.answer.clone()));
    let post = json!({
        "operationId": format!("{name}-by-post"),
        "tags": ["queries"],
        "summary": format!("{name}, for arguments that are too large for an address"),
        "parameters": option_parameters(&PARAMETERS),
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": entry.arguments } },
        },
        "responses": responses,
    });
    let get = json!({
        "operationId": name,
        "tags": ["queries"],
        "summary": summary(&entry.arguments, name),
        "parameters": parameters,
        "responses": responses,
    });
    json!({ "get": get, "post": post })
}

fn explanation_path(name: &str, parameters: &[Value]) -> Value {
    let mut responses = problems(&["400", "403", "404", "503"]);
    let what = "The events that made the answer, in the order in which they are folded.";
    responses.insert("200".into(), answer(what, json!({ "type": "object" })));
    json!({ "get": {
        "operationId": format!("{name}-explanation"),
        "tags": ["queries"],
        "summary": format!("which events made the answer of {name}"),
        "parameters": parameters,
        "responses": responses,
    } })
}

fn live_path(name: &str, parameters: &[Value]) -> Value {
    let mut responses = problems(&["400", "403", "404", "503"]);
    responses.insert(
        "200".into(),
        json!({
            "description": "The answer, then each changed one; Last-Event-ID resumes.",
            "content": { "text/event-stream": { "schema": { "type": "string" } } },
        }),
    );
    json!({ "get": {
        "operationId": format!("{name}-live"),
        "tags": ["queries"],
        "summary": format!("{name}, as it changes"),
        "parameters": parameters,
        "responses": responses,
    } })
}

fn page_path() -> Value {
    let mut responses = problems(&["400", "403", "404", "503"]);
    let what = "The answers of all queries, each with its query; Last-Event-ID resumes.";
    responses.insert(
        "200".into(),
        json!({
            "description": what,
            "content": { "text/event-stream": { "schema": { "type": "string" } } },
        }),
    );
    let mut parameters = option_parameters(&["_session"]);
    parameters.extend([
        json!({
            "name": "query", "in": "query", "style": "form", "explode": true,
            "description": "A live query, with its arguments behind a question mark.",
            "schema": { "type": "array", "items": { "type": "string" } },
        }),
        json!({
            "name": "status", "in": "query",
            "description": "Whether the stream has the status, once a second.",
            "schema": { "type": "boolean" },
        }),
    ]);
    json!({ "get": {
        "operationId": "live-page",
        "tags": ["queries"],
        "summary": "several queries in one stream, as they change",
        "parameters": parameters,
        "responses": responses,
    } })
}

fn receipt_path() -> Value {
    let mut responses = problems(&["400", "403", "404", "503"]);
    responses.insert("200".into(), answer("The receipt. The events are durable.", own("receipt")));
    json!({ "get": {
        "operationId": "find-receipt",
        "tags": ["commands"],
        "summary": "the receipt of the commit under an idempotency key",
        "parameters": [
            { "name": "key", "in": "path", "required": true, "schema": { "type": "string" } },
        ],
        "responses": responses,
    } })
}

fn plain_paths() -> Map<String, Value> {
    let plain = [
        ("/status", "The state of log, commands, views and projections.", "application/json"),
        (
            "/status/live",
            "The state of log, commands, views and projections, once a second.",
            "text/event-stream",
        ),
        ("/health", "The process answers requests.", "application/json"),
        ("/ready", "The server is ready for requests.", "application/json"),
        ("/metrics", "Metrics in the text format of Prometheus.", "text/plain"),
        ("/catalogue", "Commands, queries, events and views.", "application/json"),
    ];
    let path = |(path, what, content): (&str, &str, &str)| {
        let mut responses = problems(&["403", "503"]);
        responses.insert(
            "200".into(),
            json!({
                "description": what, "content": { content: {} },
            }),
        );
        let id = path.trim_start_matches('/').replace('/', "-");
        let get = json!({
            "operationId": id, "tags": ["server"], "summary": what, "responses": responses,
        });
        (path.to_owned(), json!({ "get": get }))
    };
    plain.into_iter().map(path).collect()
}

/// The first line of the description of the type, or the name.
fn summary(schema: &Value, name: &str) -> Value {
    match schema.get("description") {
        Some(Value::String(text)) => text.lines().next().unwrap_or(name).into(),
        _ => name.into(),
    }
}

/// The arguments of a query as parameters of an address, followed by these options.
fn parameters(entry: &QueryEntry, definitions: &Value, options: &[&str]) -> Vec<Value> {
    let schema = resolved(&entry.arguments, definitions.as_object());
    let required: Vec<&Value> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let own = properties.into_iter().flatten().map(|(name, schema)| {
        json!({
            "name": name, "in": "query", "schema": schema,
            "required": required.iter().any(|required| *required == name),
        })
    });
    own.chain(option_parameters(options)).collect()
}

fn option_parameters(names: &[&str]) -> Vec<Value> {
    let parameter = |name: &&str| {
        let option = name.trim_start_matches('_').replace('_', "-");
        json!({ "name": name, "in": "query", "schema": option_schema(&option) })
    };
    names.iter().map(parameter).collect()
}

/// The schema of an option of a command or a query, in a header or in a parameter.
fn option_schema(name: &str) -> Value {
    match name {
        "consistency" => json!({ "type": "string", "enum": ["eventual", "strong"] }),
        "or-stale" => json!({ "enum": ["", "true", "false", true, false] }),
        "within" | "at-most" | "as-of" | "limit" | "unchanged-since" => {
            json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX })
        }
        "recorded-before" | "occurred-before" | "occurred-at" => {
            json!({ "type": "string", "format": "date-time" })
        }
        "correlation" | "causation" => json!({ "type": "string", "format": "uuid" }),
        "after" | "session" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

fn answer(what: &str, schema: Value) -> Value {
    json!({ "description": what, "content": { "application/json": { "schema": schema } } })
}

fn problem(what: &str, schema: Value) -> Value {
    json!({ "description": what, "content": { "application/problem+json": { "schema": schema } } })
}

fn problems(statuses: &[&str]) -> Map<String, Value> {
    let what = |status: &str| match status {
        "400" => "The request is malformed or invalid.",
        "403" => "The caller is not allowed, or the host or origin is wrong.",
        "404" => "The name or path is unknown.",
        "409" => "A concurrent commit, a token of another log, or a key of another command.",
        "413" => "The body is larger than the limit.",
        "415" => "The content type is not JSON.",
        _ => "Retry later. `outcome-unknown`: the command may have been executed.",
    };
    let one = |status: &&str| ((*status).to_owned(), problem(what(status), own("problem")));
    let other = ("default".to_owned(), problem("Another problem.", own("problem")));
    statuses.iter().map(one).chain([other]).collect()
}

/// A reference to a schema of the server, under a name that no Rust type has.
fn own(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/diptych-{name}") })
}

fn with_own(definitions: Value) -> Value {
    let problem = json!({
        "type": "object",
        "description": "The reason why a request failed (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
        },
    });
    let receipt = json!({
        "type": "object",
        "description": "The place of the events of a command in the log.",
        "required": ["receipt", "first", "last", "events"],
        "properties": {
            "receipt": { "type": "string" },
            "first": { "type": "integer" },
            "last": { "type": "integer" },
            "events": { "type": "integer" },
        },
    });
    merged(definitions, json!({ "diptych-problem": problem, "diptych-receipt": receipt }))
}
