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
//! # Where to go next
//!
//! | page | contents |
//! |---|---|
//! | [`Log`], [`ReadOnlyLog`], [`Follower`] | to append to, to read beside its writer, to follow |
//! | [`LogOptions`], [`Durability`] | how a log is opened, and when a commit counts as synced |
//! | [Back up and restore][back-up] | the guide: [`backup()`], [`restore`], [`verify()`] |
//! | [Archive][archive] | the guide: [`Log::archive`], for logs that outgrow their disk |
//! | [Platforms][platforms] | what the log asks of a system and a file system |
//! | [The format on disk][format] | every byte |
//! | [Measured][measured] | the log beside others, losses first |
//! | [Limits][limits], [errors][errors] | each with its default, or what to do |
//! | [Architecture][architecture] | the modules of this crate, for contributors |
//!
//! Applications use the crate [`diptych`](https://docs.rs/diptych), which opens the log for them.
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `testing` | no | the simulated disk, for tests of this crate and of those who build on it |
//!
//! [back-up]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/back-up.md
//! [archive]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/archive.md
//! [platforms]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/platforms.md
//! [format]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/format.md
//! [measured]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/measured.md
//! [limits]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/limits.md#diptych-log
//! [errors]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/errors.md#diptych-log
//! [architecture]: https://github.com/diptych-rs/diptych/blob/main/ARCHITECTURE.md

mod adopt;
mod append;
mod archive;
mod backup;
mod by_name;
mod catalog;
pub mod disk;
mod engine;
mod error;
mod folder;
mod format;
mod index;
mod log;
mod maintain;
mod move_log;
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
pub use error::{ArchiveError, BackupError, MoveError, OpenError, VerifyError};
pub use log::{Blocking, Log};
pub use move_log::{Arrival, MoveTarget, fence, fenced};
pub use options::{
    Access, Background, Clustering, Durability, FutureTime, LogOptions, PlacePolicy, ScrubSchedule,
    Tuning,
};
pub use read::follower::Follower;
pub use read_only::{BlockingReads, ReadOnlyLog};
pub use report::{Damage, ScrubOutcome, ScrubReport, Stats, VerifyReport};
pub use snapshots::Snapshots;
pub use verify::{scrub::scrub, verify, verify_without_archive};
