//! CQRS and event sourcing for Rust, with the event log included.
//!
//! A diptych is two panels joined by a hinge. The left panel changes things: commands, and the
//! rules that decide on them. The right panel shows things: views, and the queries that are
//! answered from them. The hinge is the log of events between them: in a folder with
//! [`App::open`], or in any [`EventStore`] with [`App::over`].
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use diptych::{
//!     App, Command, DecisionContext, Event, ExecuteError, Filter, Fold, Memory, Query, Recorded,
//!     Tag,
//! };
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
//!     fn decide(&self, book: &Book, _: &DecisionContext) -> Result<Vec<Lending>, IsLent> {
//!         match book.is_lent {
//!             true => Err(IsLent),
//!             false => Ok(vec![Lending::Lent { book: self.book.clone(), to: self.to.clone() }]),
//!         }
//!     }
//! }
//!
//! /// The borrower of each book.
//! #[derive(Clone, Default)]
//! struct Shelf(BTreeMap<String, String>);
//!
//! impl Fold for Shelf {
//!     type Event = Lending;
//!
//!     fn apply(&mut self, event: &Recorded<Lending>) {
//!         match &event.event {
//!             Lending::Lent { book, to } => drop(self.0.insert(book.clone(), to.clone())),
//!             Lending::Returned { book } => drop(self.0.remove(book)),
//!         }
//!     }
//! }
//!
//! struct WhoHas(&'static str);
//!
//! impl Query for WhoHas {
//!     type View = Shelf;
//!     type Answer = Option<String>;
//!
//!     fn answer(&self, shelf: &Shelf) -> Option<String> {
//!         shelf.0.get(self.0).cloned()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::over(Memory::new()).view::<Shelf>().start().await?;
//! let lend = |to: &str| Lend { book: "Emma".to_owned(), to: to.to_owned() };
//! let receipt = app.execute(lend("ann")).actor("librarian").await?;
//! assert_eq!(receipt.events(), 1);
//! assert!(matches!(app.execute(lend("ben")).await, Err(ExecuteError::Rejected(IsLent))));
//!
//! let whose = app.query(WhoHas("Emma")).after(&receipt).await?;
//! assert_eq!(whose.as_deref(), Some("ann"));
//! # Ok(()) }
//! ```
//!
//! # Where to go next
//!
//! | page | contents |
//! |---|---|
//! | [A first service][start] | a tutorial of 30 minutes |
//! | [Guides][guides], such as [test a rule][rule] | one page for each job, with a program |
//! | [Commands][commands], [views][views], [time][time] | how the parts work, and why |
//! | [Limits][limits], [errors][errors], [metrics][metrics] | every default, and what to do |
//! | [`diptych-sqlite`], [`diptych-server`] | reports in SQLite, HTTP |
//! | [`diptych-cli`] | the command line, with a demo |
//!
//! # The words
//!
//! - An [`Event`] records that something happened: a struct for one kind of event, or an enum for
//!   several. It carries [tags](Tag), which name the things that it is about.
//! - A [`Fold`] is state made by applying events one after another.
//! - A [`Command`] is a request: it says what its rule depends on (the *boundary*, a [`Filter`]
//!   for each fold), and [decides](Command::decide) over the folded state.
//! - [`App::execute`] carries out a command and answers with a [`Receipt`], or with an
//!   [`ExecuteError`] that distinguishes a rejection from a conflict, and both from other failures.
//! - A [`View`] is a fold that is kept up to date in memory; a [`Derived`](derived::Derived) view
//!   holds another fold and the data derived from it.
//! - A [`Query`] is a question to one view. [`App::query`] asks it of the present, with a freshness
//!   that the caller chooses, or [of the past](query::Ask::as_of), and answers with an [`Answer`]
//!   or a [`QueryError`].
//! - A [`catalogue`] declares commands, queries, events, views and projections once, by name, for
//!   HTTP and for other programs. A program without it works, too.
//! - A [`projection`] keeps rows outside the log in step with it; `diptych-sqlite` keeps them in
//!   SQLite.
//! - A [`poster`] is a process that holds only views of a log that others write.
//!
//! # Guarantees
//!
//! - When [`App::execute`] answers with a receipt, the events are durable as the store promises. A
//!   rejection rests on durable events, too.
//! - Between the events that a decision knew and the events that it wrote, the log has no event
//!   that matches the boundary. If one came in between, the command is decided again.
//! - Under a [key](Execute::key) a command is carried out once, for ever.
//! - State in memory and snapshots make the app faster. They change no answer and no decision.
//! - An answer has everything up to its [position](Answer::position) and nothing after. It is as
//!   fresh as the query asked, or says that it is not.
//! - A view applies each event once, and never shows half of a commit. A fold that fails at an
//!   event stops its own view before that event, and nothing else.
//! - A query waits neither for the disk nor for folding, unless it asks for events that its view
//!   has not applied yet.
//!
//! # Where it runs
//!
//! On a Tokio runtime with its clock enabled (`enable_time`). On another executor commands are
//! carried out too, but without a wait between tries, and without saving snapshots of decision
//! states. A query there has no time limit: it waits without end for events that do not come. Each
//! view and each projection has a thread of its own, and questions about the past share a
//! [few](AppBuilder::past_folds).
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `log` | yes | the embedded log, `App::open` |
//! | `derive` | yes | `#[derive(Event)]` |
//! | `jiff`, `chrono`, `time` | no | conversions of [`Timestamp`] from and to these crates |
//! | `calendars` | no | due times of timers by calendar and time zone, in [`process`] |
//! | `schemas` | no | schemas of the entries of a [`catalogue`], made from the types by schemars |
//! | `postgres` | no | `App::connect` to a log in PostgreSQL; the feature `remote` comes along |
//! | `remote` | no | logs and feeds of servers, `App::connect`, `Poster::follow` by address |
//! | `testing` | no | given-when-then tests, the schema lock, checks of determinism and digests |
//!
//! [start]: https://github.com/diptych-rs/diptych/blob/main/docs/start/first-service.md
//! [guides]: https://github.com/diptych-rs/diptych/blob/main/docs/README.md#guides
//! [rule]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/test-a-rule.md
//! [commands]: https://github.com/diptych-rs/diptych/blob/main/docs/explain/commands.md
//! [views]: https://github.com/diptych-rs/diptych/blob/main/docs/explain/views.md
//! [time]: https://github.com/diptych-rs/diptych/blob/main/docs/explain/time.md
//! [limits]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/limits.md#diptych
//! [errors]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/errors.md#diptych
//! [metrics]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/metrics.md
//! [`diptych-sqlite`]: https://docs.rs/diptych-sqlite
//! [`diptych-server`]: https://docs.rs/diptych-server
//! [`diptych-cli`]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/command-line.md

// `#[derive(Event)]` names this crate as users do, so this crate needs that name too.
extern crate self as diptych;

#[cfg(feature = "remote")]
mod address;
mod app;
pub mod catalogue;
pub mod collaboration;
pub mod command;
pub mod derived;
pub mod digest;
pub mod event;
mod faithful;
pub mod fold;
pub mod follow;
mod lineage;
mod panics;
pub mod past;
mod plans;
mod pool;
pub mod poster;
pub mod process;
pub mod projection;
pub mod query;
mod request;
pub mod snapshot;
mod stored_text;
pub mod subscribe;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
pub mod view;
mod wait;

pub use app::{App, AppBuilder, RetagError, RetagReport, RetaggedKey, StartError, StopError};
pub use command::{Command, CommandError, DecisionContext, Execute, ExecuteError, Invalid};
pub use digest::digest;
#[cfg(feature = "log")]
pub use diptych_log::{Durability, Log, LogOptions, OpenError};
pub use diptych_store::{EventStore, Filter, Memory, Metadata, Position, Store, Tag, Timestamp};
pub use event::{Event, EventType, Recorded, Upcasters};
pub use fold::Fold;
pub use past::Point;
pub use query::{Answer, Query, QueryError};
pub use token::{Receipt, Session, SessionToken};
pub use uuid::Uuid;
pub use view::View;

/// Stores of events: the contract, its words, and the store in memory.
///
/// The conformance suite for authors of stores is in `diptych-store` itself.
pub mod store {
    pub use diptych_store::{
        AcceptedCommit, Append, AppendCondition, AppendError, Batch, CommitBatch, CommitRef,
        CommitSync, Corruption, Delivery, Digest, Direction, Epoch, EventChecksum, EventRef,
        EventStore, Filter, FilterItem, FilterSyntaxError, Head, HistoryChanged, HistoryPoint,
        InvalidRequest, Key, KeyedCommit, Limits, LogId, LogIdentity, Memory, Metadata, OutOfRange,
        Position, RawEvent, Read, ReadCommits, ReadError, Refusal, Store, SubscribeError,
        SubscribeOptions, Subscription, SyncError, SyncedCommit, Tag, TagError, TimeSource,
        Timestamp, TimestampError, Tracking, Unavailable,
    };
}

/// The embedded log, which keeps events in a folder.
#[cfg(feature = "log")]
pub mod log {
    pub use diptych_log::{
        Access, AdoptReport, Adoption, ArchiveError, ArchiveLimit, ArchiveReport, Background,
        BackupError, BackupOptions, BackupReport, Blocking, BlockingReads, Clustering, Damage,
        Durability, Follower, FutureTime, Log, LogOptions, OpenError, PlacePolicy, ReadOnlyLog,
        RestoreReport, ScrubOutcome, ScrubReport, ScrubSchedule, Stats, Tuning, VerifyError,
        VerifyReport, adopt, backup, relocate_archive, restore, scrub, verify,
        verify_without_archive,
    };
}

/// Logs and feeds of servers, and the addresses of stores.
#[cfg(feature = "remote")]
pub mod remote {
    pub use diptych_remote::{ConnectError, RemoteOptions, RemoteStore};

    pub use crate::{
        address::{InvalidAddress, StoreAddress, without_secrets},
        app::AddressError,
        collaboration::RemoteFeed,
    };
}

/// Support for the code that `#[derive(Event)]` writes.
#[doc(hidden)]
pub mod private {
    pub use serde;

    pub use crate::event::tags::{distinct, total};
}
