//! Reads commands and arguments from text, and names the place of an error.

use std::{error::Error, fmt};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_path_to_error::Track;

/// A command or the arguments of a query cannot be read. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// The problem, for people.
    pub message: String,
    /// The field with the problem, as a path such as `passengers[2].name`; `None` if the problem is
    /// with the whole.
    pub field: Option<String>,
    /// Line and column in a text of JSON, from 1 on.
    pub place: Option<(usize, usize)>,
    /// Whether the field is missing.
    pub is_missing: bool,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for DecodeError {}

/// The beginning of the errors of serde about a field that is missing.
const MISSING: &str = "missing field `";

impl DecodeError {
    fn new(message: String, track: Track, place: Option<(usize, usize)>) -> DecodeError {
        // The path of a missing field ends at the value that lacks it.
        let missing = message.strip_prefix(MISSING).and_then(|rest| rest.split('`').next());
        let field = match (track.path().to_string().as_str(), missing) {
            (".", None) => None,
            (".", Some(missing)) => Some(missing.to_owned()),
            (path, None) => Some(path.to_owned()),
            (path, Some(missing)) => Some(format!("{path}.{missing}")),
        };
        let is_missing = missing.is_some();
        DecodeError { message, field, place, is_missing }
    }
}

/// Reads a value from JSON.
///
/// # Errors
/// [`DecodeError`] if the text is no JSON, or not of this type.
pub fn decode_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut track = Track::new();
    let decoded = T::deserialize(serde_path_to_error::Deserializer::new(&mut reader, &mut track));
    decoded.and_then(|decoded| reader.end().map(|()| decoded)).map_err(|error| {
        DecodeError::new(error.to_string(), track, Some((error.line(), error.column())))
    })
}

/// Reads a value from another format.
///
/// # Errors
/// [`DecodeError`] as of the format.
pub fn decode<'de, T, D>(reader: D) -> Result<T, DecodeError>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut track = Track::new();
    let decoded = T::deserialize(serde_path_to_error::Deserializer::new(reader, &mut track));
    decoded.map_err(|error| DecodeError::new(error.to_string(), track, None))
}

/// Reads a value with a function that knows its type.
///
/// # Errors
/// [`DecodeError`] as of the format.
pub(super) fn decode_erased<'de, T, D>(
    read: fn(&mut dyn erased_serde::Deserializer<'de>) -> Result<T, erased_serde::Error>,
    reader: D,
) -> Result<T, DecodeError>
where
    D: Deserializer<'de>,
{
    let mut track = Track::new();
    let reader = serde_path_to_error::Deserializer::new(reader, &mut track);
    let decoded = read(&mut <dyn erased_serde::Deserializer<'_>>::erase(reader));
    decoded.map_err(|error| DecodeError::new(error.to_string(), track, None))
}
