//! The form that the values of a type have in a row.

use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

use super::array;
use crate::import::source::{Cell, Form};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Truth,
    Whole,
    Real,
    Text,
    /// A timestamp with or without a zone.
    Timestamp,
    Json,
    Bytes,
    List(Box<Shape>),
    /// No value of this type can be read.
    Unreadable(String),
}

impl Shape {
    pub(super) fn of(of: &Type) -> Shape {
        match *of {
            Type::BOOL => Shape::Truth,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Shape::Whole,
            Type::FLOAT4 | Type::FLOAT8 => Shape::Real,
            Type::NUMERIC
            | Type::TEXT
            | Type::VARCHAR
            | Type::BPCHAR
            | Type::CHAR
            | Type::NAME
            | Type::UUID
            | Type::DATE
            | Type::TIME
            | Type::TIMETZ
            | Type::INTERVAL
            | Type::INET
            | Type::CIDR
            | Type::MACADDR
            | Type::MACADDR8
            | Type::BIT
            | Type::VARBIT
            | Type::XML => Shape::Text,
            Type::TIMESTAMP | Type::TIMESTAMPTZ => Shape::Timestamp,
            Type::JSON | Type::JSONB => Shape::Json,
            Type::BYTEA => Shape::Bytes,
            _ => Shape::of_kind(of),
        }
    }

    fn of_kind(of: &Type) -> Shape {
        match of.kind() {
            Kind::Enum(_) => Shape::Text,
            Kind::Domain(base) => Shape::of(base),
            Kind::Array(element) => match Shape::of(element) {
                Shape::Unreadable(_) => Shape::Unreadable(format!("{}[]", element.name())),
                shape => Shape::List(Box::new(shape)),
            },
            // A text without upper and lower case, from an extension.
            Kind::Simple if of.name() == "citext" => Shape::Text,
            _ => Shape::Unreadable(of.name().to_owned()),
        }
    }

    /// The cell of a field in the text format of `COPY`.
    ///
    /// # Errors
    /// The reason for which no field can be like this.
    pub(super) fn cell(&self, field: &[u8]) -> Result<Cell, &'static str> {
        match (self, field) {
            (_, b"\\N") => Ok(Cell::Null),
            (Shape::Unreadable(_), _) => Ok(Cell::Absent),
            _ => {
                let text = String::from_utf8(unescaped(field));
                Ok(self.value(&text.map_err(|_| "has text that is no UTF-8")?))
            }
        }
    }

    /// The cell of a value in the text format of its type.
    pub(super) fn value(&self, text: &str) -> Cell {
        let known = match self {
            Shape::Truth => Some(Cell::Json(Value::Bool(text == "t"))),
            Shape::Whole => text.parse().ok().map(Cell::Integer),
            Shape::Real => {
                let real = text.parse().ok().filter(|real: &f64| real.is_finite());
                real.map(Cell::Real)
            }
            Shape::Text => Some(Cell::Text(text.to_owned())),
            Shape::Timestamp => Some(Cell::Text(timestamp(text))),
            Shape::Json => Some(json(text).map_or_else(Cell::Unfit, Cell::Json)),
            Shape::Bytes => bytes(text).map(Cell::Blob),
            Shape::List(element) => {
                let of = |text: &str| {
                    let cell = element.value(text);
                    cell.json(Form::Own).ok_or_else(|| cell.problem())
                };
                Some(array::list(text, &of).map_or_else(Cell::Unfit, Cell::Json))
            }
            Shape::Unreadable(_) => None,
        };
        known.unwrap_or_else(|| {
            Cell::Unfit(format!("{text} has no form in JSON: change it, or cast it in a select"))
        })
    }
}

/// The bytes of a field without the escapes of `COPY`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 0x0b,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    plain
}

