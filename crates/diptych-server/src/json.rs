//! JSON values that several files build.

use serde::Serialize;
use serde_json::{Value, json};

/// The payload of an event as JSON. A payload that is not JSON becomes a list of its bytes.
pub(crate) fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!({ "bytes": bytes }))
}

/// The reason of a rejection, for programs.
pub(crate) fn rejection(reason: &impl Serialize) -> Value {
    serde_json::to_value(reason).unwrap_or(Value::Null)
}

/// The members of both objects.
pub(crate) fn merged(first: Value, second: Value) -> Value {
    let members = [first, second].into_iter().filter_map(|value| match value {
        Value::Object(members) => Some(members),
        _ => None,
    });
    Value::Object(members.flatten().collect())
}
