//! One event as one line of JSON, as `append` reads it and `read` prints it.
//!
//! The subtle point: payloads pass through unchanged. A payload that is JSON on one line appears
//! under `data`, and is stored byte by byte as it was given. Any other payload is written as
//! base64. So a log that is printed and appended to another log keeps its payloads exactly. The
//! other log records times of its own, so the recorded time becomes the time of the event, if it
//! has none.
//!
//! An older log may hold an event that occurred outside of the calendar, which no log accepts any
//! more. It is printed as a number of microseconds. When that line is appended, the event gets the
//! first or the last instant of the calendar, and the number is kept in its metadata.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Display,
    io::{self, Write},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use diptych_store::{
    EventRef, Limits, Metadata, RawEvent, Tag, TagError, Timestamp, TimestampError,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::IgnoredAny,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

/// An upper bound for the length of a line with an event within these limits. Base64 makes a
/// payload a third larger, and an escaped character of a name takes at most six bytes.
pub(crate) fn line_bytes(limits: &Limits) -> usize {
    let names = limits.type_bytes + limits.tags_per_event * limits.tag_bytes;
    2 * limits.event_bytes + 6 * (names + limits.metadata_bytes) + (4 << 10)
}

/// The reason why a line is not an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("{problem} (column {column})")]
    Json { column: usize, problem: String },
    #[error("an event is a JSON object, such as {{\"type\": \"paid\", \"data\": null}}")]
    NotAnObject,
    #[error("the data is missing: give \"data\" with any JSON, such as null")]
    NoData,
    #[error("give either data or data_base64, not both")]
    DataTwice,
    #[error("data_base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("tags: {0}")]
    Tag(#[from] TagError),
    #[error("{field}: {reason}")]
    Time { field: &'static str, reason: TimestampError },
    #[error("{field}: {text:?} is not a UUID: {reason}")]
    Uuid { field: &'static str, text: String, reason: uuid::Error },
    #[error("metadata: {name:?} is not a text: metadata holds texts by name")]
    MetadataNotText { name: String },
}

impl From<serde_json::Error> for LineError {
    fn from(error: serde_json::Error) -> LineError {
        let text = error.to_string();
        // Serde counts lines within the text, which is one line here. The caller knows the real
        // number.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let problem = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        LineError::Json { column: error.column(), problem }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
    version: Option<u32>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    occurred_at: Option<Cow<'a, str>>,
    metadata: Option<BTreeMap<String, Value>>,
    #[serde(default, rename = "position")]
    _position: IgnoredAny,
    #[serde(borrow)]
    recorded_at: Option<Cow<'a, str>>,
}

/// The name in metadata of the time when the log that a line comes from recorded the event.
const RECORDED_AT: &str = "recorded_at";

/// The name in metadata of a time outside of the calendar.
const OCCURRED_AT: &str = "occurred_at";

/// How the recorded time of a line is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecordedTime {
    /// As the time of an event that has none.
    #[default]
    AsOccurred,
    /// Also in the metadata of each event, unless that has an earlier log's time.
    InMetadata,
}

/// Reads a field that is present as `Some`, even if it is `null`, because `null` is valid data.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Parses the event on this line.
pub(crate) fn parse(line: &[u8], recorded: RecordedTime) -> Result<RawEvent, LineError> {
    // Serde would also accept an array of the fields in order.
    if line.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(LineError::NotAnObject);
    }
    let line: Line<'_> = serde_json::from_slice(line)?;
    let payload = match (line.data, line.data_base64) {
        (Some(data), None) => data.get().as_bytes().to_vec(),
        (None, Some(text)) => BASE64_STANDARD.decode(text.as_bytes())?,
        (None, None) => return Err(LineError::NoData),
        (Some(_), Some(_)) => return Err(LineError::DataTwice),
    };
    let mut metadata = metadata(line.metadata.unwrap_or_default())?;
    let recorded_at = line.recorded_at.map(|text| time("recorded_at", &text)).transpose()?;
    let occurred_at = line.occurred_at.map(|text| time("occurred_at", &text)).transpose()?;
    metadata.occurred_at = occurred_at.or(recorded_at);
    if let Some(at) = metadata.occurred_at.filter(|at| !at.has_text()) {
        metadata.occurred_at = Some(at.clamp(Timestamp::MIN, Timestamp::MAX));
        let kept = metadata.extra.entry(OCCURRED_AT.into());
        kept.or_insert_with(|| at.to_string().into());
    }
    if let Some(at) = recorded_at.filter(|_| recorded == RecordedTime::InMetadata) {
        let kept = metadata.extra.entry(RECORDED_AT.into());
        kept.or_insert_with(|| at.to_string().into());
    }
    let tags: Result<Vec<Tag>, TagError> = line.tags.iter().map(|tag| Tag::parse(tag)).collect();
    Ok(RawEvent {
        event_type: Cow::Owned(line.event_type.into_owned()),
        version: line.version.unwrap_or(1),
        tags: tags?,
        payload,
        id: line.id.map(|text| uuid("id", &text)).transpose()?,
        metadata,
    })
}

fn metadata(values: BTreeMap<String, Value>) -> Result<Metadata, LineError> {
    let mut metadata = Metadata::default();
    for (name, value) in values {
        let Value::String(text) = value else {
            return Err(LineError::MetadataNotText { name });
        };
        match name.as_str() {
            "correlation" => metadata.correlation = Some(uuid("metadata.correlation", &text)?),
            "causation" => metadata.causation = Some(uuid("metadata.causation", &text)?),
            "actor" => metadata.actor = Some(text.into()),
            _ => drop(metadata.extra.insert(name.into(), text.into())),
        }
    }
    Ok(metadata)
}

fn time(field: &'static str, text: &str) -> Result<Timestamp, LineError> {
    text.parse().map_err(|reason| LineError::Time { field, reason })
}

fn uuid(field: &'static str, text: &str) -> Result<Uuid, LineError> {
    let parsed = Uuid::parse_str(text);
    parsed.map_err(|reason| LineError::Uuid { field, text: text.to_owned(), reason })
}

/// Writes the event as one line.
pub(crate) fn write(event: &EventRef<'_>, out: &mut impl Write) -> io::Result<()> {
    write_json(&EventOutput::new(event), out)
}

/// Writes any value as one line of JSON.
pub(crate) fn write_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct EventOutput<'a> {
    position: u64,
    #[serde(serialize_with = "as_text")]
    recorded_at: Timestamp,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "is_first")]
    version: u32,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    tags: Tags<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_any")]
    id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_any")]
    occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "MetadataOutput::is_empty")]
    metadata: MetadataOutput,
}

