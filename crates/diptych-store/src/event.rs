use std::{borrow::Cow, collections::BTreeMap};

use compact_str::CompactString;
use uuid::Uuid;

use crate::{tag::Tag, time::Timestamp};

/// An event as named bytes: what a store moves. It knows no domain types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The stable name of its type, such as `money-withdrawn`.
    pub event_type: Cow<'static, str>,
    /// The schema version of its payload, 1 at first.
    pub version: u32,
    /// What it is about; a set, in the order given.
    pub tags: Vec<Tag>,
    /// What happened, in whatever form the writer chose.
    pub payload: Vec<u8>,
    /// Its id, if the writer gave one; else it is derived from log and position.
    pub id: Option<Uuid>,
    /// When it was so, why, and by whom.
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

    /// The same with one more tag.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> RawEvent {
        self.tags.push(tag);
        self
    }

    /// The same with this schema version.
    #[must_use]
    pub fn version(mut self, version: u32) -> RawEvent {
        self.version = version;
        self
    }

    /// The same with this id.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> RawEvent {
        self.id = Some(id);
        self
    }

    /// The same with this metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> RawEvent {
        self.metadata = metadata;
        self
    }
}

/// When an event was so, what it belongs to, what caused it, and who; all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// When it was so, where that differs from when it was recorded.
    pub occurred_at: Option<Timestamp>,
    /// The conversation that it belongs to.
    pub correlation: Option<Uuid>,
    /// The event or command that caused it.
    pub causation: Option<Uuid>,
    /// Who did it.
    pub actor: Option<CompactString>,
    /// Whatever else should be known, by name.
    pub further: BTreeMap<CompactString, CompactString>,
}
