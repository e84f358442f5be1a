//! Typed events, and how they become named bytes and are read again.
//!
//! A type name stands in the log for ever, so it does not depend on the Rust name. Changes since an
//! event was written are declared once, in [`Upcasters`], and applied wherever the event is read.

mod boundary;
mod codec;
mod declared_twice;
mod evolve;
mod marked;
mod missing_tag;
mod object;
mod reading;
mod retags;
mod schema;
mod tagging;
pub(crate) mod tags;
mod trail;

use std::{
    any::{TypeId, type_name},
    error::Error,
    hash::{Hash, Hasher},
    ops::Deref,
};

use diptych_store::{LogId, Metadata, Position, RawEvent, Timestamp};
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use boundary::BoundaryError;
#[cfg(feature = "testing")]
pub(crate) use codec::packed_end;
pub use codec::{Codec, Json, MessagePack};
pub use declared_twice::DeclaredTwice;
#[cfg(feature = "derive")]
#[doc = include_str!("event/derive.md")]
pub use diptych_macros::Event;
#[cfg(feature = "derive")]
pub use diptych_macros::Tags;
pub use evolve::{Upcast, Upcasters};
pub(crate) use marked::{MarkedRead, RetaggedBoundary};
pub use missing_tag::MissingTag;
pub use object::JsonObject;
pub(crate) use reading::{Reading, StoredEvent, encoded};
pub use retags::OutdatedEvent;
pub(crate) use retags::{Marks, RetagFailure, RetaggedKeys, completed, fenced, marks_of, retagged};
pub(crate) use schema::{Declare, Schema, TagExemption};
pub(crate) use tagging::{AnyReading, RetagType};
pub use tags::Tags;
pub(crate) use trail::Trail;

/// Prefix of the names that only this crate writes: of event types, tags, extra metadata, and keys
/// of commits.
pub(crate) const RESERVED: &str = "diptych:";
/// The name under which the time of a decision is stored with each of its events.
pub(crate) const DECIDED_AT: &str = "diptych:decided-at";

/// Whether this name belongs to this crate.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// An event: a struct, or an enum of several event types.
///
/// `#[derive(Event)]` writes this implementation:
///
/// ```
/// use diptych::{
///     Event, EventType, Tag, event::{Codec, EncodedEvent, Json, SchemaError}, store::RawEvent,
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Deposited {
///     account: String,
///     amount: u64,
/// }
///
/// impl Event for Deposited {
///     fn types() -> Vec<EventType> {
///         vec![EventType::new("money-deposited").tags(&["account"])]
///     }
///
///     fn encode(&self) -> Result<RawEvent, SchemaError> {
///         let event = RawEvent::new("money-deposited", Json::encode(self)?);
///         Ok(event.tag(Tag::new("account", &self.account)))
///     }
///
///     fn decode(encoded: &EncodedEvent<'_>) -> Result<Deposited, SchemaError> {
///         encoded.read::<Json, _>()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "events are declared here",
    note = "derive `diptych::Event`, with a name that stands in the log for ever: \
            `#[event(\"account-opened\")]`"
)]
pub trait Event: Send + Sync + Sized + 'static {
    /// The types that an event of this Rust type can have: name, current schema version, tag keys.
    fn types() -> Vec<EventType>;

    /// The event as named bytes, at the current version of its type.
    ///
    /// # Errors
    /// [`SchemaError::Encode`] if the codec cannot hold the value.
    fn encode(&self) -> Result<RawEvent, SchemaError>;

    /// Reads an event of one of the [`types`](Event::types), at its current version: older ones
    /// went through the [`Upcasters`] before.
    ///
    /// # Errors
    /// [`SchemaError`] if the bytes are not such an event.
    fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError>;

    /// Whether an event of this name is one of the [`types`](Event::types).
    fn has_type(name: &str) -> bool {
        Self::types().iter().any(|known| known.name == name)
    }
}

/// One type of event as the program knows it now.
///
/// Two are equal if name, version, tags and codec are equal: the Rust type that declares them makes
/// no difference.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EventType {
    /// Its stable name, such as `money-deposited`.
    pub name: &'static str,
    /// The schema version that is written now, 1 at first.
    pub version: u32,
    /// The keys of the tags that such an event can carry.
    pub tags: &'static [&'static str],
    /// The name of the codec of its payload.
    pub codec: &'static str,
    origin: Option<Origin>,
}

