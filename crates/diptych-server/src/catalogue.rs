//! What there is to ask for, for programs: the catalogue, and the same as an OpenAPI document.
//! Both are made once, from the types.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response},
};
use diptych::{Event, EventType};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    Server,
    access::Operation,
    commands::CommandEntry,
    queries::{QueryEntry, json_response},
    request::PARAMETERS,
    site::Site,
};

/// Where schemas that others refer to stand, in both documents.
const SCHEMAS: &str = "/components/schemas";

/// An event type of the application.
pub(crate) struct EventEntry {
    event_type: EventType,
    schema: Value,
}

impl EventEntry {
    /// The types of an event, which all have its schema.
    pub(crate) fn of<E: Event + JsonSchema>(schemas: &mut SchemaGenerator) -> Vec<EventEntry> {
        let schema: Value = schemas.subschema_for::<E>().into();
        let entry = |event_type| EventEntry { event_type, schema: schema.clone() };
        E::types().into_iter().map(entry).collect()
    }
}

pub(crate) fn schemas() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12();
    settings.with(|settings| settings.definitions_path = SCHEMAS.into()).into_generator()
}

pub(crate) fn event_names(types: Vec<EventType>) -> Vec<&'static str> {
    types.into_iter().map(|known| known.name).collect()
}

/// Both documents of a server that is complete: the catalogue, and the OpenAPI document.
pub(crate) fn documents(server: &mut Server) -> (Value, Value) {
    let definitions = Value::Object(server.schemas.take_definitions(true));
    let catalogue = json!({
        "title": server.title,
        "version": server.version,
        "commands": server.commands.iter().map(command).collect::<Vec<_>>(),
        "queries": server.queries.iter().map(query).collect::<Vec<_>>(),
        "events": server.events.iter().map(event).collect::<Vec<_>>(),
        "views": views(server),
        "components": { "schemas": definitions },
    });
    let mut paths = Map::new();
    for (name, entry) in &server.commands {
        paths.insert(format!("/commands/{name}"), command_path(name, entry));
    }
    for (name, entry) in &server.queries {
        let parameters = parameters(entry, &definitions);
        paths.insert(format!("/queries/{name}"), query_path(name, entry, &parameters));
        paths.insert(format!("/queries/{name}/explanation"), explanation_path(name, &parameters));
        if entry.watch.is_some() {
            paths.insert(format!("/queries/{name}/live"), live_path(name, &parameters));
        }
    }
    paths.extend(plain_paths());
    let openapi = json!({
        "openapi": "3.1.0",
        "info": { "title": server.title, "version": server.version },
        "paths": paths,
        "components": { "schemas": with_own(definitions) },
    });
    (catalogue, openapi)
}

fn command((name, entry): (&String, &CommandEntry)) -> Value {
    json!({
        "name": name,
        "path": format!("/commands/{name}"),
        "type": entry.type_name,
        "events": entry.events,
        "body": entry.body,
        "rejection": entry.rejection,
    })
}

fn query((name, entry): (&String, &QueryEntry)) -> Value {
    json!({
        "name": name,
        "path": format!("/queries/{name}"),
        "type": entry.type_name,
        "view": entry.view,
        "live": entry.watch.is_some(),
        "arguments": entry.arguments,
        "answer": entry.answer,
    })
}

fn event(entry: &EventEntry) -> Value {
    let EventEntry { event_type: EventType { name, version, tags, codec, .. }, schema } = entry;
    json!({
        "name": name, "version": version, "tags": tags, "codec": codec, "schema": schema,
    })
}

/// The views that queries are asked of, each with its queries and its events.
fn views(server: &Server) -> Vec<Value> {
    let mut views: Vec<&'static str> = server.queries.values().map(|entry| entry.view).collect();
    views.sort_unstable();
    views.dedup();
    let view = |view: &'static str| {
        let of = server.queries.iter().filter(|(_, entry)| entry.view == view);
        let events = of.clone().next().map(|(_, entry)| entry.events.clone());
        let queries: Vec<_> = of.map(|(name, _)| name).collect();
        json!({ "type": view, "queries": queries, "events": events })
    };
    views.into_iter().map(view).collect()
}

