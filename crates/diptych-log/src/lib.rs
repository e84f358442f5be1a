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
//! The modules document how it works, from the bytes up: `frame` and `segment` (bytes), `recovery`
//! (whole commits), `layout` (order of frames), `chain` (a running checksum), `index` (finding
//! events), `sequencer` (accepting) and `writer` (making durable). Above them are `indexer`,
//! `cluster`, `read` and `open`; `backup` and `restore` copy a log. The format is in
//! `docs/format.md`, and backups are described in `docs/backup.md`.

mod append;
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
mod report;
mod snapshots;
mod verify;

pub use backup::{
    BackupOptions, BackupReport, SealedSegments, backup,
    restore::{RestoreReport, restore},
};
pub use error::{BackupError, OpenError, VerifyError};
pub use log::{Blocking, Log};
pub use options::{Access, Background, Clustering, Durability, LogOptions};
pub use read::follower::Follower;
pub use report::{Damage, Stats, VerifyReport};
pub use snapshots::Snapshots;
pub use verify::verify;