/// The declaration that `#[derive(Event)]` saw.
#[derive(Clone, Copy, Debug)]
struct Origin {
    id: TypeId,
    rust: &'static str,
    fields: &'static [(&'static str, &'static str)],
}

impl EventType {
    /// Version 1 of a type without tags, with JSON as its payload.
    pub const fn new(name: &'static str) -> EventType {
        EventType { name, version: 1, tags: &[], codec: Json::NAME, origin: None }
    }

    /// Sets the version.
    #[must_use]
    pub const fn version(mut self, version: u32) -> EventType {
        self.version = version;
        self
    }

    /// Sets the keys of the tags.
    #[must_use]
    pub const fn tags(mut self, keys: &'static [&'static str]) -> EventType {
        self.tags = keys;
        self
    }

    /// Sets the codec of the payload.
    #[must_use]
    pub const fn codec<C: Codec>(mut self) -> EventType {
        self.codec = C::NAME;
        self
    }

    /// Names the Rust type that declares it, and its fields with their types. `#[derive(Event)]`
    /// does. With it an app tells that two Rust types declare one name, and the
    /// [schema lock](crate::testing) tells that a field has another type.
    #[must_use]
    pub fn declared_by<T: 'static>(
        mut self,
        fields: &'static [(&'static str, &'static str)],
    ) -> EventType {
        self.origin = Some(Origin { id: TypeId::of::<T>(), rust: type_name::<T>(), fields });
        self
    }

    /// The path of the Rust type that declares it, if it [names that](EventType::declared_by).
    pub fn declared_in(&self) -> Option<&'static str> {
        self.origin.map(|origin| origin.rust)
    }

    /// Its fields with their Rust types as text, if it [names them](EventType::declared_by).
    pub fn fields(&self) -> Option<&'static [(&'static str, &'static str)]> {
        self.origin.map(|origin| origin.fields)
    }

    /// Whether both can be declarations of one type: equal, and not made by two Rust types.
    pub(crate) fn agrees_with(&self, other: &EventType) -> bool {
        let apart = matches!((self.origin, other.origin), (Some(own), Some(of)) if own.id != of.id);
        let covers = |all: &[&str], keys: &[&str]| keys.iter().all(|key| all.contains(key));
        !apart
            && (self.name, self.version, self.codec) == (other.name, other.version, other.codec)
            && covers(self.tags, other.tags)
            && covers(other.tags, self.tags)
    }

    fn meaning(&self) -> (&str, u32, &[&str], &str) {
        (self.name, self.version, self.tags, self.codec)
    }
}

impl PartialEq for EventType {
    fn eq(&self, other: &EventType) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Eq for EventType {}

impl Hash for EventType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meaning().hash(state);
    }
}

/// An event as it stands in the log, or as an upcaster made it: the input of [`Event::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedEvent<'a> {
    /// The stable name of its type.
    pub event_type: &'a str,
    /// The schema version of the payload.
    pub version: u32,
    /// The bytes.
    pub payload: &'a [u8],
}

impl EncodedEvent<'_> {
    /// The payload, read by this codec.
    ///
    /// # Errors
    /// [`SchemaError::Decode`] with the error of the codec.
    pub fn read<C: Codec, T: DeserializeOwned>(&self) -> Result<T, SchemaError> {
        C::decode(self.payload).map_err(|error| self.not_decoded(error))
    }

    /// The error that the payload cannot be decoded.
    pub fn not_decoded(&self, reason: impl ToString) -> SchemaError {
        let (event_type, reason) = (self.event_type.to_owned(), reason.to_string());
        SchemaError::Decode { event_type, version: self.version, reason }
    }

    /// The error that `E` has no event of this type.
    pub fn unknown<E>(&self) -> SchemaError {
        let event_type = self.event_type.to_owned();
        SchemaError::UnknownType { event_type, version: self.version, wanted: type_name::<E>() }
    }
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<E = RawEvent> {
    /// Its place in the log.
    pub position: Position,
    /// When the log recorded it. It never decreases along the log.
    pub recorded_at: Timestamp,
    /// Its id: given by its writer, or else derived from the log's id and the position.
    pub id: Uuid,
    /// When it occurred, its cause, and who sent it.
    pub metadata: Metadata,
    /// The event itself.
    pub event: E,
}

