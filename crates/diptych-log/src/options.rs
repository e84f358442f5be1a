use std::{sync::Arc, time::Duration};

use diptych_store::{Limits, TimeSource};

use crate::disk::{Disk, RealDisk};

/// When a commit counts as synced: acknowledged, and published to readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has confirmed it. A synced commit survives a killed process, a crash of
    /// the operating system and a loss of power (as far as the disk keeps its word).
    #[default]
    Synced,
    /// After it was handed to the operating system; the disk confirms it at most `interval`
    /// later. A synced commit survives a killed process. A crash of the operating system or a
    /// loss of power can lose the commits of about the last interval: what is left is a prefix
    /// of them, each whole, and the log comes back with a new epoch.
    Interval {
        /// The longest time between a commit and its sync.
        interval: Duration,
    },
}

/// Who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Two threads of the log: one writes and syncs, one builds the index of what was written and
    /// clusters what is complete.
    #[default]
    Threads,
    /// Nobody: a commit is written when [`Blocking::flush`](crate::Blocking::flush) or
    /// [`Blocking::commit`](crate::Blocking::commit) is called, on the caller's thread. Every
    /// run is the same; this is how the simulated disk is driven.
    Inline,
}

/// Whether events of segments that are complete are put together by tag.
///
/// A segment is written in the order of arrival, in which the events of one account are spread
/// over it. In a clustered one they lie next to each other, so that reading them costs a few
/// reads of the disk instead of one for each. It costs writing each segment a second time, some
/// two bytes an event, and for a moment the space of one more segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clustering {
    /// A segment is clustered once it and the next one are complete, one at a time and with
    /// pauses. With [`Background::Inline`] that is done at once. What cannot be clustered, for
    /// lack of space or because it is damaged, stays as it is.
    #[default]
    Background,
    /// Only by [`Blocking::cluster`](crate::Blocking::cluster). Segments that are clustered stay
    /// so.
    Off,
}

/// What a log is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// For whatever the folder is for: a log is appended to and read, a backup only read.
    #[default]
    Any,
    /// To be appended to: a backup is refused.
    Append,
}

/// How a log is opened. The defaults are for production.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// What it is opened for.
    pub access: Access,
    /// When a commit counts as synced.
    pub durability: Durability,
    /// What is taken at most.
    pub limits: Limits,
    /// Where `recorded_at` comes from.
    pub time: TimeSource,
    /// A segment file is closed and the next begun at about this many bytes.
    pub segment_bytes: u64,
    /// The index of the newest events is written out at about this many bytes of log: what an
    /// open after a kill has to read at most, and what of the index is in memory.
    pub index_bytes: u64,
    /// Accepted and not yet written commits wait in at most about this many bytes; who comes
    /// then waits.
    pub queue_bytes: usize,
    /// Who writes.
    pub background: Background,
    /// Whether events of segments that are complete are put together by tag.
    pub clustering: Clustering,
    /// The files.
    pub disk: Arc<dyn Disk>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            access: Access::Any,
            durability: Durability::Synced,
            limits: Limits::default(),
            time: TimeSource::Clock,
            segment_bytes: 64 << 20,
            index_bytes: 4 << 20,
            queue_bytes: 8 << 20,
            background: Background::Threads,
            clustering: Clustering::Background,
            disk: Arc::new(RealDisk::default()),
        }
    }
}
