//! The routes of a record in the OpenAPI document.

use diptych::catalogue::SCHEMAS;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    journal::Change,
    record::{Field, Record},
    refusal::Refusal,
    view::Entry,
};

/// The answers to writes.
const NOW: &str = "The row as it is now; the receipt alone if the caller may not read the row.";
const CREATED: &str =
    "The row as it was created; the receipt alone if the caller may not read the row.";

/// The paths of a record below this one, and the shared schemas.
pub(super) fn described<R: Record + JsonSchema>(
    path: &str,
) -> (Map<String, Value>, Map<String, Value>) {
    let settings = SchemaSettings::draft2020_12();
    let settings = settings.with(|settings| settings.definitions_path = SCHEMAS.into());
    let mut schemas = settings.into_generator();
    let row: Value = schemas.subschema_for::<R>().into();
    let entry: Value = schemas.subschema_for::<Entry<R>>().into();
    let change: Value = schemas.subschema_for::<Change>().into();
    let refusal: Value = schemas.subschema_for::<Refusal>().into();
    let record =
        RecordDocument { name: R::NAME, fields: R::FIELDS, key: R::KEY_FIELD, row, refusal };
    let page = json!({
        "type": "object", "required": ["items", "next"],
        "properties": {
            "items": { "type": "array", "items": entry },
            "next": {
                "type": ["string", "null"],
                "description": "Continues the list, as the parameter `_next`.",
            },
        },
    });
    let history = json!({ "type": "array", "items": change });
    let mut paths = Map::new();
    paths.insert(path.to_owned(), json!({ "get": record.list(page), "post": record.create() }));
    let one = json!({
        "parameters": [key_parameter()],
        "get": record.get(),
        "put": record.replace(),
        "patch": record.patch(),
        "delete": record.delete(),
    });
    paths.insert(format!("{path}/{{key}}"), one);
    let history = json!({ "parameters": [key_parameter()], "get": record.history(history) });
    paths.insert(format!("{path}/{{key}}/history"), history);
    (paths, schemas.take_definitions(true))
}

struct RecordDocument {
    name: &'static str,
    fields: &'static [Field],
    key: &'static str,
    row: Value,
    refusal: Value,
}

impl RecordDocument {
    fn operation(&self, what: &str, summary: &str, responses: Value) -> Map<String, Value> {
        let mut all = Map::new();
        for (status, name) in [
            ("400", "bad-request"),
            ("401", "unauthorized"),
            ("403", "forbidden"),
            ("503", "unavailable"),
            ("default", "problem"),
        ] {
            let reference = format!("#/components/responses/diptych-{name}");
            all.insert(status.to_owned(), json!({ "$ref": reference }));
        }
        if let Value::Object(responses) = responses {
            all.extend(responses);
        }
        let mut operation = Map::new();
        operation.insert("operationId".into(), format!("{what}-{}", self.name).into());
        operation.insert("tags".into(), json!([self.name]));
        operation.insert("summary".into(), summary.into());
        operation.insert("responses".into(), all.into());
        operation
    }

    fn list(&self, page: Value) -> Value {
        let what = "Rows, in order and by filters";
        let responses = json!({
            "200": json_of(what, page),
            "404": self.refused("Rows were imported after the point that the list is about."),
        });
        let mut operation = self.operation("list", what, responses);
        let listed = self.fields.iter().filter(|field| field.is_indexed || field.name == self.key);
        let of_field = |field: &Field| {
            let text = json!({ "type": "string" });
            let parameter = |suffix: &str, what: &str| {
                json!({
                    "name": format!("{}{suffix}", field.name), "in": "query",
                    "description": what, "schema": text,
                })
            };
            [
                parameter("", "Only rows with this value."),
                parameter(".from", "Only rows with this value or a higher one."),
                parameter(".to", "Only rows with this value or a lower one."),
            ]
        };
        let orders: Vec<_> = listed
            .clone()
            .flat_map(|field| [field.name.to_owned(), format!("-{}", field.name)])
            .collect();
        let mut parameters: Vec<_> = listed.flat_map(of_field).collect();
        parameters.extend([
            json!({
                "name": "_order", "in": "query", "schema": { "type": "string", "enum": orders },
                "description": "The field of the order; with a hyphen before it, descending.",
            }),
            json!({
                "name": "_limit", "in": "query", "description": "The number of rows of a page.",
                "schema": {
                    "type": "integer", "minimum": 1, "maximum": crate::list::MAX_PAGE_ROWS,
                    "default": crate::list::PAGE_ROWS,
                },
            }),
            json!({
                "name": "_next", "in": "query", "schema": { "type": "string" },
                "description": "Continues after the page that had this as `next`.",
            }),
        ]);
        parameters.extend(of_query());
        operation.insert("parameters".into(), parameters.into());
        operation.into()
    }