/// The timestamp as RFC 3339 and ISO 8601 have it. One before our era, or without end, stays as the
/// server writes it.
fn timestamp(text: &str) -> String {
    let (instant, zone) = match text.strip_suffix("+00") {
        Some(instant) => (instant, "Z"),
        None => (text, ""),
    };
    match instant.split_once(' ') {
        Some((date, time)) if !time.contains(' ') => format!("{date}T{time}{zone}"),
        _ => text.to_owned(),
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The value, unless a number in it would change.
fn json(text: &str) -> Result<Value, String> {
    let value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    let (mut rest, mut is_text) = (text, false);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\\' if is_text => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            '"' => {
                is_text = !is_text;
                1
            }
            '-' | '0'..='9' if !is_text => {
                let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let (number, _) = rest.split_at(end);
                if !is_exact(number) {
                    return Err(format!(
                        "{number} is no number that readers of JSON keep: make it a text, or cast \
                         the column in a select"
                    ));
                }
                end
            }
            other => other.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(value)
}

/// Whether a number in JSON is read as the same number.
fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    let float = number.parse::<f64>().ok().filter(|float| float.is_finite());
    let printed = float.and_then(|float| serde_json::to_string(&float).ok());
    printed.is_some_and(|printed| decimal(&printed) == decimal(number))
}

/// The digits of a decimal without zeros around them, and the power of ten of the last one.
fn decimal(number: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let digits = mantissa.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    let power = exponent.parse::<i64>().unwrap_or(i64::MAX / 2) - fraction.len() as i64
        + (all.len() - significant.len()) as i64;
    match significant.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        digits => (number.starts_with('-'), digits.to_owned(), power),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_of_json_is_refused_if_it_would_be_another_one() {
        for kept in ["1", "-0", "1.50", "1e3", "0.1", "18446744073709551615", "-1.5E-7", "1e300"] {
            assert!(json(kept).is_ok(), "{kept}");
        }
        let text = r#"{"a\"1e999": [1, "12345678901234567890123", -2.5e0, {"b": true}]}"#;
        assert!(json(text).is_ok());
        for lost in ["0.1234567890123456789", "18446744073709551617", "[1e400]"] {
            assert!(json(lost).is_err(), "{lost}");
        }
        let lost = json(r#"{"a": [1, 3.14159265358979323846]}"#).unwrap_err();
        assert!(lost.starts_with("3.14159265358979323846 is no number"), "{lost}");
    }

    #[test]
    fn fields_lose_their_escapes() {
        let cell = Shape::Text.cell(br"a\tb\\\n\r\v\f\bc").unwrap();
        assert_eq!(cell, Cell::Text("a\tb\\\n\r\u{b}\u{c}\u{8}c".to_owned()));
        assert_eq!(Shape::Text.cell(br"\N").unwrap(), Cell::Null);
        assert_eq!(Shape::Text.cell(br"\\N").unwrap(), Cell::Text("\\N".to_owned()));
        assert!(Shape::Text.cell(b"\xff").is_err());
    }

    #[test]
    fn timestamps_are_those_of_rfc_3339() {
        assert_eq!(timestamp("2024-02-29 23:59:59.5+00"), "2024-02-29T23:59:59.5Z");
        assert_eq!(timestamp("2024-02-29 23:59:59"), "2024-02-29T23:59:59");
        for own in ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC"] {
            assert_eq!(timestamp(own), own);
        }
    }

    #[test]
    fn arrays_are_lists_of_their_elements() {
        let whole = Shape::List(Box::new(Shape::Whole));
        assert_eq!(whole.value("{{1,NULL},{3,4}}"), Cell::Json(json!([[1, null], [3, 4]])));
        let text = Shape::List(Box::new(Shape::Text));
        let value = text.value(r#"{NULL,"NULL","a,\"b\\}",""}"#);
        assert_eq!(value, Cell::Json(json!([null, "NULL", "a,\"b\\}", ""])));
        assert!(matches!(whole.value("[0:1]={1,2}"), Cell::Unfit(_)));
        let real = Shape::List(Box::new(Shape::Real));
        assert!(matches!(real.value("{1,NaN}"), Cell::Unfit(reason) if reason.contains("NaN")));
    }
}
