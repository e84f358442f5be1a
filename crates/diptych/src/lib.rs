//! CQRS and event sourcing for Rust, with the event log included.

// The derive names this crate as its users do, also inside of it.
extern crate self as diptych;

mod app;
mod command;
mod digest;
mod event;
mod fold;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;

pub use app::{App, AppBuilder, StartError, StopError};
pub use command::{
    BoundaryError, CacheFigures, Command, Conflict, Execute, ExecuteError, Figures, Folds, Invalid,
    KeyReused, Lane, LaneOptions, OutcomeUnknown, Panicked, Pending, Receipt, ReceiptError,
    Retries,
};
pub use digest::DigestError;
#[cfg(feature = "log")]
pub use diptych_log::{Durability, Log, LogOptions, OpenError};
#[cfg(feature = "derive")]
pub use diptych_macros::Event;
pub use diptych_store::{
    Corruption, EventStore, Filter, FilterItem, Invalid as NotTaken, Limits, LogIdentity, Memory,
    Metadata, Position, RawEvent, Store, Tag, TimeSource, Timestamp, Unavailable,
};
pub use event::{
    Codec, Encoded, Event, EventType, Json, MessagePack, Recorded, SchemaError, Upcast,
    UpcastError, Upcasters,
};
pub use fold::{Fold, FoldError, FoldFailure};
pub use snapshot::{MemorySnapshots, SnapshotOptions, Snapshots};

/// What `#[derive(Event)]` needs.
#[doc(hidden)]
pub mod private {
    pub use serde;
}
