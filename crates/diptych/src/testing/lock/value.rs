//! Payloads as values of their format, and the differences of two.
//!
//! Numbers keep their text, because a float of another width, or a float in place of an integer,
//! can lose digits. So JSON is read as text, whatever features `serde_json` has.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess},
};
use serde_json::value::RawValue;

use crate::{
    event::{Codec, Json, MessagePack, packed_end},
    faithful::MARK,
};

/// A value as its format tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// The text of a number.
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// The parts of a hash set, if the writer marked it.
    Set(Vec<Value>),
    Object(Vec<(Value, Value)>),
}

impl Value {
    /// Whether the payloads of this codec can be read.
    pub(super) fn is_known(codec: &str) -> bool {
        codec == Json::NAME || codec == MessagePack::NAME
    }

    /// The value in this payload.
    ///
    /// # Errors
    /// If it is not of this codec.
    pub(super) fn read(codec: &str, payload: &[u8]) -> Result<Value, String> {
        if codec != MessagePack::NAME {
            let text: &RawValue = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
            return json(text.get()).map_err(|error| error.to_string());
        }
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
        let PackedValue(value) =
            PackedValue::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        packed_end(&mut deserializer)?;
        Ok(value)
    }

    /// The value with all of its lists as sets.
    pub(super) fn without_order(self) -> Value {
        let each = |parts: Vec<Value>| parts.into_iter().map(Value::without_order).collect();
        match self {
            Value::List(parts) | Value::Set(parts) => Value::Set(each(parts)),
            Value::Object(fields) => {
                let field = |(name, value): (Value, Value)| (name, value.without_order());
                Value::Object(fields.into_iter().map(field).collect())
            }
            other => other,
        }
    }

    /// The parts of a list, or of a set if the first part is its mark.
    fn list(mut parts: Vec<Value>) -> Value {
        if parts.first().is_some_and(|first| matches!(first, Value::Text(text) if text == MARK)) {
            parts.remove(0);
            return Value::Set(parts);
        }
        Value::List(parts)
    }
}

fn json(text: &str) -> Result<Value, serde_json::Error> {
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let JsonFields(fields) = serde_json::from_str(text)?;
            let field = |(name, of): (String, &RawValue)| Ok((Value::Text(name), json(of.get())?));
            Value::Object(fields.into_iter().map(field).collect::<Result<_, serde_json::Error>>()?)
        }
        Some(b'[') => {
            let parts: Vec<&RawValue> = serde_json::from_str(text)?;
            let parts = parts.into_iter().map(|part| json(part.get()));
            Value::list(parts.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(text)?),
        Some(b't' | b'f') => Value::Bool(serde_json::from_str(text)?),
        Some(b'n') => Value::Null,
        _ => Value::Number(text.to_owned()),
    })
}

/// The fields of an object, in order.
struct JsonFields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for JsonFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedFields;

        impl<'de> de::Visitor<'de> for OrderedFields {
            type Value = JsonFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = entries.next_entry()? {
                    fields.push(field);
                }
                Ok(JsonFields(fields))
            }
        }

        deserializer.deserialize_map(OrderedFields)
    }
}

/// A value of MessagePack.
struct PackedValue(Value);

impl<'de> Deserialize<'de> for PackedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PackedVisitor).map(PackedValue)
    }
}

struct PackedVisitor;

/// Values without parts.
macro_rules! plain {
    ($($visit:ident($of:ty) $value:ident => $into:expr;)*) => {$(
        fn $visit<E: de::Error>(self, $value: $of) -> Result<Value, E> {
            Ok($into)
        }
    )*};
}

impl<'de> de::Visitor<'de> for PackedVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    plain! {
        visit_bool(bool) value => Value::Bool(value);
        visit_i64(i64) value => Value::Number(value.to_string());
        visit_i128(i128) value => Value::Number(value.to_string());
        visit_u64(u64) value => Value::Number(value.to_string());
        visit_u128(u128) value => Value::Number(value.to_string());
        visit_f32(f32) value => Value::Number(format!("{value:?} (f32)"));
        visit_f64(f64) value => Value::Number(format!("{value:?}"));
        visit_str(&str) value => Value::Text(value.to_owned());
        visit_bytes(&[u8]) value => Value::Bytes(value.to_owned());
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<Value, D::Error> {
        of.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut parts = Vec::new();
        while let Some(PackedValue(part)) = elements.next_element()? {
            parts.push(part);
        }
        Ok(Value::list(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((PackedValue(key), PackedValue(value))) = entries.next_entry()? {
            fields.push((key, value));
        }
        Ok(Value::Object(fields))
    }
}

/// A place where a recorded value and the value that is written today differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValueDifference {
    path: String,
    recorded: String,
    /// None if nothing is written there.
    now: Option<String>,
}

impl ValueDifference {
    /// Whether the value is not written at all.
    pub(super) fn is_gone(&self) -> bool {
        self.now.is_none()
    }
}

impl fmt::Display for ValueDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ValueDifference { path, recorded, now } = self;
        let path = if path.is_empty() { "the whole" } else { path };
        match now {
            Some(now) => write!(f, "{path}: {recorded} was recorded, and is read as {now}"),
            None => write!(f, "{path}: {recorded} was recorded, and is lost"),
        }
    }
}

