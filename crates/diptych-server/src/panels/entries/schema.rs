//! Schemas of the types behind the entries.

use std::cell::Cell;

use diptych::catalogue::resolved;
use serde_json::{Map, Value};

use crate::door::{code::Code, problem::Problem};

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
    let most_steps = FIRST_STEPS + STEPS_PER_BYTE * json.len();
    let schemas = Schemas { definitions, most_steps, steps: Cell::new(0) };
    let place = schemas.misplaced_list(schema, &value);
    if schemas.steps.get() > most_steps {
        let detail = format!("{what} has too many values inside each other");
        return Err(Problem::bad(Code::Malformed, detail));
    }
    let Some(place) = place else { return Ok(()) };
    let (field, subject) = match place.trim_start_matches('.') {
        "" => (None, what.to_owned()),
        field => (Some(field), format!("{field:?} of {what}")),
    };
    let detail = format!("{subject} is a list: send an object with the names of its fields");
    let problem = Problem::bad(Code::Malformed, detail);
    Err(field.into_iter().fold(problem, |problem, field| problem.and("field", field)))
}

/// Maximum number of comparisons of a value with a schema, for any request and for each of its
/// bytes. Where a type contains itself in several ways, their number could otherwise double with
/// each level of a request.
const FIRST_STEPS: usize = 10_000;
const STEPS_PER_BYTE: usize = 16;

struct Schemas<'s> {
    definitions: &'s Map<String, Value>,
    most_steps: usize,
    steps: Cell<usize>,
}

impl Schemas<'_> {
    /// The place of the first list where the schema has an object. After too many steps it is not
    /// looked for any further.
    fn misplaced_list(&self, schema: &Value, value: &Value) -> Option<String> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > self.most_steps {
            return None;
        }
        let schema = resolved(schema, self.definitions);
        let kind = match value {
            Value::Array(_) if self.takes(schema, "array") => "array",
            Value::Array(_) => return self.takes(schema, "object").then(String::new),
            Value::Object(_) => "object",
            _ => return None,
        };
        for word in ["anyOf", "oneOf"] {
            let branches = schema.get(word).and_then(Value::as_array).into_iter().flatten();
            let mut places = branches
                .filter(|branch| self.takes(branch, kind) && self.has_names(branch, value))
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

    /// Whether the names of an object fit the schema: the required ones, the allowed ones, and the
    /// constants, which tell variants apart.
    fn has_names(&self, schema: &Value, value: &Value) -> bool {
        let schema = resolved(schema, self.definitions);
        let Value::Object(members) = value else { return true };
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut required = required.filter_map(Value::as_str);
        let properties = schema.get("properties").and_then(Value::as_object);
        let property = |name: &String| properties.and_then(|all| all.get(name));
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        let fits = |(name, member): (&String, &Value)| match property(name) {
            Some(property) => property.get("const").is_none_or(|constant| constant == member),
            None => !is_closed,
        };
        required.all(|name| members.contains_key(name)) && members.iter().all(fits)
    }

    /// Whether a value of this JSON type can fit the schema.
    fn takes(&self, schema: &Value, kind: &str) -> bool {
        let schema = resolved(schema, self.definitions);
        if *schema == Value::Bool(false) {
            return false;
        }
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
        let schema = resolved(schema, definitions);
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

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, generate::SchemaSettings};
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn checked<T: JsonSchema>(value: &Value) -> Result<(), Problem> {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let schema: Value = generator.subschema_for::<T>().into();
        let definitions = generator.take_definitions(true);
        refuse_lists("the command", &schema, &definitions, value.to_string().as_bytes())
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is used")]
    enum Change {
        Take { seat: String, by: String },
        Leave { seat: String },
        All(Vec<Change>),
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "kind", deny_unknown_fields)]
    #[expect(dead_code, reason = "only the schema is used")]
    enum Tagged {
        Take { seat: Place },
        Leave { seats: Vec<Place> },
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is used")]
    struct Place {
        row: String,
    }

    #[test]
    fn a_list_in_place_of_the_fields_of_a_variant_is_refused() {
        for wrong in [
            json!({ "Take": ["a1", "ada"] }),
            json!({ "Leave": ["a1"] }),
            json!({ "All": [{ "Leave": ["a1"] }] }),
        ] {
            checked::<Change>(&wrong).unwrap_err();
        }
        for right in [
            json!({ "Take": { "seat": "a1", "by": "ada" } }),
            json!({ "All": [{ "Leave": { "seat": "a1" } }, { "All": [] }] }),
        ] {
            checked::<Change>(&right).unwrap();
        }
        checked::<Tagged>(&json!({ "kind": "Take", "seat": ["a"] })).unwrap_err();
        checked::<Tagged>(&json!({ "kind": "Leave", "seats": [["a"]] })).unwrap_err();
        checked::<Tagged>(&json!({ "kind": "Leave", "seats": [{ "row": "a" }] })).unwrap();
        // The type itself reports that.
        checked::<Tagged>(&json!({ "kind": "Take" })).unwrap();
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "is", content = "of")]
    #[expect(dead_code, reason = "only the schema is used")]
    enum Rule {
        All(Vec<Rule>),
        Any(Vec<Rule>),
        One(Place),
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only the schema is used")]
    enum Either {
        One { first: Box<Either> },
        Other { first: Box<Either>, second: Option<u8> },
        End { row: Vec<Place> },
    }

    /// The number of comparisons must not double with each level.
    #[test]
    fn a_deep_request_ends() {
        let deep = |level: &dyn Fn(Value) -> Value, mut value: Value| {
            for _ in 0..60 {
                value = level(value);
            }
            value
        };
        let rule = |inner| json!({ "is": "All", "of": [inner] });
        checked::<Rule>(&deep(&rule, json!({ "is": "One", "of": ["a"] }))).unwrap_err();
        checked::<Rule>(&deep(&rule, json!({ "is": "One", "of": { "row": "a" } }))).unwrap();
        let either = |inner| json!({ "first": inner });
        let refused = checked::<Either>(&deep(&either, json!({ "row": [["a"]] }))).unwrap_err();
        assert!(format!("{refused:?}").contains("too many values"), "{refused:?}");
    }
}
