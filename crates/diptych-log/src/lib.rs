//! The embedded event log of Diptych: commits appended to segment files, found again by tag and
//! type, safe across a killed process and a loss of power.
//!
//! It is plain blocking code with two threads of its own and no async runtime. [`Log`] is an
//! [`EventStore`](diptych_store::EventStore) for tasks, and [`Log::blocking`] serves threads.
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
//! The modules are rooms, and each uses only those below it. From the bytes up: `format` (frames,
//! segment headers, recovery), `folder` (holding a folder, small files in it), `index` (finding
//! events in the bytes of an index), `catalog` (segments, index parts and segment filters of an
//! open log), `shared` (what the owners of an open log share). On these stand `append`, `maintain`,
//! `read` and `open`. `engine` puts their owners together. `read_only` is a log beside its
//! writer. `backup`, `verify` and `adopt` work on a folder from outside, and
//! `archive` moves complete segments to another one. ARCHITECTURE.md walks
//! through the rooms; the format is in `docs/format.md`, and backups are described in
//! `docs/backup.md`.

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
mod shared;
mod snapshots;
mod verify;

pub use adopt::{AdoptReport, Adoption, adopt};
pub use archive::{ArchiveLimit, ArchiveReport, relocate_archive};
pub use backup::{
    BackupOptions, BackupReport, SealedSegments, backup,
    restore::{RestoreReport, restore},
};
pub use error::{ArchiveError, BackupError, OpenError, VerifyError};
pub use log::{Blocking, Log};
pub use options::{
    Access, Background, Clustering, Durability, FutureTime, LogOptions, PlacePolicy, Tuning,
};
pub use read::follower::Follower;
pub use read_only::{BlockingReads, ReadOnlyLog};
pub use report::{Damage, Stats, VerifyReport};
pub use snapshots::Snapshots;
pub use verify::{verify, verify_without_archive};
