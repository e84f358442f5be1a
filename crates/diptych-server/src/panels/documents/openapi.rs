//! The OpenAPI document.

mod answers;
mod operations;
mod options;
mod variants;
mod webhooks;

use answers::{
    AnswerKind, answer, own, problems, rejected, shared_headers, shared_responses, shared_schemas,
};
use axum::body::Bytes;
use diptych::catalogue::resolved;
use serde_json::{Map, Value, json};
use variants::with_named_variants;

use crate::{
    json::merged,
    panels::{
        documents::RoutesBeside,
        entries::{Entries, command::CommandEntry, query::QueryEntry},
    },
};

/// Routes about which the hook is not asked.
const OPEN: [&str; 2] = ["/health", "/ready"];

/// The document of these entries, whose types have these schemas.
pub(crate) fn document(
    entries: &Entries,
    schemas: &Map<String, Value>,
    shown: &RoutesBeside<'_>,
) -> Value {
    let RoutesBeside { feeds, mounts, webhooks, has_metrics, has_operations } = *shown;
    let mut paths = Map::new();
    for (name, entry) in &entries.commands {
        paths.insert(format!("/commands/{name}"), command_path(name, entry, schemas));
    }
    for (name, entry) in &entries.queries {
        paths.insert(format!("/queries/{name}"), query_path(name, entry, schemas));
        if entry.is_explained() {
            let path = format!("/queries/{name}/explanation");
            paths.insert(path, explanation_path(name, entry, schemas));
        }
        if entry.is_live() {
            paths.insert(format!("/queries/{name}/live"), live_path(name, entry, schemas));
        }
    }
    if entries.queries.values().any(QueryEntry::is_live) {
        paths.insert("/live".to_owned(), page_path());
    }
    paths.insert("/receipts/{key}".to_owned(), receipt_path());
    for feed in feeds {
        paths.insert(format!("/feeds/{}", feed.name()), feed_path(feed.name()));
    }
    for (path, name) in webhooks {
        paths.insert(path.clone(), webhooks::path(name));
    }
    let plain = plain_paths().into_iter();
    paths.extend(plain.filter(|(path, _)| has_metrics || path != "/metrics"));
    if has_operations {
        paths.extend(operations::paths());
    }
    let mut all = with_named_variants(schemas);
    for mount in mounts {
        paths.extend(mount.paths.clone());
        all = merged(Value::Object(mount.schemas.clone()), all);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": entries.title, "version": entries.version },
        "paths": paths,
        "components": {
            "schemas": merged(all, shared_schemas()),
            "parameters": options::shared(),
            "responses": shared_responses(),
            "headers": shared_headers(),
        },
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

fn command_path(name: &str, entry: &CommandEntry, schemas: &Map<String, Value>) -> Value {
    let mut responses = problems(&["400", "403", "404", "409", "413", "415", "503"]);
    let what = "The receipt. The events are durable.";
    responses.insert("200".into(), answer(AnswerKind::Receipt, what, own("receipt")));
    if let Some(rejection) = &entry.rejection {
        responses.insert("422".into(), rejected(rejection, entry.records_rejections()));
    }
    json!({ "post": {
        "operationId": name,
        "tags": ["commands"],
        "summary": summary(&entry.body, name, schemas),
        "parameters": options::of_command(),
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": entry.body } },
        },
        "responses": responses,
    } })
}

fn query_path(name: &str, entry: &QueryEntry, schemas: &Map<String, Value>) -> Value {
    let mut responses = problems(&["400", "403", "404", "409", "503"]);
    let (kind, what) = match entry.page_items() {
        Some(_) => (AnswerKind::Page, "A page of the answer."),
        None => (AnswerKind::Answer, "The answer."),
    };
    responses.insert("200".into(), answer(kind, what, entry.answer.clone()));
    let get = json!({
        "operationId": name,
        "tags": ["queries"],
        "summary": summary(&entry.arguments, name, schemas),
        "parameters": parameters(entry, schemas, options::of_answer(entry.page_items().is_some())),
        "responses": responses,
    });
    responses.extend(problems(&["413", "415"]));
    let post = json!({
        "operationId": format!("{name}-by-post"),
        "tags": ["queries"],
        "summary": format!("{name}, for arguments that are too large for an address"),
        "parameters": options::of_answer(entry.page_items().is_some()),
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": entry.arguments } },
        },
        "responses": responses,
    });
    json!({ "get": get, "post": post })
}

