//! CQRS and event sourcing for Rust, with the event log included.

// The derive names this crate as its users do, also inside of it.
extern crate self as diptych;

pub mod command;
mod digest;
mod event;
mod fold;

pub use command::{Command, Invalid};
pub use digest::DigestError;
#[cfg(feature = "derive")]
pub use diptych_macros::Event;
pub use diptych_store::{
    Filter, FilterItem, LogIdentity, Metadata, Position, RawEvent, Tag, Timestamp,
};
pub use event::{
    Codec, Encoded, Event, EventType, Json, MessagePack, Recorded, SchemaError, Upcast,
    UpcastError, Upcasters,
};
pub use fold::Fold;
/// A placeholder until the next commit.
pub trait Folds {
    /// .
    type Boundary;
    /// .
    type Ref<'a>;
}

/// What `#[derive(Event)]` needs.
#[doc(hidden)]
pub mod private {
    pub use serde;
}
