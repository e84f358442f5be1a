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
    /// After it was handed to the operating system; the disk confirms it at most `interval` later.
    /// A synced commit survives a killed process. A crash of the operating system or a loss of
    /// power can lose the commits of about the last interval. The remaining commits are a prefix,
    /// each of them whole, and the log comes back with a new epoch.
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
    /// No threads: a commit is written when [`Blocking::flush`](crate::Blocking::flush) or
    /// [`Blocking::commit`](crate::Blocking::commit) is called, on the caller's thread. Every run
    /// takes the same course; this is how the simulated disk is driven.
    Inline,
}

/// Whether complete segments are clustered: events with a common tag are put together.
///
/// A segment is written in the order of arrival, in which the events of one account are spread over
/// it. In a clustered segment they lie next to each other, so that reading them costs a few reads
/// of the disk instead of one for each event. Clustering costs writing each segment a second time,
/// some two bytes an event, and for a moment the space of one more segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clustering {
    /// A segment is clustered once it and the next one are complete, one at a time and with pauses.
    /// With [`Background::Inline`] that is done at once. A segment that cannot be clustered, for
    /// lack of space or because it is damaged, stays as it is.
    #[default]
    Background,
    /// Only by [`Blocking::cluster`](crate::Blocking::cluster). Segments that are clustered stay
    /// so.
    Off,
}

/// The purpose of opening a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Any use that the folder allows: a log is appended to and read, a backup only read.
    #[default]
    Any,
    /// Appending: a backup is refused.
    Append,
}

/// The rule for a folder of a log that is not where it was at the last append.
///
/// A folder that is renamed within its file system stays in its place. A copy of it, and a folder
/// that comes to another file system, is in another place. Whether the log goes on in both cannot
/// be seen. If it does, both give out the same positions, so an open refuses until a person
/// decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacePolicy {
    /// The open answers [`OpenError::Moved`](crate::OpenError::Moved). [`adopt`](crate::adopt())
    /// takes the folder where it is.
    #[default]
    Refuse,
    /// The log goes on where it is: an option for volumes that move. Two copies that are both
    /// opened this way get the same positions.
    Follow,
}

/// Whether a log whose last commit is far in the future accepts commits: see
/// [`Tuning::clock_ahead`]. Either the clock is wrong now, or it was when that commit was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FutureTime {
    /// Appends are refused until the clock gets there. Reads work.
    #[default]
    Refuse,
    /// Commits are recorded at the time of the last one until the clock gets there.
    Accept,
}

/// Bounds and pauses of the work behind the commits. The defaults suit most machines; each of them
/// trades memory or throughput for latency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Parts of the index that may wait in memory to be written to files, each about
    /// [`LogOptions::index_bytes`] of log. While as many wait, appends wait. Must be at least 1.
    /// Default: 4.
    pub waiting_parts: usize,
    /// How long the index may fail to be written before the log takes no commits: until there is
    /// space, if that is the cause, and else until the log is opened again. It is tried again with
    /// pauses of up to a second. Meanwhile parts wait in memory: once half of `waiting_parts` do,
    /// and none was written for a second, each append waits for some milliseconds. With
    /// [`Background::Inline`] there is no patience. Default: 2 minutes.
    pub index_patience: Duration,
    /// At most this many bytes of zeros are written ahead of the commits, because a sync takes
    /// longer when the file grows. It has an effect with [`Durability::Synced`] only. A value below
    /// 4 KiB mostly writes none. Default: 512 KiB.
    pub prepared_bytes: u64,
    /// Segment filters are built and segments clustered once no segment was completed for this
    /// long; an open begins at once. It has no effect with [`Background::Inline`]. Default: 2 s.
    pub tidy_after: Duration,
    /// That work is done after this long, even if segments are completed all the time. Default:
    /// 30 s.
    pub tidy_at_latest: Duration,
    /// Files that stay mapped after they were read, at most: segments, index files and segment
    /// filters. Beyond them those that were not used lately are mapped again when they are needed.
    /// Files that are in use by a batch or by clustering come on top. Must be at least 16. Keep it
    /// well below the limit of the system for a process, on Linux `vm.max_map_count`. Default:
    /// 8,192.
    pub mapped_files: usize,
    /// How often a [`ReadOnlyLog`](crate::ReadOnlyLog) looks whether another process has published
    /// commits. Default: 4 ms.
    pub follow_pause: Duration,
    /// The pause after a segment was clustered, as a multiple of the time that it took. Default: 9,
    /// so that clustering takes a tenth of the time. No pause is longer than an hour.
    pub cluster_pause: u32,
    /// Bytes of memory that clustering a segment, or building a segment filter, may take. A larger
    /// segment is not clustered, and a larger filter is not built. Default: 256 MiB, four times the
    /// default size of a segment.
    pub tidy_bytes: u64,
    /// With [`TimeSource::Clock`]: how far the clock may jump while the log is open, compared with
    /// a clock that cannot be set. Appends after a larger jump are refused until the clock is right
    /// again, or the log is opened again. Default: 5 minutes.
    pub clock_jump: Duration,
    /// With [`TimeSource::Clock`]: how far in the future the last commit may be. If it is further,
    /// [`LogOptions::future_time`] decides. Default: 24 hours.
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
    /// The rule for a folder that is not where it was.
    pub place: PlacePolicy,
    /// When a commit counts as synced.
    pub durability: Durability,
    /// Bounds on the size of events, commits, batches and their parts.
    pub limits: Limits,
    /// Where `recorded_at` comes from.
    pub time: TimeSource,
    /// Whether a log whose last commit is far in the future accepts commits.
    pub future_time: FutureTime,
    /// A segment file is completed and the next one begun at about this many bytes.
    pub segment_bytes: u64,
    /// The index of the newest events is written to a file at about this many bytes of log. This
    /// bounds how much an open after a kill has to read, and how much of the index is in memory.
    pub index_bytes: u64,
    /// Accepted commits that are not written yet wait in at most about this many bytes; while these
    /// are full, appends wait.
    pub queue_bytes: usize,
    /// The threads that write and index.
    pub background: Background,
    /// Whether complete segments are clustered: events with a common tag are put together.
    pub clustering: Clustering,
    /// Bounds and pauses of the work behind the commits.
    pub tuning: Tuning,
    /// The disk that has the files.
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
            tuning: Tuning::default(),
            disk: Arc::new(RealDisk::default()),
        }
    }
}
