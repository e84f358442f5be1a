//! Schemas of the types behind the entries.

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

/// The place of shared schemas in the catalogue and in the OpenAPI document.
pub(crate) const SCHEMAS: &str = "/components/schemas";

pub(crate) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12();
    settings.with(|settings| settings.definitions_path = SCHEMAS.into()).into_generator()
}

/// The schema behind a reference, or the schema itself.
pub(crate) fn resolved<'s>(
    schema: &'s Value,
    definitions: Option<&'s Map<String, Value>>,
) -> &'s Value {
    let Some(place) = schema.get("$ref").and_then(Value::as_str) else { return schema };
    let name = place.rsplit('/').next().unwrap_or_default();
    definitions.and_then(|definitions| definitions.get(name)).unwrap_or(&Value::Null)
}

/// The names of the arguments of a query, by its schema.
pub(crate) enum ArgumentNames {
    /// The type is a unit, without arguments.
    Unit,
    Fields(Vec<String>),
    /// The schema allows other names.
    Open,
}

impl ArgumentNames {
    pub(crate) fn of(schema: &Value, definitions: &Map<String, Value>) -> ArgumentNames {
        let schema = resolved(schema, Some(definitions));
        let is_closed = |schema: &Map<String, Value>| {
            let parts = ["allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if"];
            let more = ["additionalProperties", "unevaluatedProperties"];
            let is_open = |name| schema.get(name).is_some_and(|more| *more != false);
            !parts.iter().any(|name| schema.contains_key(*name)) && !more.into_iter().any(is_open)
        };
        match (schema.get("type").and_then(Value::as_str), schema.as_object()) {
            (Some("null"), _) => ArgumentNames::Unit,
            (Some("object"), Some(schema)) if is_closed(schema) => {
                let fields = schema.get("properties").and_then(Value::as_object);
                ArgumentNames::Fields(fields.into_iter().flat_map(Map::keys).cloned().collect())
            }
            _ => ArgumentNames::Open,
        }
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &String> {
        let fields = match self {
            ArgumentNames::Fields(fields) => Some(fields),
            ArgumentNames::Unit | ArgumentNames::Open => None,
        };
        fields.into_iter().flatten()
    }

    /// The first of `names` that is no argument, with the names of all arguments.
    pub(crate) fn first_unknown<'n>(&self, names: &'n [String]) -> Option<(&'n str, Vec<&String>)> {
        let fields: Vec<_> = match self {
            ArgumentNames::Open => return None,
            ArgumentNames::Unit | ArgumentNames::Fields(_) => self.fields().collect(),
        };
        let unknown = names.iter().find(|name| !fields.contains(name))?;
        Some((unknown, fields))
    }
}
