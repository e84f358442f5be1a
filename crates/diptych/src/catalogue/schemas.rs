//! Schemas of the types of a catalogue, with the feature `schemas`.

#[cfg(feature = "schemas")]
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

#[cfg(feature = "schemas")]
use crate::{collaboration::PublicEvent, event::Event};

/// The place of shared schemas in a [`Listing`](super::Listing), and in an OpenAPI document.
pub const SCHEMAS: &str = "/components/schemas";

/// The schema behind a reference to one of `definitions`, or the schema itself.
pub fn resolved<'s>(schema: &'s Value, definitions: &'s Map<String, Value>) -> &'s Value {
    let Some(place) = schema.get("$ref").and_then(Value::as_str) else { return schema };
    let name = place.rsplit('/').next().unwrap_or_default();
    definitions.get(name).unwrap_or(&Value::Null)
}

/// The description of the type behind a schema: its doc comment.
pub(super) fn description(schema: &Value, definitions: &Map<String, Value>) -> Option<String> {
    let description = resolved(schema, definitions).get("description")?;
    description.as_str().map(str::to_owned)
}

/// Makes the schemas of an entry; none if it was declared without them.
#[derive(Clone, Copy, Default)]
pub(super) struct Describe {
    #[cfg(feature = "schemas")]
    make: Option<fn(&mut SchemaGenerator) -> Vec<Value>>,
}

#[cfg(feature = "schemas")]
impl Describe {
    pub(super) fn one<T: JsonSchema>() -> Describe {
        Describe { make: Some(|schemas| vec![schemas.subschema_for::<T>().into()]) }
    }

    pub(super) fn two<T: JsonSchema, U: JsonSchema>() -> Describe {
        let make = |schemas: &mut SchemaGenerator| {
            let (one, other) = (schemas.subschema_for::<T>(), schemas.subschema_for::<U>());
            vec![one.into(), other.into()]
        };
        Describe { make: Some(make) }
    }

    /// A schema for the payload of each type of an event.
    pub(super) fn event<E: Event + JsonSchema>() -> Describe {
        let make = |schemas: &mut SchemaGenerator| {
            let schema: Value = schemas.subschema_for::<E>().into();
            payloads(&schema, schemas.definitions(), E::types().len())
        };
        Describe { make: Some(make) }
    }

    /// A schema for the payload of each type of a public event.
    pub(super) fn public_event<P: PublicEvent + JsonSchema>() -> Describe {
        let make = |schemas: &mut SchemaGenerator| {
            let schema: Value = schemas.subschema_for::<P>().into();
            let mut made = payloads(&schema, schemas.definitions(), P::types().len());
            describe_variants(&mut made, &schema, schemas.definitions());
            made
        };
        Describe { make: Some(make) }
    }
}

/// Collects the schemas of all entries.
pub(super) struct SchemaCollector {
    #[cfg(feature = "schemas")]
    generator: SchemaGenerator,
}

#[cfg(feature = "schemas")]
impl SchemaCollector {
    pub(super) fn new() -> SchemaCollector {
        SchemaCollector::with(SchemaSettings::draft2020_12())
    }

    /// In the dialect of documents that know no newer one, of values as they are written.
    pub(super) fn draft7() -> SchemaCollector {
        SchemaCollector::with(SchemaSettings::draft07().for_serialize())
    }

    fn with(settings: SchemaSettings) -> SchemaCollector {
        let settings = settings.with(|settings| settings.definitions_path = SCHEMAS.into());
        SchemaCollector { generator: settings.into_generator() }
    }

    pub(super) fn schemas(&mut self, describe: Describe) -> Vec<Value> {
        let mut made = describe.make.map(|make| make(&mut self.generator)).unwrap_or_default();
        // The generator transforms only the definitions.
        for schema in made.iter_mut().filter_map(|made| <&mut Schema>::try_from(made).ok()) {
            self.generator.transforms_mut().for_each(|transform| transform.transform(schema));
        }
        made
    }

    pub(super) fn into_definitions(mut self) -> Map<String, Value> {
        self.generator.take_definitions(true)
    }
}

/// A build without the feature has no schemas.
#[cfg(not(feature = "schemas"))]
impl SchemaCollector {
    pub(super) fn new() -> SchemaCollector {
        SchemaCollector {}
    }

    pub(super) fn draft7() -> SchemaCollector {
        SchemaCollector {}
    }

    pub(super) fn schemas(&mut self, _: Describe) -> Vec<Value> {
        Vec::new()
    }

    pub(super) fn into_definitions(self) -> Map<String, Value> {
        Map::new()
    }
}

/// Gives the schemas of payloads the doc comments of their variants.
#[cfg(feature = "schemas")]
fn describe_variants(payloads: &mut [Value], schema: &Value, definitions: &Map<String, Value>) {
    let variants = resolved(schema, definitions).get("oneOf").and_then(Value::as_array);
    for (payload, variant) in payloads.iter_mut().zip(variants.into_iter().flatten()) {
        let description = variant.get("description").cloned();
        // A reference has no members beside it, and the description of its own.
        let own = payload.as_object_mut().filter(|members| !members.contains_key("$ref"));
        if let (Some(members), Some(description)) = (own, description) {
            members.entry("description").or_insert(description);
        }
    }
}

/// The schemas of the payloads; `types` is the number of event types. An enum has one variant for
/// each type, in the same order, and the payload is the variant without its name. If variants and
/// types do not correspond, each schema allows any payload.
#[cfg(feature = "schemas")]
fn payloads(schema: &Value, definitions: &Map<String, Value>, types: usize) -> Vec<Value> {
    let fields = |variant: &Value| {
        let fields = variant.get("properties")?.as_object()?;
        fields.values().next().filter(|_| fields.len() == 1).cloned()
    };
    let variants = resolved(schema, definitions).get("oneOf").and_then(Value::as_array);
    let variants: Option<Vec<_>> =
        variants.map(|variants| variants.iter().filter_map(fields).collect());
    match variants {
        Some(variants) if variants.len() == types => variants,
        None if types == 1 => vec![schema.clone()],
        _ => vec![Value::Bool(true); types],
    }
}
