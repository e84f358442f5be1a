//! Values of indexed fields, in order.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that rows are listed by. In order: no value, `false`, `true`, numbers, texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IndexValue {
    /// No value.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number above all of `Integer`.
    Large(u64),
    /// Any other number.
    Float(f64),
    /// A text. Any value that is none of the others is its JSON.
    Text(String),
}

impl IndexValue {
    /// The value of a field in JSON.
    pub(crate) fn of(value: &Value) -> IndexValue {
        match value {
            Value::Null => IndexValue::Null,
            Value::Bool(value) => IndexValue::Bool(*value),
            Value::String(text) => IndexValue::Text(text.clone()),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), _, _) => IndexValue::Integer(whole),
                (None, Some(large), _) => IndexValue::Large(large),
                (None, None, Some(float)) => IndexValue::Float(float),
                (None, None, None) => IndexValue::Text(number.to_string()),
            },
            other => IndexValue::Text(other.to_string()),
        }
    }

    /// The number, truth value or nothing that this text is in JSON.
    #[cfg_attr(not(feature = "http"), allow(dead_code))]
    pub(crate) fn parsed(text: &str) -> Option<IndexValue> {
        match serde_json::from_str(text) {
            Ok(Value::Array(_) | Value::Object(_) | Value::String(_)) | Err(_) => None,
            Ok(scalar) => Some(IndexValue::of(&scalar)),
        }
    }

    /// The ends of a range in an address: the text itself, and the number or truth value that it
    /// is in JSON.
    #[cfg_attr(not(feature = "http"), allow(dead_code))]
    pub(crate) fn ends(text: &str) -> Vec<IndexValue> {
        let scalar = IndexValue::parsed(text).filter(|scalar| *scalar != IndexValue::Null);
        scalar.into_iter().chain([text.into()]).collect()
    }

    /// The lowest and the highest value of each type, in order. Texts have no highest one.
    pub(crate) fn types() -> [(IndexValue, Option<IndexValue>); 4] {
        [
            (IndexValue::Null, Some(IndexValue::Null)),
            (IndexValue::Bool(false), Some(IndexValue::Bool(true))),
            (IndexValue::Float(f64::NEG_INFINITY), Some(IndexValue::Float(f64::INFINITY))),
            (IndexValue::Text(String::new()), None),
        ]
    }

    /// Whether both are texts, both numbers, and so on.
    pub(crate) fn is_like(&self, other: &IndexValue) -> bool {
        self.rank() == other.rank()
    }

    fn rank(&self) -> u8 {
        match self {
            IndexValue::Null => 0,
            IndexValue::Bool(_) => 1,
            IndexValue::Integer(_) | IndexValue::Large(_) | IndexValue::Float(_) => 2,
            IndexValue::Text(_) => 3,
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            IndexValue::Integer(whole) => Some((*whole).into()),
            IndexValue::Large(whole) => Some((*whole).into()),
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            IndexValue::Float(float) => Some(*float),
            _ => None,
        }
    }
}

/// Exact, also where a float holds no whole number of that size.
fn whole_to_float(whole: i128, float: f64) -> Ordering {
    // A float beyond `i128` becomes its end, which is beyond every whole number of JSON.
    let truncated = float.trunc() as i128;
    whole.cmp(&truncated).then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0)))
}

impl Ord for IndexValue {
    fn cmp(&self, other: &IndexValue) -> Ordering {
        match (self, other) {
            (IndexValue::Bool(one), IndexValue::Bool(two)) => one.cmp(two),
            (IndexValue::Text(one), IndexValue::Text(two)) => one.cmp(two),
            _ => match (self.whole(), self.float(), other.whole(), other.float()) {
                (Some(one), _, Some(two), _) => one.cmp(&two),
                // Both zeros are one number.
                (_, Some(one), _, Some(two)) => (one + 0.0).total_cmp(&(two + 0.0)),
                (Some(one), _, _, Some(two)) => whole_to_float(one, two),
                (_, Some(one), Some(two), _) => whole_to_float(two, one).reverse(),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }
}

impl PartialOrd for IndexValue {
    fn partial_cmp(&self, other: &IndexValue) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for IndexValue {
    fn eq(&self, other: &IndexValue) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for IndexValue {}

impl From<&str> for IndexValue {
    fn from(text: &str) -> IndexValue {
        IndexValue::Text(text.to_owned())
    }
}

impl From<String> for IndexValue {
    fn from(text: String) -> IndexValue {
        IndexValue::Text(text)
    }
}

impl From<bool> for IndexValue {
    fn from(value: bool) -> IndexValue {
        IndexValue::Bool(value)
    }
}

impl From<i64> for IndexValue {
    fn from(whole: i64) -> IndexValue {
        IndexValue::Integer(whole)
    }
}

impl From<i32> for IndexValue {
    fn from(whole: i32) -> IndexValue {
        IndexValue::Integer(whole.into())
    }
}

impl From<u32> for IndexValue {
    fn from(whole: u32) -> IndexValue {
        IndexValue::Integer(whole.into())
    }
}

impl From<u64> for IndexValue {
    fn from(whole: u64) -> IndexValue {
        i64::try_from(whole).map_or(IndexValue::Large(whole), IndexValue::Integer)
    }
}

impl From<f64> for IndexValue {
    fn from(float: f64) -> IndexValue {
        IndexValue::Float(float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_one_order_whatever_their_types() {
        let ordered = [
            IndexValue::Null,
            false.into(),
            true.into(),
            IndexValue::Float(-1e300),
            i64::MIN.into(),
            IndexValue::Float(-0.5),
            0.into(),
            IndexValue::Float(0.5),
            1.into(),
            IndexValue::Float(9_007_199_254_740_992.0),
            9_007_199_254_740_993_i64.into(),
            i64::MAX.into(),
            IndexValue::Float(9_223_372_036_854_775_808.0),
            9_223_372_036_854_775_809_u64.into(),
            u64::MAX.into(),
            IndexValue::Float(1e300),
            "".into(),
            "1".into(),
            "a".into(),
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(one.cmp(other), at.cmp(&other_at), "{one:?} {other:?}");
            }
        }
        assert_eq!(IndexValue::Float(1.0), 1.into());
        assert_eq!(IndexValue::Float(-0.0), 0.into());
        assert_eq!(IndexValue::Float(-0.0), IndexValue::Float(0.0));
    }
}
