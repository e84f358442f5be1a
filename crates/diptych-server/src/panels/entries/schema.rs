//! Schemas of the types behind the entries.

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::door::{code::Code, problem::Problem};

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

/// Refuses JSON with a list at a place where the schema has an object. The types would read the
/// list as the fields in the order of their declaration, and a new field would change the meaning
/// of an old request. JSON that cannot be read is left to the type, which reports line and column.
pub(crate) fn refuse_lists(
    what: &str,
    schema: &Value,
    definitions: &Map<String, Value>,
    json: &[u8],
) -> Result<(), Problem> {
    if !json.contains(&b'[') {
        return Ok(());
    }
    let Ok(value) = serde_json::from_slice::<Value>(json) else { return Ok(()) };
    let Some(place) = Schemas(definitions).misplaced_list(schema, &value) else { return Ok(()) };
    let (field, subject) = match place.trim_start_matches('.') {
        "" => (None, what.to_owned()),
        field => (Some(field), format!("{field:?} of {what}")),
    };
    let detail = format!("{subject} is a list: send an object with the names of its fields");
    let problem = Problem::bad(Code::Malformed, detail);
    Err(field.into_iter().fold(problem, |problem, field| problem.and("field", field)))
}

struct Schemas<'s>(&'s Map<String, Value>);

impl Schemas<'_> {
    /// The place of the first list where the schema has an object.
    fn misplaced_list(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = resolved(schema, Some(self.0));
        let kind = match value {
            Value::Array(_) if self.takes(schema, "array") => "array",
            Value::Array(_) => return self.takes(schema, "object").then(String::new),
            Value::Object(_) => "object",
            _ => return None,
        };
        for word in ["anyOf", "oneOf"] {
            let branches = schema.get(word).and_then(Value::as_array).into_iter().flatten();
            let mut places = branches
                .filter(|branch| self.takes(resolved(branch, Some(self.0)), kind))
                .map(|branch| self.misplaced_list(branch, value));
            // One branch that takes the value is enough.
            if let Some(Some(first)) = places.next()
                && places.all(|place| place.is_some())
            {
                return Some(first);
            }
        }
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        if let Some(place) = all.into_iter().find_map(|part| self.misplaced_list(part, value)) {
            return Some(place);
        }
        match value {
            Value::Array(items) => {
                let first = schema.get("prefixItems").and_then(Value::as_array);
                items.iter().enumerate().find_map(|(at, item)| {
                    let own = first.and_then(|first| first.get(at)).or(schema.get("items"));
                    Some(format!("[{at}]{}", self.misplaced_list(own?, item)?))
                })
            }
            Value::Object(members) => members.iter().find_map(|(name, member)| {
                let own = schema.get("properties").and_then(|all| all.get(name));
                let own = own.or(schema.get("additionalProperties"));
                Some(format!(".{name}{}", self.misplaced_list(own?, member)?))
            }),
            _ => None,
        }
    }

    /// Whether a value of this JSON type can fit the schema.
    fn takes(&self, schema: &Value, kind: &str) -> bool {
        let schema = resolved(schema, Some(self.0));
        let is_named = match schema.get("type") {
            Some(Value::String(name)) => name == kind,
            Some(Value::Array(names)) => names.iter().any(|name| name == kind),
            _ => true,
        };
        let branches = |word| schema.get(word).and_then(Value::as_array);
        let fits = |branch: &Value| self.takes(branch, kind);
        let is_in = |word| branches(word).is_none_or(|branches| branches.iter().any(fits));
        let is_constant = schema.get("const").is_some() || schema.get("enum").is_some();
        is_named && !is_constant && is_in("anyOf") && is_in("oneOf")
    }
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
