//! The shape of payloads: their fields, and the kinds of the values.

use std::collections::{BTreeMap, BTreeSet};

use super::value::Value;

/// Kinds of values by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape(BTreeMap<String, BTreeSet<JsonKind>>);

/// The path of the whole payload.
const ROOT: &str = "$";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum JsonKind {
    Bool,
    Bytes,
    List,
    Null,
    Number,
    Object,
    String,
}

const KINDS: [(JsonKind, &str); 7] = [
    (JsonKind::Bool, "bool"),
    (JsonKind::Bytes, "bytes"),
    (JsonKind::List, "list"),
    (JsonKind::Null, "null"),
    (JsonKind::Number, "number"),
    (JsonKind::Object, "object"),
    (JsonKind::String, "string"),
];

/// How a shape differs from the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Not at all.
    None,
    /// A field that never had a value before has one now.
    Refined,
    /// In any other way.
    Other,
}

impl Shape {
    /// Adds the fields of this payload.
    pub(super) fn add(&mut self, payload: &Value) {
        self.add_at(ROOT, payload);
    }

    fn add_at(&mut self, path: &str, value: &Value) {
        let kind = match value {
            Value::Null => JsonKind::Null,
            Value::Bool(_) => JsonKind::Bool,
            Value::Number(_) => JsonKind::Number,
            Value::Text(_) => JsonKind::String,
            Value::Bytes(_) => JsonKind::Bytes,
            Value::List(_) | Value::Set(_) => JsonKind::List,
            Value::Object(_) => JsonKind::Object,
        };
        self.0.entry(path.to_owned()).or_default().insert(kind);
        match value {
            Value::List(parts) | Value::Set(parts) => {
                let path = format!("{path}[]");
                parts.iter().for_each(|part| self.add_at(&path, part));
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    // Keys of other kinds than text occur only in maps, and share one path.
                    let name = match name {
                        Value::Text(name) => Some(name.as_str()),
                        _ => None,
                    };
                    self.add_at(&field(path, name), value);
                }
            }
            _ => {}
        }
    }

    /// Adds the fields of another shape.
    pub(super) fn merge(&mut self, other: &Shape) {
        for (path, kinds) in &other.0 {
            self.0.entry(path.clone()).or_default().extend(kinds);
        }
    }

    /// One line for each path. The payload itself has a line only if it is not an object, which is
    /// rare.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let told = self.0.iter().filter(|(path, kinds)| *path != ROOT || !is_object(kinds));
        told.map(|(path, kinds)| {
            let names = KINDS.iter().filter(|(kind, _)| kinds.contains(kind));
            let names: Vec<_> = names.map(|(_, name)| *name).collect();
            format!("{path}: {}", names.join("|"))
        })
    }

    /// The shape in these lines.
    ///
    /// # Errors
    /// The first line that cannot be parsed.
    pub(super) fn parse(lines: &[String]) -> Result<Shape, String> {
        let mut shape = Shape::default();
        for line in lines {
            let (path, kinds) = parse_line(line)
                .ok_or_else(|| format!("{line:?} is no line of a shape, like `amount: number`"))?;
            shape.0.insert(path, kinds);
        }
        shape.0.entry(ROOT.to_owned()).or_insert_with(|| BTreeSet::from([JsonKind::Object]));
        Ok(shape)
    }

    /// How `now` differs from this recorded shape.
    pub(super) fn compare(&self, now: &Shape) -> Change {
        let gone = self.0.keys().any(|path| !now.0.contains_key(path));
        let differs =
            |(path, kinds): &(&String, &BTreeSet<JsonKind>)| self.0.get(*path) != Some(kinds);
        let differing: Vec<_> = now.0.iter().filter(differs).map(|(path, _)| path).collect();
        if gone || !differing.iter().all(|path| self.was_unknown(path)) {
            Change::Other
        } else if differing.is_empty() {
            Change::None
        } else {
            Change::Refined
        }
    }

    /// Whether the samples had only `null` at this path or above it, or only empty lists above it.
    fn was_unknown(&self, path: &str) -> bool {
        self.0.iter().any(|(above, kinds)| {
            let Some(rest) = path.strip_prefix(above.as_str()) else { return false };
            let null = kinds.iter().all(|kind| *kind == JsonKind::Null);
            let list = kinds.iter().all(|kind| matches!(kind, JsonKind::Null | JsonKind::List));
            let element = format!("{above}[]");
            match rest.as_bytes().first() {
                // A null payload, such as that of a struct without fields, is a known shape.
                None | Some(b'.') => null && above != ROOT,
                Some(b'[') => {
                    let empty = !self.0.contains_key(&element);
                    null && above != ROOT || list && empty
                }
                Some(_) => false,
            }
        })
    }
}

fn is_object(kinds: &BTreeSet<JsonKind>) -> bool {
    kinds.iter().eq([&JsonKind::Object])
}

fn parse_line(line: &str) -> Option<(String, BTreeSet<JsonKind>)> {
    let (path, names) = line.rsplit_once(": ")?;
    let kind = |name: &str| KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
    let kinds: BTreeSet<JsonKind> = names.split('|').map(kind).collect::<Option<_>>()?;
    Some((path.to_owned(), kinds))
}