/// The differences between a recorded value and its form of today. A field that was not
/// recorded makes none: the shapes tell it. The order of a [`Value::Set`] makes none.
pub(super) fn differences(recorded: &Value, now: &Value) -> Vec<ValueDifference> {
    let mut found = Vec::new();
    compare("", recorded, now, &mut found);
    found
}

fn compare(path: &str, recorded: &Value, now: &Value, found: &mut Vec<ValueDifference>) {
    match (recorded, now) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, value) in fields {
                let path = below(path, name);
                match others.iter().find(|(other, _)| other == name) {
                    Some((_, now)) => compare(&path, value, now, found),
                    None => {
                        let recorded = value.to_string();
                        found.push(ValueDifference { path, recorded, now: None });
                    }
                }
            }
        }
        (Value::List(parts), Value::List(others)) if parts.len() == others.len() => {
            for (at, (part, other)) in parts.iter().zip(others).enumerate() {
                compare(&format!("{path}[{at}]"), part, other, found);
            }
        }
        _ if are_equal(recorded, now) => {}
        _ => {
            let (recorded, now) = (recorded.to_string(), Some(now.to_string()));
            found.push(ValueDifference { path: path.to_owned(), recorded, now });
        }
    }
}

fn below(path: &str, name: &Value) -> String {
    let name = match name {
        Value::Text(name) => name.clone(),
        other => other.to_string(),
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn are_equal(recorded: &Value, now: &Value) -> bool {
    match (recorded, now) {
        (Value::Number(recorded), Value::Number(now)) => {
            recorded == now || one_float(recorded, now)
        }
        (Value::List(parts) | Value::Set(parts), Value::Set(others)) => {
            let mut left: Vec<_> = others.iter().collect();
            let takes = |part: &Value| {
                let at = left.iter().position(|other| differences(part, other).is_empty());
                at.map(|at| left.swap_remove(at)).is_some()
            };
            parts.len() == others.len() && parts.iter().all(takes)
        }
        _ => recorded == now,
    }
}

/// Whether both are texts of one float: `1e20` and `100000000000000000000.0`.
fn one_float(one: &str, other: &str) -> bool {
    let float = |text: &str| {
        let is_float = text.contains(['.', 'e', 'E']);
        is_float.then(|| text.parse::<f64>().ok()).flatten().map(f64::to_bits)
    };
    matches!((float(one), float(other)), (Some(one), Some(other)) if one == other)
}

/// A long value is cut off.
const SHOWN_CHARS: usize = 120;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        show(self, &mut text);
        match text.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => write!(f, "{}...", text.get(..end).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}

fn show(value: &Value, text: &mut String) {
    let list = |parts: &[Value], text: &mut String| {
        for (at, part) in parts.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            show(part, text);
        }
    };
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(&value.to_string()),
        Value::Number(number) => text.push_str(number),
        Value::Text(value) => text.push_str(&format!("{value:?}")),
        Value::Bytes(bytes) => text.push_str(&format!("bytes {bytes:?}")),
        Value::List(parts) => {
            text.push('[');
            list(parts, text);
            text.push(']');
        }
        Value::Set(parts) => {
            text.push_str("the set [");
            list(parts, text);
            text.push(']');
        }
        Value::Object(fields) => {
            text.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                show(name, text);
                text.push(':');
                show(value, text);
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(recorded: &str, now: &str) -> Vec<String> {
        let read = |text: &str| Value::read("json", text.as_bytes()).unwrap();
        differences(&read(recorded), &read(now)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_values_have_no_difference() {
        let marked = format!("{{\"a\":[{MARK:?},2,3,1]}}").replace("\\0", "\\u0000");
        let equal = [
            (r#"{"a":1,"b":[1,2]}"#, r#"{ "b":[1, 2],"a":1 }"#),
            (r#"{"a":1}"#, r#"{"a":1,"more":2}"#),
            (r#"{"a":1e20}"#, r#"{"a":100000000000000000000.0}"#),
            (r#"{"a":[1,2,3]}"#, &marked),
            ("18446744073709551617", "18446744073709551617"),
        ];
        for (recorded, now) in equal {
            assert_eq!(told(recorded, now), [""; 0], "{recorded} {now}");
        }
    }

    #[test]
    fn a_difference_is_told_with_its_place() {
        let differ = [
            (
                "9007199254740993",
                "9007199254740992.0",
                "the whole: 9007199254740993 was recorded, and is read as 9007199254740992.0",
            ),
            ("18446744073709551617", "18446744073709551616", "the whole: "),
            (r#"{"a":{"b":[1,2]}}"#, r#"{"a":{"b":[1,3]}}"#, "a.b[1]: 2 was recorded"),
            (r#"{"a":[3,1,3]}"#, r#"{"a":[1,3]}"#, "a: [3,1,3] was recorded, and is read as [1,3]"),
            (r#"{"a":[3,1]}"#, r#"{"a":[1,3]}"#, "a[0]: 3 was recorded"),
            (r#"{"a":null}"#, "{}", "a: null was recorded, and is lost"),
            (r#"{"a":"x"}"#, r#"{"a":"X"}"#, "a: \"x\" was recorded, and is read as \"X\""),
            ("1", "1.0", "the whole: 1 was recorded, and is read as 1.0"),
        ];
        for (recorded, now, expected) in differ {
            let told = told(recorded, now).join("\n");
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