    fn get(&self) -> Value {
        let responses = json!({
            "200": self.row_response("The row."),
            "304": { "description": "The client has this revision." },
            "404": self.refused("There is no such row."),
        });
        let mut operation = self.operation("get", "A row", responses);
        let mut parameters = vec![condition("If-None-Match", "The revision that the client has.")];
        parameters.extend(of_query());
        operation.insert("parameters".into(), parameters.into());
        operation.into()
    }

    fn history(&self, history: Value) -> Value {
        let what = "The events about a row";
        let responses = json!({ "200": json_of(what, history) });
        let mut operation = self.operation("history", what, responses);
        operation.insert("parameters".into(), of_query().into());
        operation.into()
    }

    fn create(&self) -> Value {
        let responses = json!({ "201": self.row_response(CREATED) });
        self.write("create", "Creates a row", Some("application/json"), responses, false)
    }

    fn replace(&self) -> Value {
        let what = "Puts a row in place of another; with `If-None-Match: *` creates it";
        let responses = json!({
            "200": self.row_response(NOW),
            "201": self.row_response(CREATED),
        });
        self.write("replace", what, Some("application/json"), responses, true)
    }

    fn patch(&self) -> Value {
        let responses = json!({ "200": self.row_response(NOW) });
        let what = "Changes fields of a row by a JSON merge patch";
        self.write("patch", what, Some("application/merge-patch+json"), responses, true)
    }

    fn delete(&self) -> Value {
        let responses = json!({ "204": { "description": "The row is deleted." } });
        self.write("delete", "Deletes a row", None, responses, true)
    }

    fn write(
        &self,
        what: &str,
        summary: &str,
        body: Option<&str>,
        mut responses: Value,
        is_of_row: bool,
    ) -> Value {
        let problems = [
            ("409", "The row exists, another row has the value, or the key is used already."),
            ("422", "The row makes no sense, or a retired field would change."),
        ];
        let of_row = [("404", "There is no such row."), ("412", "The row has another revision.")];
        let of_row = of_row.into_iter().filter(|_| is_of_row);
        if let Value::Object(responses) = &mut responses {
            for (status, what) in problems.into_iter().chain(of_row) {
                responses.insert(status.to_owned(), self.refused(what));
            }
            if body.is_some() {
                for (status, name) in [("413", "too-large"), ("415", "content-type")] {
                    let reference = format!("#/components/responses/diptych-{name}");
                    responses.insert(status.to_owned(), json!({ "$ref": reference }));
                }
            }
        }
        let mut operation = self.operation(what, summary, responses);
        let mut parameters = vec![json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string" },
            "description": "Under a key the write happens once.",
        })];
        if is_of_row {
            parameters.push(condition("If-Match", "The revision that the row has to have."));
        }
        if what == "replace" {
            parameters.push(condition("If-None-Match", "With `*` the row is created."));
        }
        operation.insert("parameters".into(), parameters.into());
        if let Some(content_type) = body {
            let schema = match what {
                "patch" => json!({ "type": "object" }),
                _ => self.row.clone(),
            };
            let mut content = Map::new();
            content.insert(content_type.to_owned(), json!({ "schema": schema }));
            operation.insert("requestBody".into(), json!({ "required": true, "content": content }));
        }
        operation.into()
    }

    fn row_response(&self, what: &str) -> Value {
        let mut response = json_of(what, self.row.clone());
        if let Value::Object(response) = &mut response {
            let tag = json!({ "description": "The revision.", "schema": { "type": "string" } });
            response.insert("headers".into(), json!({ "ETag": tag }));
        }
        response
    }

    fn refused(&self, what: &str) -> Value {
        let problem = json!({ "$ref": format!("#{SCHEMAS}/diptych-problem") });
        let with_refusal = json!({ "type": "object", "properties": { "rejection": self.refusal } });
        let schema = json!({ "allOf": [problem, with_refusal] });
        json!({
            "description": what,
            "content": { "application/problem+json": { "schema": schema } },
        })
    }
}

fn json_of(what: &str, schema: Value) -> Value {
    json!({ "description": what, "content": { "application/json": { "schema": schema } } })
}

fn key_parameter() -> Value {
    json!({
        "name": "key", "in": "path", "required": true, "schema": { "type": "string" },
        "description": "The key of the row.",
    })
}

fn condition(name: &str, what: &str) -> Value {
    json!({
        "name": name, "in": "header", "description": what, "schema": { "type": "string" },
    })
}

/// References to the options of every query.
fn of_query() -> Vec<Value> {
    let options = [
        "consistency",
        "after",
        "session",
        "within",
        "at-most",
        "or-stale",
        "as-of",
        "recorded-before",
        "occurred-before",
    ];
    let reference = |name| json!({ "$ref": format!("#/components/parameters/diptych-{name}") });
    options.into_iter().map(reference).collect()
}
