use std::{sync::Arc, time::Duration};

use diptych_store::{Limits, TimeSource};

use crate::disk::{Disk, RealDisk};

/// When a commit counts as synced. It is then acknowledged, and published to readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A commit is synced once the disk has confirmed it. It survives a killed process, a crash of
    /// the operating system and a loss of power, if the disk really keeps what it confirms.
    #[default]
    Synced,
    /// A commit is synced once the operating system has it; the disk confirms it at most `interval`
    /// later. A crash of the operating system or a loss of power can lose the commits of about the
    /// last interval. The remaining commits are a prefix of the log, each of them whole, and the
    /// log gets a new epoch. A synced commit survives a killed process.
    Interval {
        /// The longest time between a commit and its sync.
        interval: Duration,
    },
}

/// The threads that write and index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Two threads of the log: one writes and syncs, one builds the index of the written events and
    /// clusters complete segments.
    #[default]
    Threads,
    /// No threads: a commit is written, on the caller's thread, when
    /// [`Blocking::flush`](crate::Blocking::flush) or [`Blocking::commit`](crate::Blocking::commit)
    /// is called. Every run has the same sequence of operations, as tests with the simulated disk
    /// need it.
    Inline,
}

/// Whether complete segments are clustered: events with a common tag are put together.
///
/// A segment is written in the order of arrival, so the events of one account are spread over it.
/// In a clustered segment these events lie next to each other: reading them takes a few reads of
/// the disk instead of one for each event. Clustering writes each segment a second time and adds
/// about two bytes for each event. While it writes, it needs the space of one more segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clustering {
    /// The log clusters a segment once this segment and the next one are complete, one segment at a
    /// time and with pauses. With [`Background::Inline`] it does so at once. A segment that cannot
    /// be clustered, because it is damaged or space is missing, stays as it is.
    #[default]
    Background,
    /// Segments are clustered only by [`Blocking::cluster`](crate::Blocking::cluster). Clustered
    /// segments stay clustered.
    Off,
}

/// The purpose of opening a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Any use that the folder allows: a log takes commits and is read, a backup is only read.
    #[default]
    Any,
    /// Appending. The open refuses a backup.
    Append,
}

/// The rule for a folder of a log that is not where it was at the last append.
///
/// A folder that is renamed within its file system keeps its place. A copy of it has another place,
/// and so has a folder that is moved to another file system. An open cannot know whether the
/// original is still in use. If both are used, both assign the same positions to different events.
/// So the open refuses until a person decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacePolicy {
    /// The open returns [`OpenError::Moved`](crate::OpenError::Moved). [`adopt`](crate::adopt())
    /// accepts the folder in its new place.
    #[default]
    Refuse,
    /// The log continues in its new place. Two copies that are both opened with this option assign
    /// the same positions to different events. This option is for volumes that move.
    Follow,
}

/// Whether a log whose last commit is far in the future accepts commits: see
/// [`Tuning::clock_ahead`]. Either the clock is wrong now, or it was wrong when that commit was
/// recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FutureTime {
    /// Appends are refused until the clock reaches the time of the last commit. Reads work.
    #[default]
    Refuse,
    /// Commits are accepted. They get the time of the last commit until the clock reaches it.
    Accept,
}

/// When an open log is scrubbed in the background: see [`Log::scrub`](crate::Log::scrub).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSchedule {
    /// The pause between two scrubs. The first begins after a tenth of it.
    pub every: Duration,
    /// At most this many bytes of segments, index files and segment filters are read in a second; 0
    /// counts as 1. At 8 MiB a terabyte takes a day and a half.
    pub bytes_per_second: u64,
}