fn command_path(name: &str, entry: &CommandEntry) -> Value {
    let header = |name: &str, what: &str, format: &str| {
        json!({
            "name": name, "in": "header", "description": what,
            "schema": { "type": "string", "format": format },
        })
    };
    let rejection = json!({
        "allOf": [own("problem"), {
            "type": "object",
            "required": ["rejection"],
            "properties": { "rejection": entry.rejection },
        }],
    });
    let mut responses = problems(&["400", "403", "404", "409", "413", "415", "503"]);
    responses.insert("200".into(), answer("The receipt: its events are durable.", own("receipt")));
    responses.insert("422".into(), problem("The rule says no, and why.", rejection));
    json!({ "post": {
        "operationId": name,
        "tags": ["commands"],
        "summary": summary(&entry.body, name),
        "parameters": [
            header("Idempotency-Key", "Sent twice under one key it is carried out once.", "text"),
            header("Diptych-Occurred-At", "When it was so.", "date-time"),
            header("Diptych-Session", "The session of the caller.", "text"),
            header("Diptych-After", "The receipt of what this rests on.", "text"),
            header("Diptych-Unchanged-Since", "Only if nothing came after this position.", "text"),
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
    let what = "The answer; the header Diptych-Position says of which position.";
    responses.insert("200".into(), answer(what, entry.answer.clone()));
    let post = json!({
        "operationId": format!("{name}-by-post"),
        "tags": ["queries"],
        "summary": format!("{name}, for arguments that are too large for an address"),
        "parameters": own_parameters(),
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

fn plain_paths() -> Map<String, Value> {
    let plain = [
        ("/status", "Log, commands, views and projections as they are.", "application/json"),
        ("/status/live", "The same once a second.", "text/event-stream"),
        ("/health", "The process answers.", "application/json"),
        ("/ready", "It should be sent requests.", "application/json"),
        ("/metrics", "Figures, as Prometheus reads them.", "text/plain"),
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

/// The first line of what the type says of itself, or the name.
fn summary(schema: &Value, name: &str) -> Value {
    match schema.get("description") {
        Some(Value::String(text)) => text.lines().next().unwrap_or(name).into(),
        _ => name.into(),
    }
}

/// The arguments of a query as parameters of an address, and those that every query has.
fn parameters(entry: &QueryEntry, definitions: &Value) -> Vec<Value> {
    let schema = match entry.arguments.get("$ref").and_then(Value::as_str) {
        Some(place) => {
            let name = place.rsplit('/').next().unwrap_or_default();
            definitions.get(name).unwrap_or(&Value::Null)
        }
        None => &entry.arguments,
    };
    let required: Vec<&Value> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let own = properties.into_iter().flatten().map(|(name, schema)| {
        json!({
            "name": name, "in": "query", "schema": schema,
            "required": required.iter().any(|required| *required == name),
        })
    });
    own.chain(own_parameters()).collect()
}

fn own_parameters() -> Vec<Value> {
    let parameter =
        |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string" } });
    PARAMETERS.into_iter().map(parameter).collect()
}

fn answer(what: &str, schema: Value) -> Value {
    json!({ "description": what, "content": { "application/json": { "schema": schema } } })
}

fn problem(what: &str, schema: Value) -> Value {
    json!({ "description": what, "content": { "application/problem+json": { "schema": schema } } })
}

fn problems(statuses: &[&str]) -> Map<String, Value> {
    let what = |status: &str| match status {
        "400" => "It makes no sense by itself.",
        "403" => "The caller may not, or asks from elsewhere.",
        "404" => "There is no such thing.",
        "409" => "Something came in between, or the token or key is of something else.",
        "413" => "It is larger than the limit.",
        "415" => "The body is not said to be JSON.",
        _ => "Not now: come again. Of a command the outcome may be unknown, if it says so.",
    };
    let one = |status: &&str| ((*status).to_owned(), problem(what(status), own("problem")));
    statuses.iter().map(one).collect()
}

/// A schema of the server itself, under a name that no Rust type has.
fn own(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/diptych-{name}") })
}

fn with_own(mut definitions: Value) -> Value {
    definitions["diptych-problem"] = json!({
        "type": "object",
        "description": "Why there is no other answer (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
        },
    });
    definitions["diptych-receipt"] = json!({
        "type": "object",
        "description": "Where the events of a command are in the log.",
        "required": ["receipt", "first", "last", "events"],
        "properties": {
            "receipt": { "type": "string" },
            "first": { "type": "integer" },
            "last": { "type": "integer" },
            "events": { "type": "integer" },
        },
    });
    definitions
}

/// `GET /catalogue`
pub(crate) async fn catalogue(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let admitted = site.admit(Operation::Catalogue, &parts).await;
    site.answered(admitted.map(|_| json_response(site.catalogue.clone().into())))
}

/// `GET /openapi.json`
pub(crate) async fn openapi(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let admitted = site.admit(Operation::Catalogue, &parts).await;
    site.answered(admitted.map(|_| json_response(site.openapi.clone().into())))
}
