//! The OpenAPI document of the log, with schemas made from the types of the handlers.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response},
};
use diptych::catalogue::SCHEMAS;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{
    door::response::{json_response, response_of},
    hinge::{
        admission::Need,
        http::{
            bodies::{
                AppendAnswer, AppendBody, CountAnswer, CountParameters, KeyAnswer, LastAnswer,
                LastParameters, LogAnswer, ReadAnswer, ReadBody, ReadParameters, TrackingAnswer,
                TypesAnswer, generator,
            },
            event::EventAnswer,
            site::HttpLog,
        },
    },
};

const JSON: &str = "application/json";

/// `GET /v1/openapi.json`
pub(crate) async fn document(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let admitted = log.gate.admit(request.headers(), Need::Token);
    let document = || json_response(of_log(&log.name).to_string().into());
    response_of(admitted.map(|_| document()).map_err(Into::into))
}

/// The document of a log with this name.
fn of_log(name: &str) -> Value {
    let mut schemas = generator();
    let paths = paths(name, &mut schemas);
    let mut definitions = schemas.take_definitions(true);
    definitions.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": { "title": format!("The log {name}"), "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn paths(name: &str, schemas: &mut SchemaGenerator) -> Map<String, Value> {
    let log = format!("/v1/logs/{name}");
    let read = (reads(schemas), ["400", "401", "403", "404", "503"]);
    let describe = PathOperation::new("describe", "The log, its history, its end and its limits.");
    let append = PathOperation::new("append", "Appends events in one commit.")
        .body::<AppendBody>(schemas)
        .answer::<AppendAnswer>(schemas)
        .problems(&["400", "401", "403", "404", "408", "409", "413", "415", "503"]);
    let by_address = PathOperation::new("read", "Reads events, or follows the log.")
        .parameters::<ReadParameters>(schemas)
        .content(read.0.clone())
        .problems(&read.1);
    let by_body = PathOperation::new("readByBody", "Reads events, or follows the log.")
        .body::<ReadBody>(schemas)
        .content(read.0)
        .problems(&["400", "401", "403", "404", "408", "413", "415", "503"]);
    let last = PathOperation::new("last", "The last position of a matching event.")
        .parameters::<LastParameters>(schemas)
        .answer::<LastAnswer>(schemas)
        .problems(&read.1);
    let count = PathOperation::new("count", "The number of events with a tag.")
        .parameters::<CountParameters>(schemas)
        .answer::<CountAnswer>(schemas)
        .problems(&read.1);
    let types = PathOperation::new("types", "The names of all types in the log.")
        .answer::<TypesAnswer>(schemas)
        .problems(&read.1);
    let key = PathOperation::new("findKey", "The commit of an idempotency key.")
        .in_path("key")
        .answer::<KeyAnswer>(schemas)
        .problems(&read.1);
    let tracking = PathOperation::new("findTracking", "How far another log was imported.")
        .in_path("source")
        .answer::<TrackingAnswer>(schemas)
        .problems(&read.1);
    let describe = describe.answer::<LogAnswer>(schemas).problems(&["401", "404"]);
    let status = |id, summary| {
        let schema = json!({ "type": "object", "properties": { "status": { "type": "string" } } });
        PathOperation::new(id, summary).content(content(JSON, schema)).open()
    };
    let metrics = PathOperation::new("metrics", "Metrics in the text format of Prometheus.")
        .content(content("text/plain", json!({ "type": "string" })))
        .problems(&["401", "403", "404"]);
    let own = PathOperation::new("openapi", "This document.")
        .content(content(JSON, json!({ "type": "object" })))
        .problems(&["401"]);
    let paths = [
        (log.clone(), json!({ "get": describe.value })),
        (format!("{log}/events"), json!({ "get": by_address.value, "post": append.value })),
        (format!("{log}/events/read"), json!({ "post": by_body.value })),
        (format!("{log}/last"), json!({ "get": last.value })),
        (format!("{log}/count"), json!({ "get": count.value })),
        (format!("{log}/types"), json!({ "get": types.value })),
        (format!("{log}/keys/{{key}}"), json!({ "get": key.value })),
        (format!("{log}/tracking/{{source}}"), json!({ "get": tracking.value })),
        ("/v1/openapi.json".to_owned(), json!({ "get": own.value })),
        (
            "/health".to_owned(),
            json!({ "get": status("health", "The process answers requests.").value }),
        ),
        (
            "/ready".to_owned(),
            json!({ "get": status("ready", "The log can be used.").problems(&["503"]).value }),
        ),
        ("/metrics".to_owned(), json!({ "get": metrics.value })),
    ];
    paths.into_iter().collect()
}

/// One operation of the document.
struct PathOperation {
    value: Value,
}

impl PathOperation {
    fn new(id: &str, summary: &str) -> PathOperation {
        let value = json!({
            "operationId": id,
            "summary": summary,
            "parameters": [],
            "responses": {},
        });
        PathOperation { value }
    }

    fn body<T: JsonSchema>(mut self, schemas: &mut SchemaGenerator) -> PathOperation {
        let content = content(JSON, schema::<T>(schemas));
        self.set("requestBody", json!({ "required": true, "content": content }));
        self
    }

    fn answer<T: JsonSchema>(self, schemas: &mut SchemaGenerator) -> PathOperation {
        self.content(content(JSON, schema::<T>(schemas)))
    }

    fn content(mut self, content: Value) -> PathOperation {
        let answer = json!({ "description": "The answer.", "content": content });
        self.add("responses", "200", answer);
        self
    }

    fn problems(mut self, statuses: &[&str]) -> PathOperation {
        let schema = json!({ "$ref": format!("#{SCHEMAS}/Problem") });
        let content = content("application/problem+json", schema);
        for status in statuses {
            let problem = json!({ "description": "A problem.", "content": content });
            self.add("responses", status, problem);
        }
        self
    }

    /// An operation that needs no token.
    fn open(mut self) -> PathOperation {
        self.set("security", json!([]));
        self
    }

    fn in_path(mut self, name: &str) -> PathOperation {
        let schema = json!({ "type": "string" });
        self.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        self
    }

    /// The fields of a type as parameters of the address.
    fn parameters<T: JsonSchema>(mut self, schemas: &mut SchemaGenerator) -> PathOperation {
        let fields = T::json_schema(schemas).to_value();
        let required = fields.get("required").and_then(Value::as_array).cloned();
        let required = required.unwrap_or_default();
        let properties = fields.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            self.push(json!({
                "name": name,
                "in": "query",
                "required": required.iter().any(|required| required == name),
                "schema": schema,
            }));
        }
        self
    }

    fn set(&mut self, member: &str, value: Value) {
        if let Some(members) = self.value.as_object_mut() {
            members.insert(member.to_owned(), value);
        }
    }

    fn add(&mut self, member: &str, name: &str, value: Value) {
        if let Some(members) = self.value.get_mut(member).and_then(Value::as_object_mut) {
            members.insert(name.to_owned(), value);
        }
    }

    fn push(&mut self, parameter: Value) {
        if let Some(Value::Array(parameters)) = self.value.get_mut("parameters") {
            parameters.push(parameter);
        }
    }
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn content(kind: &str, schema: Value) -> Value {
    json!({ kind: { "schema": schema } })
}

/// The three forms of a read.
fn reads(schemas: &mut SchemaGenerator) -> Value {
    let event = schema::<EventAnswer<'_>>(schemas);
    json!({
        JSON: { "schema": schema::<ReadAnswer<'_>>(schemas) },
        "application/x-ndjson": { "schema": event },
        "text/event-stream": { "schema": {
            "type": "string",
            "description": "Events `batch` (as in JSON), `caught-up`, `fell-behind`, `problem`.",
        } },
    })
}

/// The schema of problems (RFC 9457).
fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "description": "`urn:diptych:` and a word." },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "A sentence for people." },
        },
    })
}
