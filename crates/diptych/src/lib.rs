//! CQRS and event sourcing for Rust, with the event log included.
//!
//! A diptych is two panels joined by a hinge. The left panel changes things: commands, and the
//! rules that decide on them. The right panel shows things, and comes with the next release. The
//! hinge is the log of events between them: in a folder with [`App::open`], or in any
//! [`EventStore`] with [`App::over`].
//!
//! # The words
//!
//! - An [`Event`] is what happened, as a struct, or one of several as an enum. It carries
//!   [tags](Tag), which say what it is about.
//! - A [`Fold`] is state made by applying events one after another.
//! - A [`Command`] is a request: it says what its rule depends on (the *boundary*, a [`Filter`]
//!   for each fold), and [decides](Command::decide) over the folded state.
//! - A [`Derived`](derived::Derived) is a fold that holds another one and what is derived from it.
//! - [`App::execute`] carries it out and answers with a [`Receipt`], or with an [`ExecuteError`]
//!   that tells a rejection from a conflict, and both from trouble.
//!
//! ```
//! use diptych::{App, Command, Event, ExecuteError, Filter, Fold, Memory, Recorded, Tag};
//!
//! #[derive(Event)]
//! enum Lending {
//!     #[event("book-lent")]
//!     Lent { #[tag] book: String, to: String },
//!     #[event("book-returned")]
//!     Returned { #[tag] book: String },
//! }
//!
//! #[derive(Default)]
//! struct Book {
//!     is_lent: bool,
//! }
//!
//! impl Fold for Book {
//!     type Event = Lending;
//!
//!     fn apply(&mut self, event: &Recorded<Lending>) {
//!         self.is_lent = matches!(event.event, Lending::Lent { .. });
//!     }
//! }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("the book is lent")]
//! struct IsLent;
//!
//! struct Lend {
//!     book: String,
//!     to: String,
//! }
//!
//! impl Command for Lend {
//!     type State = Book;
//!     type Event = Lending;
//!     type Rejection = IsLent;
//!
//!     fn boundary(&self) -> Filter {
//!         Filter::tag(Tag::new("book", &self.book))
//!     }
//!
//!     fn decide(&self, book: &Book) -> Result<Vec<Lending>, IsLent> {
//!         match book.is_lent {
//!             true => Err(IsLent),
//!             false => Ok(vec![Lending::Lent { book: self.book.clone(), to: self.to.clone() }]),
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::over(Memory::new()).start().await?;
//! let lend = |to: &str| Lend { book: "Emma".to_owned(), to: to.to_owned() };
//! let receipt = app.execute(lend("ann")).actor("librarian").await?;
//! assert_eq!(receipt.events(), 1);
//! assert!(matches!(app.execute(lend("ben")).await, Err(ExecuteError::Rejected(IsLent))));
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! - When [`App::execute`] answers with a receipt, the events are durable as the store says. A
//!   rejection rests on durable events, too.
//! - Nothing that matches the boundary came between what a decision knew and what it wrote. If
//!   something did, the command is decided again.
//! - Under a [key](Execute::key) a command is carried out once, for ever.
//! - What the app keeps in memory or in snapshots makes it faster and never different.
//!
//! # Where it runs
//!
//! On a Tokio runtime with its clock enabled (`enable_time`). On another executor commands are
//! carried out too, but no wait is made between tries, and no snapshots are saved.
//!
//! # Features
//!
//! - `log` (default): the embedded log, [`App::open`].
//! - `derive` (default): `#[derive(Event)]`.
//! - `testing`: given / when / then, the schema lock, the checks of determinism and of digests. For
//!   tests.

// The derive names this crate as its users do, also inside of it.
extern crate self as diptych;

mod app;
mod command;
pub mod derived;
mod digest;
mod event;
mod fold;
mod follow;
mod meters;
pub mod projection;
mod query;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod view;

pub use app::{App, AppBuilder, StartError, StopError};
pub use command::{
    BoundaryError, CacheFigures, Command, Conflict, Execute, ExecuteError, Figures, Folds, Invalid,
    KeyReused, Lane, LaneOptions, OutcomeUnknown, Panicked, Pending, Retries,
};
pub use digest::{DigestError, DigestSyntaxError, StateDigest, digest};
#[cfg(feature = "log")]
pub use diptych_log::{Durability, Log, LogOptions, OpenError};
#[cfg(feature = "derive")]
pub use diptych_macros::Event;
pub use diptych_store::{
    Batch, Corruption, Epoch, EventRef, EventStore, Filter, FilterItem, FilterSyntaxError,
    Invalid as NotTaken, Limits, LogId, LogIdentity, Memory, Metadata, Position, RawEvent, Read,
    ReadError, Store, Tag, TagError, TimeSource, Timestamp, Unavailable,
};
pub use event::{
    Codec, Encoded, Event, EventType, Json, MessagePack, Recorded, SchemaError, Upcast,
    UpcastError, Upcasters,
};
pub use fold::{Fold, FoldError, FoldFailure};
pub use follow::{ControlError, FollowState, Lag, Refresh, Stopped};
pub use query::{
    Answer, Answering, Ask, Cost, Difference, Explain, Explanation, History, NarrowScope, NotYet,
    Past, Point, Query, QueryError, QueryPanicked, ScopeError, Watch,
};
pub use snapshot::{MemorySnapshots, SnapshotOptions, Snapshots, ViewSnapshots};
pub use token::{Receipt, Session, SessionToken, TokenError, TokenSyntaxError};
pub use uuid::Uuid;
pub use view::{NoSuchView, View, ViewControl, ViewMemory, ViewOptions, ViewStatus};

/// What `#[derive(Event)]` needs.
#[doc(hidden)]
pub mod private {
    pub use serde;
}
