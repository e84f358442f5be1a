//! The embedded event log of Diptych. It appends commits to segment files and finds events again by
//! tag and type. Synced commits survive a killed process and a loss of power.
//!
//! The log is plain blocking code with two threads of its own and no async runtime. Async tasks use
//! [`Log`] as an [`EventStore`](diptych_store::EventStore); threads use [`Log::blocking`].
//!
//! ```
//! use diptych_log::{Log, LogOptions};
//! use diptych_store::{Append, Filter, RawEvent, Read, Tag};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let log = Log::open(folder, LogOptions::default())?;
//! let ann = Tag::new("account", "ann");
//! let opened = RawEvent::new("opened", b"{}").tag(ann.clone());
//! let committed = log.blocking().commit(Append::event(opened))?; // durable from here on
//!
//! let batch = log.blocking().read(&Filter::tag(ann), Read::all())?;
//! assert_eq!(batch.get(0).map(|event| event.position()), Some(committed.first));
//! log.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The modules are rooms, and each uses only rooms below it. From the bytes up:
//!
//! - `sync`: locks and other ways in which threads wait for each other
//! - `format`: frames, segment headers, recovery
//! - `folder`: the lock of a folder, and the small files in it
//! - `index`: finding events in the bytes of an index
//! - `catalog`: segments, index parts and segment filters of an open log
//! - `shared`: the state that the owners of an open log share
//!
//! Above these are `append`, `maintain`, `read` and `open`. Above them, `engine` puts their owners
//! together. `archive` moves complete segments to another folder. `read_only` reads a log while
//! another process may write to it. `backup`, `verify` and `adopt` work on the folder of a log that
//! this process has not opened. ARCHITECTURE.md walks
//! through the rooms. The format is in `docs/reference/format.md`, and backups are described in
//! `docs/guides/back-up.md`.

mod adopt;
mod append;
mod archive;
mod backup;
mod catalog;
pub mod disk;
mod engine;
mod error;
mod folder;
mod format;
mod index;
mod log;
mod maintain;
mod open;
mod options;
mod read;
mod read_only;
mod report;
#[cfg(diptych_model)]
pub mod schedules;
mod shared;
mod snapshots;
mod sync;
mod verify;

pub use adopt::{AdoptReport, Adoption, adopt};
pub use archive::{ArchiveLimit, ArchiveReport, bring_back_archive, relocate_archive};
pub use backup::{
    BackupOptions, BackupReport, SealedSegments, backup,
    restore::{RestoreReport, restore},
};
pub use error::{ArchiveError, BackupError, OpenError, VerifyError};
pub use log::{Blocking, Log};
pub use options::{
    Access, Background, Clustering, Durability, FutureTime, LogOptions, PlacePolicy, ScrubSchedule,
    Tuning,
};
pub use read::follower::Follower;
pub use read_only::{BlockingReads, ReadOnlyLog};
pub use report::{Damage, ScrubOutcome, ScrubReport, Stats, VerifyReport};
pub use snapshots::Snapshots;
pub use verify::{scrub::scrub, verify, verify_without_archive};
