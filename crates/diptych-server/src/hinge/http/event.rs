//! One event as JSON: the form of the lines that `diptych read` prints and `diptych append` takes.
//!
//! A payload that is JSON on one line stands under `data`, byte by byte. Any other payload stands
//! under `data_base64`.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, prelude::BASE64_STANDARD};
use diptych::store::{EventRef, Metadata, RawEvent, Tag, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::door::{code::Code, problem::Problem};

/// An event of the log.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EventAnswer<'a> {
    /// The place of the event in the log.
    position: u64,
    /// The instant at which the log recorded the event.
    recorded_at: String,
    /// The name of the type.
    #[serde(rename = "type")]
    event_type: &'a str,
    /// The version of the type's schema; 1 if it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// The things that the event is about, each as `key:value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<&'a str>>,
    /// The payload, if it is JSON on one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    data: Option<&'a RawValue>,
    /// Any other payload in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// The id that its writer gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The instant at which the event happened, if its writer gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
    /// `correlation`, `causation`, `actor`, and names of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<BTreeMap<String, String>>,
}

impl<'a> EventAnswer<'a> {
    pub(crate) fn new(event: &EventRef<'a>) -> EventAnswer<'a> {
        let data = one_line_of_json(event.payload());
        let Metadata { occurred_at, correlation, causation, actor, extra } = event.metadata();
        let extra = extra.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut metadata: BTreeMap<String, String> = extra.collect();
        let named = [
            ("correlation", correlation.map(|id| id.to_string())),
            ("causation", causation.map(|id| id.to_string())),
            ("actor", actor.map(String::from)),
        ];
        for (name, value) in named {
            metadata.extend(value.map(|value| (name.to_owned(), value)));
        }
        EventAnswer {
            position: event.position().get(),
            recorded_at: event.recorded_at().to_string(),
            event_type: event.event_type(),
            version: Some(event.version()).filter(|version| *version != 1),
            tags: Some(event.tags().collect()).filter(|tags: &Vec<&str>| !tags.is_empty()),
            data,
            data_base64: data.is_none().then(|| BASE64_STANDARD.encode(event.payload())),
            id: event.id().map(|id| id.to_string()),
            occurred_at: occurred_at.map(|at| at.to_string()),
            metadata: Some(metadata).filter(|metadata| !metadata.is_empty()),
        }
    }
}

/// The payload, if it reads back with identical bytes from one line.
fn one_line_of_json(payload: &[u8]) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_slice(payload).ok()?;
    // Space around the JSON would be lost, and a line break inside would end the line.
    let is_same = raw.get().len() == payload.len();
    (is_same && !payload.contains(&b'\n')).then_some(raw)
}

/// An event to append.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEvent {
    /// The name of the type.
    #[serde(rename = "type")]
    event_type: String,
    /// The things that the event is about, each as `key:value`.
    #[serde(default)]
    tags: Vec<String>,
    /// The payload: any JSON, which is stored byte by byte. Give this or `data_base64`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<serde_json::Value>")]
    data: Option<Box<RawValue>>,
    /// A payload of any bytes, in base64.
    data_base64: Option<String>,
    /// The version of the type's schema; 1 if it is missing.
    version: Option<u32>,
    /// An id of your own, as a UUID.
    #[schemars(with = "Option<String>")]
    id: Option<Uuid>,
    /// The instant at which the event happened, such as `2013-01-01T10:15:00Z`.
    occurred_at: Option<String>,
    /// `correlation` and `causation` (UUIDs), `actor`, and names of your own.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// Reads a field that is present as `Some`, also if it is `null`, because `null` is valid data.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    <Box<RawValue>>::deserialize(from).map(Some)
}

impl NewEvent {
    /// The event at this index of the request.
    pub(crate) fn into_raw(self, index: usize) -> Result<RawEvent, Problem> {
        let wrong = |field: &str, reason: String| {
            let field = format!("events[{index}].{field}");
            let detail = format!("{field}: {reason}");
            Problem::bad(Code::Malformed, detail).and("field", field)
        };
        let payload = match (self.data, self.data_base64) {
            (Some(data), None) => data.get().as_bytes().to_vec(),
            (None, Some(text)) => BASE64_STANDARD
                .decode(text)
                .map_err(|error| wrong("data_base64", error.to_string()))?,
            (None, None) => {
                let reason = "it is missing: give any JSON, such as null".to_owned();
                return Err(wrong("data", reason));
            }
            (Some(_), Some(_)) => {
                return Err(wrong("data", "give data or data_base64, not both".to_owned()));
            }
        };
        let tag = |(at, text): (usize, &String)| {
            Tag::parse(text).map_err(|error| wrong(&format!("tags[{at}]"), error.to_string()))
        };
        let tags = self.tags.iter().enumerate().map(tag).collect::<Result<Vec<_>, _>>()?;
        let mut metadata = Metadata::default();
        if let Some(text) = self.occurred_at {
            let at = text.parse::<Timestamp>();
            metadata.occurred_at =
                Some(at.map_err(|error| wrong("occurred_at", error.to_string()))?);
        }
        for (name, text) in self.metadata {
            let id = || {
                Uuid::parse_str(&text)
                    .map(Some)
                    .map_err(|error| wrong(&format!("metadata.{name}"), error.to_string()))
            };
            match name.as_str() {
                "correlation" => metadata.correlation = id()?,
                "causation" => metadata.causation = id()?,
                "actor" => metadata.actor = Some(text.into()),
                _ => drop(metadata.extra.insert(name.into(), text.into())),
            }
        }
        Ok(RawEvent {
            event_type: Cow::Owned(self.event_type),
            version: self.version.unwrap_or(1),
            tags,
            payload,
            id: self.id,
            metadata,
        })
    }
}
