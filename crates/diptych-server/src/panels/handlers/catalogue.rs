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
    door::access::Operation,
    door::request::PARAMETERS,
    merged,
    panels::handlers::commands::CommandEntry,
    panels::handlers::queries::{QueryEntry, json_response},
    panels::site::Site,
};

/// Where schemas that others refer to stand, in both documents.
const SCHEMAS: &str = "/components/schemas";

/// An event type of the application.
pub(crate) struct EventEntry {
    event_type: EventType,
    schema: Value,
}

impl EventEntry {
    /// The types of an event, each with the schema of its payload.
    pub(crate) fn of<E: Event + JsonSchema>(schemas: &mut SchemaGenerator) -> Vec<EventEntry> {
        let schema: Value = schemas.subschema_for::<E>().into();
        let types = E::types();
        let payloads = payloads(&schema, schemas.definitions(), types.len());
        let entries = types.into_iter().zip(payloads);
        entries.map(|(event_type, schema)| EventEntry { event_type, schema }).collect()
    }
}

/// The schemas of the payloads of so many types. Those of an enum are its variants without their
/// names, in the same order. Where it is not known which is which, a payload may be anything.
fn payloads(schema: &Value, definitions: &Map<String, Value>, types: usize) -> Vec<Value> {
    let resolved = resolved(schema, Some(definitions));
    let fields = |variant: &Value| {
        let fields = variant.get("properties")?.as_object()?;
        fields.values().next().filter(|_| fields.len() == 1).cloned()
    };
    let variants = resolved.get("oneOf").and_then(Value::as_array);
    let variants: Option<Vec<_>> =
        variants.map(|variants| variants.iter().filter_map(fields).collect());
    match variants {
        Some(variants) if variants.len() == types => variants,
        None if types == 1 => vec![schema.clone()],
        _ => vec![Value::Bool(true); types],
    }
}

/// The arguments that a query knows, as its schema has them.
pub(crate) enum Known {
    /// None: the type is a unit.
    Unit,
    /// These.
    Fields(Vec<String>),
    /// A schema that does not say.
    Open,
}

impl Known {
    pub(crate) fn of(schema: &Value, definitions: &Map<String, Value>) -> Known {
        let schema = resolved(schema, Some(definitions));
        let is_closed = |schema: &Map<String, Value>| {
            let parts = ["allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if"];
            let more = ["additionalProperties", "unevaluatedProperties"];
            let is_open = |name| schema.get(name).is_some_and(|more| *more != false);
            !parts.iter().any(|name| schema.contains_key(*name)) && !more.into_iter().any(is_open)
        };
        match (schema.get("type").and_then(Value::as_str), schema.as_object()) {
            (Some("null"), _) => Known::Unit,
            (Some("object"), Some(schema)) if is_closed(schema) => {
                let fields = schema.get("properties").and_then(Value::as_object);
                Known::Fields(fields.into_iter().flat_map(Map::keys).cloned().collect())
            }
            _ => Known::Open,
        }
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &String> {
        let fields = match self {
            Known::Fields(fields) => Some(fields),
            Known::Unit | Known::Open => None,
        };
        fields.into_iter().flatten()
    }

    /// A name that is none of them, and what they are.
    pub(crate) fn first_unknown<'n>(&self, names: &'n [String]) -> Option<(&'n str, Vec<&String>)> {
        let fields: Vec<_> = match self {
            Known::Open => return None,
            Known::Unit | Known::Fields(_) => self.fields().collect(),
        };
        let unknown = names.iter().find(|name| !fields.contains(name))?;
        Some((unknown, fields))
    }
}

/// A schema itself, where it stands somewhere else.
fn resolved<'s>(schema: &'s Value, definitions: Option<&'s Map<String, Value>>) -> &'s Value {
    let Some(place) = schema.get("$ref").and_then(Value::as_str) else { return schema };
    let name = place.rsplit('/').next().unwrap_or_default();
    definitions.and_then(|definitions| definitions.get(name)).unwrap_or(&Value::Null)
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
    let has_figures = server.metrics.is_some();
    let plain = plain_paths().into_iter();
    paths.extend(plain.filter(|(path, _)| has_figures || path != "/metrics"));
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
    let header = |name: &str, what: &str| {
        let said = name.trim_start_matches("Diptych-").to_ascii_lowercase();
        json!({ "name": name, "in": "header", "description": what, "schema": said_schema(&said) })
    };
    let mut responses = problems(&["400", "403", "404", "409", "413", "415", "503"]);
    responses.insert("200".into(), answer("The receipt: its events are durable.", own("receipt")));
    if let Some(rejection) = &entry.rejection {
        let noted = json!({
            "type": ["boolean", "null"],
            "description": "Whether the rejection is on record; null if that is not known.",
        });
        let note_problem = json!({ "type": "string" });
        let properties = match entry.notes {
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
        responses.insert("422".into(), problem("The rule says no, and why.", rejection));
    }
    json!({ "post": {
        "operationId": name,
        "tags": ["commands"],
        "summary": summary(&entry.body, name),
        "parameters": [
            header("Idempotency-Key", "Sent twice under one key it is carried out once."),
            header("Diptych-Occurred-At", "When it was so."),
            header("Diptych-Correlation", "What it belongs to."),
            header("Diptych-Causation", "What it comes of."),
            header("Diptych-Session", "The session of the caller."),
            header("Diptych-After", "The receipt or token of what this rests on."),
            header("Diptych-Unchanged-Since", "Only if nothing that matters to it came since."),
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
    own.chain(own_parameters()).collect()
}

fn own_parameters() -> Vec<Value> {
    let parameter = |name: &str| {
        let said = name.trim_start_matches('_').replace('_', "-");
        json!({ "name": name, "in": "query", "schema": said_schema(&said) })
    };
    PARAMETERS.into_iter().map(parameter).collect()
}

/// The schema of what is said beside a command or a query, in a header or in a parameter.
fn said_schema(name: &str) -> Value {
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
        "400" => "It makes no sense by itself.",
        "403" => "The caller may not, or asks from elsewhere.",
        "404" => "There is no such thing.",
        "409" => "Something came in between, or the token or key is of something else.",
        "413" => "It is larger than the limit.",
        "415" => "The body is not said to be JSON.",
        _ => "Not now: come again. Of a command the outcome may be unknown, if it says so.",
    };
    let one = |status: &&str| ((*status).to_owned(), problem(what(status), own("problem")));
    let other = ("default".to_owned(), problem("What is rarely so.", own("problem")));
    statuses.iter().map(one).chain([other]).collect()
}

/// A schema of the server itself, under a name that no Rust type has.
fn own(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/diptych-{name}") })
}

fn with_own(definitions: Value) -> Value {
    let problem = json!({
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
    let receipt = json!({
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
    merged(definitions, json!({ "diptych-problem": problem, "diptych-receipt": receipt }))
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
