//! Names for the variants of enums.

use std::mem;

use diptych::catalogue::SCHEMAS;
use serde_json::{Map, Value, json};

/// Moves each variant of an enum that has fields into a schema of its own, named after the enum and
/// the variant. A generator makes a type of each named schema, and numbers those without a name.
pub(super) fn with_named_variants(schemas: &Map<String, Value>) -> Value {
    let mut all = schemas.clone();
    let enums: Vec<String> = all.keys().cloned().collect();
    for name in enums {
        let Some(mut schema) = all.get(&name).cloned() else { continue };
        for word in ["oneOf", "anyOf"] {
            let variants = schema.get_mut(word).and_then(Value::as_array_mut);
            for variant in variants.into_iter().flatten() {
                let Some(tag) = tag(variant) else { continue };
                let own_name = format!("{name}{}", pascal_case(tag));
                if !all.contains_key(&own_name) {
                    let reference = json!({ "$ref": format!("#{SCHEMAS}/{own_name}") });
                    all.insert(own_name, mem::replace(variant, reference));
                }
            }
        }
        all.insert(name, schema);
    }
    Value::Object(all)
}

/// The name of a variant with fields: the constant text of its tag, or its only member.
fn tag(variant: &Value) -> Option<&str> {
    let properties = variant.get("properties").and_then(Value::as_object)?;
    let constant = |value: &'_ Value| value.get("const").is_some_and(Value::is_string);
    let mut tags = properties.values().filter(|value| constant(value));
    match (tags.next(), tags.next()) {
        (Some(tag), None) => tag.get("const").and_then(Value::as_str),
        (None, _) => only_member(properties),
        (Some(_), Some(_)) => None,
    }
}

fn only_member(properties: &Map<String, Value>) -> Option<&str> {
    let mut names = properties.keys();
    names.next().filter(|_| properties.len() == 1).map(String::as_str)
}

fn pascal_case(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let capitalised = words.map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    capitalised.collect()
}