/// Bounds and pauses of the work that follows the commits. The defaults suit most machines. Each
/// option trades memory or throughput for latency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The largest number of index parts that wait in memory to be written to files. Each part
    /// covers about [`LogOptions::index_bytes`] of log. While this number of parts wait, appends
    /// wait, too. Must be at least 1. Default: 4.
    pub waiting_parts: usize,
    /// How long writing the index may fail before the log takes no commits. If there is no space,
    /// it takes none until there is; for any other cause, until it is opened again. The log tries
    /// again with pauses of up to a second. Meanwhile parts wait in memory. Once half of
    /// `waiting_parts` wait and none was written for a second, each append waits for some
    /// milliseconds. With [`Background::Inline`] there is no patience. Default: 2 minutes.
    pub index_patience: Duration,
    /// Largest number of bytes of zeros that the log writes ahead of the commits, because a sync
    /// takes longer when the file grows. It has an effect with [`Durability::Synced`] only. With a
    /// value below 4 KiB the log mostly writes none. Default: 512 KiB.
    pub prepared_bytes: u64,
    /// The log builds segment filters and clusters segments once no segment was completed for this
    /// long. After an open it begins at once. It has no effect with [`Background::Inline`].
    /// Default: 2 s.
    pub tidy_after: Duration,
    /// The log does the work of `tidy_after` after this time, even if segments are completed all
    /// the time. Default: 30 s.
    pub tidy_at_latest: Duration,
    /// Largest number of files that stay mapped after they were read: segments, index files and
    /// segment filters. Beyond this number the log unmaps the files that were not used lately, and
    /// maps them again when it needs them. Files that a batch or clustering uses stay mapped in
    /// addition. Must be at least 16. Keep it well below the limit of the system for a process, on
    /// Linux `vm.max_map_count`. Default: 8,192.
    pub mapped_files: usize,
    /// How often a [`ReadOnlyLog`](crate::ReadOnlyLog) checks whether another process has published
    /// commits. Default: 4 ms.
    pub follow_pause: Duration,
    /// The pause after a segment was clustered, as a multiple of the time that clustering it took.
    /// With the default of 9, clustering takes a tenth of the time. No pause is longer than an
    /// hour.
    pub cluster_pause: u32,
    /// A segment of more bytes is not clustered, and a segment filter of more bytes is not built.
    /// Clustering needs memory for two segments and their index files. Default: 256 MiB,
    /// four times the default size of a segment.
    pub tidy_bytes: u64,
    /// With [`TimeSource::Clock`]: how far the clock may jump while the log is open, compared with
    /// a clock that cannot be set. After a larger jump appends are refused until the clock is right
    /// again or the log is opened again. Default: 5 minutes.
    pub clock_jump: Duration,
    /// With [`TimeSource::Clock`]: how far in the future the last commit may be. If it is further
    /// in the future, [`LogOptions::future_time`] decides. Default: 24 hours.
    pub clock_ahead: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            waiting_parts: 4,
            index_patience: Duration::from_secs(120),
            prepared_bytes: 512 << 10,
            tidy_after: Duration::from_secs(2),
            tidy_at_latest: Duration::from_secs(30),
            mapped_files: 8_192,
            follow_pause: Duration::from_millis(4),
            cluster_pause: 9,
            tidy_bytes: 256 << 20,
            clock_jump: Duration::from_secs(5 * 60),
            clock_ahead: Duration::from_secs(24 * 3_600),
        }
    }
}

/// How a log is opened. The defaults are for production.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The purpose of opening the log.
    pub access: Access,
    /// The rule for a folder that is no longer in its place.
    pub place: PlacePolicy,
    /// When a commit counts as synced.
    pub durability: Durability,
    /// Bounds on the size of events, commits, batches and their parts.
    pub limits: Limits,
    /// Where `recorded_at` comes from.
    pub time: TimeSource,
    /// Whether a log whose last commit is far in the future accepts commits.
    pub future_time: FutureTime,
    /// Size of a segment file in bytes. At about this size the log completes it and begins the next
    /// one.
    pub segment_bytes: u64,
    /// Size of an index part, in bytes of log. At about this size the log writes the index of the
    /// newest events to a file. This bounds how much an open after a kill has to read, and how much
    /// of the index is in memory.
    pub index_bytes: u64,
    /// Size in bytes of the queue of accepted commits that are not written yet. While the queue is
    /// full, appends wait.
    pub queue_bytes: usize,
    /// The threads that write and index.
    pub background: Background,
    /// Whether complete segments are clustered: events with a common tag are put together.
    pub clustering: Clustering,
    /// When the log is scrubbed in the background. It has no effect with [`Background::Inline`].
    /// Default: never.
    pub scrub: Option<ScrubSchedule>,
    /// Bounds and pauses of the work that follows the commits.
    pub tuning: Tuning,
    /// The disk with the files of the log.
    pub disk: Arc<dyn Disk>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            access: Access::Any,
            place: PlacePolicy::default(),
            durability: Durability::Synced,
            limits: Limits::default(),
            time: TimeSource::Clock,
            future_time: FutureTime::Refuse,
            segment_bytes: 64 << 20,
            index_bytes: 4 << 20,
            queue_bytes: 8 << 20,
            background: Background::Threads,
            clustering: Clustering::Background,
            scrub: None,
            tuning: Tuning::default(),
            disk: Arc::new(RealDisk::default()),
        }
    }
}