/// The path of a field. A name with other characters than those of identifiers is quoted.
fn field(path: &str, name: Option<&str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name = match name {
        None => "*".to_owned(),
        Some(name) if !name.is_empty() && name.chars().all(plain) => name.to_owned(),
        Some(name) => format!("{name:?}"),
    };
    if path == ROOT { name } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Serialize;
    use serde_json::json;

    use super::*;
    use crate::event::{Codec, MessagePack};

    fn shape(payloads: &[serde_json::Value]) -> Shape {
        let mut shape = Shape::default();
        for payload in payloads {
            shape.add(&Value::read("json", payload.to_string().as_bytes()).unwrap());
        }
        shape
    }

    fn lines(shape: &Shape) -> Vec<String> {
        shape.lines().collect()
    }

    #[test]
    fn every_field_has_a_line() {
        let shape = shape(&[
            json!({ "owner": { "name": "ann" }, "lines": [{ "price": 1.5 }], "note": null }),
            json!({ "owner": { "name": "bob" }, "lines": [], "note": "x", "a.b": { "": true } }),
        ]);
        let expected = [
            r#""a.b": object"#,
            r#""a.b"."": bool"#,
            "lines: list",
            "lines[]: object",
            "lines[].price: number",
            "note: null|string",
            "owner: object",
            "owner.name: string",
        ];
        assert_eq!(lines(&shape), expected);
        assert_eq!(Shape::parse(&lines(&shape)), Ok(shape));
    }

    #[test]
    fn a_payload_that_is_no_object_has_a_line_of_its_own() {
        assert_eq!(lines(&shape(&[json!({})])), [""; 0]);
        assert_eq!(lines(&shape(&[json!(null)])), ["$: null"]);
        assert_eq!(lines(&shape(&[json!([[1]])])), ["$: list", "$[]: list", "$[][]: number"]);
        for payload in [json!({}), json!(null), json!([[1]])] {
            let shape = shape(&[payload]);
            assert_eq!(Shape::parse(&lines(&shape)), Ok(shape));
        }
    }

    #[test]
    fn messagepack_shows_what_json_cannot() {
        #[derive(Serialize)]
        struct ManyMaps {
            by_number: HashMap<u8, u64>,
            by_pair: HashMap<(u8, u8), ()>,
            by_name: HashMap<&'static str, f32>,
        }
        let packed = ManyMaps {
            by_number: [(1, 1), (2, u64::MAX)].into(),
            by_pair: [((1, 2), ())].into(),
            by_name: [("x", 1.0)].into(),
        };
        let mut shape = Shape::default();
        let packed = MessagePack::encode(&packed).unwrap();
        shape.add(&Value::read("messagepack", &packed).unwrap());
        let expected = [
            "by_name: object",
            "by_name.x: number",
            "by_number: object",
            "by_number.*: number",
            "by_pair: object",
            "by_pair.*: null",
        ];
        assert_eq!(lines(&shape), expected);
    }

    #[test]
    fn what_never_had_a_value_may_become_known() {
        let of = |old, new| shape(&[old]).compare(&shape(&[new]));
        let refined = [
            (json!({ "a": null }), json!({ "a": "x" })),
            (json!({ "a": null }), json!({ "a": { "b": [{ "c": 1 }] } })),
            (json!({ "a": null }), json!({ "a": [1] })),
            (json!({ "a": [] }), json!({ "a": [{ "b": 1 }] })),
            (json!({ "a": [null] }), json!({ "a": [1] })),
            (json!([]), json!([1])),
        ];
        for (old, new) in refined {
            assert_eq!(of(old.clone(), new.clone()), Change::Refined, "{old} to {new}");
        }
        let changed = [
            (json!({ "a": null }), json!({})),
            (json!({ "a": null }), json!({ "a": null, "ab": 1 })),
            (json!({ "a": null }), json!({ "a": 1, "b": 1 })),
            (json!({ "a": 1 }), json!({ "a": "x" })),
            (json!({ "a": 1 }), json!({ "a": null })),
            (json!({ "a": [] }), json!({ "a": null })),
            (json!({ "a": [] }), json!({ "a": { "b": 1 } })),
            (json!({ "a": [1] }), json!({ "a": ["x"] })),
            (json!({ "a": [1] }), json!({ "a": [] })),
            (json!({ "a": {} }), json!({ "a": { "b": 1 } })),
            (json!({}), json!({ "a": 1 })),
            (json!(null), json!({ "a": 1 })),
            (json!(null), json!([1])),
        ];
        for (old, new) in changed {
            assert_eq!(of(old.clone(), new.clone()), Change::Other, "{old} to {new}");
        }
        assert_eq!(of(json!({ "a": [1, null] }), json!({ "a": [null, 2] })), Change::None);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in ["", "a", "a: ", "a: text", "a: null|", "a:null", "a: null | string"] {
            assert!(Shape::parse(&[line.to_owned()]).is_err(), "{line}");
        }
    }
}
