use std::{borrow::Cow, collections::BTreeMap};

use compact_str::CompactString;
use uuid::Uuid;

use crate::{tag::Tag, time::Timestamp};

/// An event as named bytes, which a store writes and reads. It has no domain types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The stable name of the event type, such as `money-withdrawn`.
    pub event_type: Cow<'static, str>,
    /// The schema version of the payload. The first version is 1.
    pub version: u32,
    /// The things that the event is about. Tags are a set that keeps its order.
    pub tags: Vec<Tag>,
    /// The content of the event, encoded by its writer.
    pub payload: Vec<u8>,
    /// The id that the writer gave. Without one the id is derived from log and position.
    pub id: Option<Uuid>,
    /// Time, cause and author of the event.
    pub metadata: Metadata,
}

impl RawEvent {
    /// An event of version 1 without tags, id and metadata.
    pub fn new(event_type: impl Into<Cow<'static, str>>, payload: impl Into<Vec<u8>>) -> RawEvent {
        RawEvent {
            event_type: event_type.into(),
            version: 1,
            tags: Vec::new(),
            payload: payload.into(),
            id: None,
            metadata: Metadata::default(),
        }
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> RawEvent {
        self.tags.push(tag);
        self
    }

    /// Sets the schema version.
    #[must_use]
    pub fn version(mut self, version: u32) -> RawEvent {
        self.version = version;
        self
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> RawEvent {
        self.id = Some(id);
        self
    }

    /// Sets the metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> RawEvent {
        self.metadata = metadata;
        self
    }
}

/// Time, cause and author of an event. Every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// When the event occurred, if it was recorded at another time.
    pub occurred_at: Option<Timestamp>,
    /// The conversation that the event belongs to.
    pub correlation: Option<Uuid>,
    /// The event or command that caused the event.
    pub causation: Option<Uuid>,
    /// The author: the person or program that caused the event.
    pub actor: Option<CompactString>,
    /// More values by name, for example an address or a device.
    pub extra: BTreeMap<CompactString, CompactString>,
}