fn explanation_path(name: &str, entry: &QueryEntry, schemas: &Map<String, Value>) -> Value {
    let mut responses = problems(&["400", "403", "404", "503"]);
    let what = "The events that made the answer, in the order in which they are folded.";
    responses.insert("200".into(), answer(AnswerKind::Explanation, what, own("explanation")));
    json!({ "get": {
        "operationId": format!("{name}-explanation"),
        "tags": ["queries"],
        "summary": format!("Which events made the answer of {name}"),
        "parameters": parameters(entry, schemas, options::of_explanation()),
        "responses": responses,
    } })
}

fn live_path(name: &str, entry: &QueryEntry, schemas: &Map<String, Value>) -> Value {
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
        "parameters": parameters(entry, schemas, options::of_live()),
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
    let mut parameters = options::of_live();
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
    let what = "The receipt. The events are durable.";
    responses.insert("200".into(), answer(AnswerKind::Receipt, what, own("receipt")));
    json!({ "get": {
        "operationId": "find-receipt",
        "tags": ["commands"],
        "summary": "The receipt of the commit under an idempotency key",
        "parameters": [
            { "name": "key", "in": "path", "required": true, "schema": { "type": "string" } },
        ],
        "responses": responses,
    } })
}

fn feed_path(name: &str) -> Value {
    let mut responses = problems(&["400", "403", "503"]);
    let number = json!({ "type": "integer", "minimum": 0 });
    let header = |what: &str, schema: &Value| json!({ "description": what, "schema": schema });
    let text = json!({ "type": "string" });
    responses.insert(
        "200".into(),
        json!({
            "description": "Published events in order; an empty list if there are none.",
            "headers": {
                "Diptych-Feed": header("The log, its epoch and the feed.", &text),
                "Diptych-Upto": header("Everything up to here was considered.", &number),
                "Diptych-Head": header("The end of the log.", &number),
            },
            "content": {
                "application/cloudevents-batch+json": {
                    "schema": { "type": "array", "items": { "type": "object" } },
                },
                "text/event-stream": { "schema": text },
            },
        }),
    );
    let parameter = |name: &str, what: &str, schema: Value| {
        let (place, description) = ("query", what);
        json!({ "name": name, "in": place, "description": description, "schema": schema })
    };
    json!({ "get": {
        "operationId": format!("{name}-feed"),
        "tags": ["feeds"],
        "summary": format!("The feed {name}"),
        "parameters": [
            parameter("lastEventId", "Only events after the one with this id.", text.clone()),
            parameter(
                "after",
                "Only events after this position of the log, or after its `end`.",
                text.clone(),
            ),
            parameter("timeout", "Milliseconds to wait for an event.", number.clone()),
            parameter("limit", "Maximum number of events.", number),
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
        let kind = if content == "application/json" { "object" } else { "string" };
        let answer = json!({
            "description": what, "content": { content: { "schema": { "type": kind } } },
        });
        responses.insert("200".into(), answer);
        let id = path.trim_start_matches('/').replace('/', "-");
        let mut get = json!({
            "operationId": id, "tags": ["server"], "summary": what, "responses": responses,
        });
        if OPEN.contains(&path) {
            get = merged(get, json!({ "security": [] }));
        }
        (path.to_owned(), json!({ "get": get }))
    };
    plain.into_iter().map(path).collect()
}

/// The first line of the description of the type, or the name.
fn summary(schema: &Value, name: &str, schemas: &Map<String, Value>) -> Value {
    match resolved(schema, schemas).get("description") {
        Some(Value::String(text)) => text.lines().next().unwrap_or(name).into(),
        _ => name.into(),
    }
}

/// The arguments of a query as parameters of an address, followed by these options.
fn parameters(
    entry: &QueryEntry,
    definitions: &Map<String, Value>,
    options: Vec<Value>,
) -> Vec<Value> {
    let schema = resolved(&entry.arguments, definitions);
    let required: Vec<&Value> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let own = properties.into_iter().flatten().map(|(name, schema)| {
        let description = schema.get("description");
        let description = description.map_or(json!({}), |text| json!({ "description": text }));
        let parameter = json!({
            "name": name, "in": "query", "schema": schema,
            "required": required.iter().any(|required| *required == name),
        });
        merged(parameter, description)
    });
    own.chain(options).collect()
}
