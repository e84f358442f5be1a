//! Numbers of `serde_json` for formats other than JSON.
//!
//! With the feature `arbitrary_precision`, a `serde_json::Number` serialises as a struct with a
//! private name that holds its text. Any crate of a program can turn the feature on for the whole
//! program. JSON knows the private name. Any other format would permanently store an object where
//! it stores a number without the feature.

use serde::Serialize;
use serde_json::Value;

/// The private name of a number that holds its text.
pub(crate) const NUMBER: &str = "$serde_json::private::Number";
/// The private name of JSON that is kept as text.
pub(crate) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// A JSON number in a form that every format has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Plain {
    /// The number with this text, or `None` if it would lose digits.
    pub(crate) fn of(text: &str) -> Option<Plain> {
        if let Ok(number) = text.parse() {
            return Some(Plain::Unsigned(number));
        }
        match text.parse::<i64>() {
            // A negative zero, which integers do not have.
            Ok(0) => return Some(Plain::Float(-0.0)),
            Ok(number) => return Some(Plain::Signed(number)),
            Err(_) => {}
        }
        let number: f64 = text.parse().ok()?;
        let shortest = format!("{number:e}");
        (number.is_finite() && decimal(text)? == decimal(&shortest)?)
            .then_some(Plain::Float(number))
    }
}

/// Sign, digits without zeros at either end, and the power of ten of the last digit.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let kept = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - kept.len()).ok()?;
    let digits = kept.trim_start_matches('0').to_owned();
    let exponent = if digits.is_empty() { 0 } else { exponent.checked_add(zeros)? };
    Some((negative, digits, exponent))
}

/// The text that a struct with one of the private names holds.
pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_fits_is_plain_and_one_that_would_lose_digits_is_not() {
        let plain = [
            ("0", Plain::Unsigned(0)),
            ("18446744073709551615", Plain::Unsigned(u64::MAX)),
            ("-9223372036854775808", Plain::Signed(i64::MIN)),
            ("1.5", Plain::Float(1.5)),
            ("1.10", Plain::Float(1.1)),
            ("-0.1e-3", Plain::Float(-0.0001)),
            ("100e-2", Plain::Float(1.0)),
            ("0.000", Plain::Float(0.0)),
            ("1E+300", Plain::Float(1e300)),
            ("100000000000000000000", Plain::Float(1e20)),
        ];
        for (text, number) in plain {
            assert_eq!(Plain::of(text), Some(number), "{text}");
        }
        let Some(Plain::Float(zero)) = Plain::of("-0") else { panic!("-0 is a float") };
        assert!(zero == 0.0 && zero.is_sign_negative());
        let lossy = [
            "18446744073709551617",
            "-9223372036854775809",
            "0.1000000000000000055511151231257827",
            "1e400",
            "1e-400",
            "1e99999999999999999999",
        ];
        for text in lossy {
            assert_eq!(Plain::of(text), None, "{text}");
        }
    }
}
