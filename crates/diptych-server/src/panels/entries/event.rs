//! Events in the catalogue.

use diptych::{Event, EventType};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::panels::entries::schema::resolved;

/// An event type of the application.
pub(crate) struct EventEntry {
    pub(crate) event_type: EventType,
    pub(crate) schema: Value,
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

pub(crate) fn names(types: Vec<EventType>) -> Vec<&'static str> {
    types.into_iter().map(|known| known.name).collect()
}

/// The schemas of the payloads; `types` is the number of event types. An enum has one variant for
/// each type, in the same order, and the payload is the variant without its name. If variants and
/// types do not correspond, each schema allows any payload.
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