impl<'a> EventOutput<'a> {
    fn new(event: &EventRef<'a>) -> EventOutput<'a> {
        let data = one_line_of_json(event.payload());
        let metadata = event.metadata();
        EventOutput {
            position: event.position().get(),
            recorded_at: event.recorded_at(),
            event_type: event.event_type(),
            version: event.version(),
            tags: Tags(*event),
            data,
            data_base64: data.is_none().then(|| BASE64_STANDARD.encode(event.payload())),
            id: event.id(),
            occurred_at: metadata.occurred_at,
            metadata: MetadataOutput(metadata),
        }
    }
}

/// The payload, if printing it under `data` and parsing the line yields identical bytes.
fn one_line_of_json(payload: &[u8]) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_slice(payload).ok()?;
    // Space around the JSON would be lost, and a line break inside would end the line.
    let same = raw.get().len() == payload.len();
    (same && !payload.contains(&b'\n')).then_some(raw)
}

fn is_first(version: &u32) -> bool {
    *version == 1
}

fn as_text<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn as_text_if_any<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

struct Tags<'a>(EventRef<'a>);

impl Tags<'_> {
    fn is_empty(&self) -> bool {
        self.0.tags().next().is_none()
    }
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(None)?;
        for tag in self.0.tags() {
            list.serialize_element(tag)?;
        }
        list.end()
    }
}

/// Metadata without `occurred_at`, which is a field of the line itself.
struct MetadataOutput(Metadata);

impl MetadataOutput {
    fn is_empty(&self) -> bool {
        let Metadata { occurred_at: _, correlation, causation, actor, extra } = &self.0;
        correlation.is_none() && causation.is_none() && actor.is_none() && extra.is_empty()
    }
}

impl Serialize for MetadataOutput {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        if let Some(id) = self.0.correlation {
            map.serialize_entry("correlation", &id.to_string())?;
        }
        if let Some(id) = self.0.causation {
            map.serialize_entry("causation", &id.to_string())?;
        }
        if let Some(actor) = &self.0.actor {
            map.serialize_entry("actor", actor.as_str())?;
        }
        for (name, value) in &self.0.extra {
            map.serialize_entry(name.as_str(), value.as_str())?;
        }
        map.end()
    }
}

// The path holds for the crate of fuzz targets, too, which compiles this file.
#[cfg(test)]
#[path = "ndjson/tests.rs"]
mod tests;
