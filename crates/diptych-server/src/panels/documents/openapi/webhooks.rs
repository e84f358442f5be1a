//! The endpoints for webhooks in the OpenAPI document.

use serde_json::{Value, json};

use super::answers::problems;

/// The endpoint for the webhooks of this source.
pub(super) fn path(name: &str) -> Value {
    let mut responses = problems(&["400", "403", "413", "415", "503"]);
    let outcomes = ["done", "ignored", "rejected"];
    let schema = json!({
        "type": "object",
        "required": ["outcome"],
        "properties": {
            "outcome": { "type": "string", "enum": outcomes },
            "detail": { "type": "string", "description": "The reason of a rejection." },
        },
    });
    responses.insert(
        "200".into(),
        json!({
            "description": "The webhook was taken, and need not be sent again.",
            "content": { "application/json": { "schema": schema } },
        }),
    );
    let header = |name: &str, what: &str, kind: &str| {
        let schema = json!({ "type": kind });
        json!({
            "name": name, "in": "header", "required": true, "description": what, "schema": schema,
        })
    };
    json!({ "post": {
        "operationId": format!("{name}-webhook"),
        "tags": ["webhooks"],
        "security": [],
        "summary": format!("Takes a webhook of {name}, signed after Standard Webhooks"),
        "parameters": [
            header("webhook-id", "The id, the same at each try.", "string"),
            header("webhook-timestamp", "The time of this try, in seconds since 1970.", "integer"),
            header("webhook-signature", "The signatures, with a space between them.", "string"),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": {} } },
        },
        "responses": responses,
    } })
}