impl<E> Recorded<E> {
    /// When it occurred: the instant that its writer gave, or else when it was recorded.
    pub fn occurred_at(&self) -> Timestamp {
        self.metadata.occurred_at.unwrap_or(self.recorded_at)
    }

    /// The time that the rule used which decided on it, if that rule
    /// [asked for the time](crate::DecisionContext::now).
    pub fn decided_at(&self) -> Option<Timestamp> {
        self.metadata.extra.get(DECIDED_AT)?.parse().ok()
    }

    /// The conversation that it belongs to. If its writer gave none, the event begins a
    /// conversation of its own. So if a command without a
    /// [correlation](crate::Execute::correlation) writes several events, each begins its own.
    pub fn correlation(&self) -> Uuid {
        self.metadata.correlation.unwrap_or(self.id)
    }
}

impl<E> Deref for Recorded<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.event
    }
}

/// The id of an event whose writer gave none: a UUID of version 8, made of half of the log's id and
/// the position.
pub(crate) fn derived_id(log: LogId, position: Position) -> Uuid {
    const VERSION_8: u128 = 0x8 << 76;
    const VARIANT: u128 = 0b10 << 62;
    let half = u128::from_be_bytes(log.to_bytes()) & (u128::MAX << 64) & !(0xf << 76);
    let position = u128::from(position.get() & (u64::MAX >> 2));
    Uuid::from_u128(half | VERSION_8 | VARIANT | position)
}

/// The error of an [upcaster](Upcasters).
pub type UpcastError = Box<dyn Error + Send + Sync + 'static>;

/// The declared events and the stored events do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The codec cannot hold the value, or would decode another value.
    #[error("{what} cannot be encoded: {reason}")]
    Encode {
        /// The Rust type.
        what: &'static str,
        /// The error of the codec.
        reason: String,
    },
    /// The payload does not fit its type and version.
    #[error(
        "{event_type} version {version} cannot be decoded: {reason}; if its shape changed, give \
         it a new version and an upcaster"
    )]
    Decode {
        /// The name of the event type.
        event_type: String,
        /// The schema version.
        version: u32,
        /// The error of the codec.
        reason: String,
    },
    /// An event type that the reader has no event for.
    #[error(
        "{event_type} version {version} is not a type of {wanted}: add it, or an upcaster that \
         renames or drops it"
    )]
    UnknownType {
        /// The name of the event type.
        event_type: String,
        /// The schema version.
        version: u32,
        /// The Rust type that should have read it.
        wanted: &'static str,
    },
    /// A version that is not current and has no upcaster.
    #[error(
        "{event_type} version {version} is not known, the program writes version {current}: \
         add an upcaster from {version}, or run a newer program"
    )]
    UnknownVersion {
        /// The name of the event type.
        event_type: String,
        /// The schema version that was found.
        version: u32,
        /// The schema version that the program writes.
        current: u32,
    },
    /// An upcaster failed.
    #[error("the upcaster of {event_type} version {version} failed: {reason}")]
    Upcast {
        /// The name of the event type.
        event_type: String,
        /// The schema version that it takes.
        version: u32,
        /// Its error.
        reason: String,
    },
    /// A stored event lacks a tag that its type has today: a rule over that tag would not see it.
    #[error("{0}")]
    MissingTag(MissingTag),
    /// Two Rust types of one app declare an event type of one name, and differ.
    #[error("{0}")]
    DeclaredTwice(DeclaredTwice),
    /// Declarations that contradict each other.
    #[error("{problem}")]
    Declaration {
        /// The contradiction, and how to correct it.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_is_a_uuid_and_tells_logs_and_positions_apart() {
        let (one, other) = (LogId::random(), LogId::random());
        let id = derived_id(one, Position::new(7));
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id, derived_id(one, Position::new(7)));
        assert_ne!(id, derived_id(one, Position::new(8)));
        assert_ne!(id, derived_id(other, Position::new(7)));
    }
}
