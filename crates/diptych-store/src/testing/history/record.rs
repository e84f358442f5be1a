//! The words of a history: requests as plain values, which JSON can carry.
//!
//! They repeat the types of the contract in a form that a client in another process, or in another
//! language, can write. Positions and times are numbers, filters and tags are text.

use serde::{Deserialize, Serialize};

use crate::{
    append::{Append, AppendCondition, Digest, Key, Tracking},
    batch::EventRef,
    event::{Metadata, RawEvent},
    filter::Filter,
    tag::Tag,
};

/// The arguments of an append.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppendRecord {
    /// The events. Each payload is unique in its history.
    pub events: Vec<EventRecord>,
    /// The conditions.
    pub conditions: Vec<ConditionRecord>,
    /// The key.
    pub key: Option<KeyRecord>,
    /// The tracking.
    pub tracking: Option<TrackingRecord>,
}

/// The arguments of a read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadRecord {
    /// The filter.
    #[serde(with = "text")]
    pub filter: Filter,
    /// Only events above this position.
    pub after: u64,
    /// Only events at or below this position.
    pub upto: u64,
    /// Whether the read goes from high positions to low ones.
    pub backwards: bool,
    /// Maximum number of events.
    pub limit: u64,
}

/// An event without its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The schema version.
    pub version: u32,
    /// The tags.
    pub tags: Vec<String>,
    /// The payload.
    pub payload: String,
    /// The author.
    pub actor: Option<String>,
}

/// A condition of an append.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConditionRecord {
    /// The events that must not exist.
    #[serde(with = "text")]
    pub fail_if: Filter,
    /// The position after which they must not exist.
    pub after: u64,
}

/// An idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key.
    pub name: String,
    /// The digest of the request, as 32 hexadecimal digits.
    pub digest: String,
}

/// The position up to which a source was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingRecord {
    /// The source.
    pub source: String,
    /// The position of the source.
    pub position: u64,
}

impl EventRecord {
    /// The event as a store takes it.
    pub fn to_raw(&self) -> RawEvent {
        RawEvent {
            event_type: self.event_type.clone().into(),
            version: self.version,
            tags: self.tags.iter().map(|tag| Tag::stored(tag)).collect(),
            payload: self.payload.clone().into_bytes(),
            id: None,
            metadata: Metadata {
                actor: self.actor.as_deref().map(Into::into),
                ..Metadata::default()
            },
        }
    }

    /// The event as it was read.
    pub fn of(event: &EventRef<'_>) -> EventRecord {
        EventRecord {
            event_type: event.event_type().to_owned(),
            version: event.version(),
            tags: event.tags().map(str::to_owned).collect(),
            payload: String::from_utf8_lossy(event.payload()).into_owned(),
            actor: event.metadata().actor.map(Into::into),
        }
    }
}

impl AppendRecord {
    /// The request to the store.
    pub fn to_append(&self) -> Append {
        let conditions = self.conditions.iter().map(|condition| AppendCondition {
            fail_if: condition.fail_if.clone(),
            after: condition.after.into(),
        });
        let tracking = self.tracking.as_ref();
        Append {
            events: self.events.iter().map(EventRecord::to_raw).collect(),
            conditions: conditions.collect(),
            key: self.key.as_ref().map(KeyRecord::to_key),
            tracking: tracking.map(|given| Tracking::new(&given.source, given.position)),
            recorded_at: None,
        }
    }
}

impl KeyRecord {
    /// The key for a request with this text.
    pub fn new(name: impl Into<String>, request: &str) -> KeyRecord {
        let digest = Digest::of(request.as_bytes()).to_string();
        KeyRecord { name: name.into(), digest }
    }

    fn to_key(&self) -> Key {
        let mut digest = Digest::default();
        for (at, byte) in digest.0.iter_mut().enumerate() {
            let digits = self.digest.get(2 * at..2 * at + 2);
            let number = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            *byte = number.unwrap_or_default();
        }
        Key::new(&self.name, digest)
    }
}

/// Filters as text.
pub(super) mod text {
    use std::{borrow::Cow, fmt::Display};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::filter::Filter;

    pub(in super::super) fn serialize<S: Serializer>(
        filter: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(filter)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Filter, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
