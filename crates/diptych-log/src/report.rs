use std::path::PathBuf;

use diptych_store::{LogIdentity, Position, Timestamp};

/// Figures about the content and the files of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The id and the epoch of the log.
    pub identity: LogIdentity,
    /// The last position of the log. This is also the number of its events.
    pub head: Position,
    /// Segment files, archived ones included.
    pub segments: u64,
    /// Bytes of records and segment headers, in archived segments too.
    pub segment_bytes: u64,
    /// Segments that are archived ([`Log::archive`](crate::Log::archive)).
    pub archived_segments: u64,
    /// Their bytes.
    pub archived_bytes: u64,
    /// The folder of the archive, if the log has one.
    pub archive: Option<PathBuf>,
    /// Bytes of the index files.
    pub index_bytes: u64,
    /// Bytes that all files of the log occupy on the disk, without those of the archive.
    pub allocated_bytes: u64,
    /// Number of events of each type, in descending order.
    pub types: Vec<(String, u64)>,
    /// Number of events with each tag key, in descending order. Each tag of an event counts.
    pub tag_keys: Vec<(String, u64)>,
    /// Number of tracking sources.
    pub sources: u64,
    /// When the last event was recorded.
    pub last_recorded_at: Option<Timestamp>,
    /// Number of files that are mapped now.
    pub maps: u64,
    /// Largest number of files that stay mapped after they were read:
    /// [`Tuning::mapped_files`](crate::Tuning::mapped_files).
    pub maps_limit: u64,
    /// Number of files and folders that are open now.
    pub open_files: u64,
    /// Why the log takes no commits for now, or at all, and what to do; `None` if it takes them, or
    /// is open for reading only.
    pub takes_no_commits: Option<String>,
}

/// The report of a verification that found everything in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The id and the epoch of the log.
    pub identity: LogIdentity,
    /// Number of events; the checksum and the order of each are correct.
    pub events: u64,
    /// Number of commits.
    pub commits: u64,
    /// Segment files that were read.
    pub segments: u64,
    /// Archived segments that were left out.
    pub skipped_segments: u64,
    /// Number of index files; each agrees with a scan of its segment.
    pub index_files: u64,
    /// Number of bytes that were read.
    pub bytes: u64,
    /// When the last commit was recorded.
    pub last_recorded_at: Option<Timestamp>,
}

/// The report of the scrub that ended last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its outcome.
    pub outcome: ScrubOutcome,
}

/// The outcome of a scrub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubOutcome {
    /// Everything up to the commit that was published when the scrub began is in order.
    Whole(VerifyReport),
    /// These files are damaged.
    Damaged(Vec<Damage>),
    /// The log could not be read to its end, for this reason.
    Failed(String),
}

/// Where a verification found damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The offset in bytes.
    pub offset: u64,
    /// The damage.
    pub what: String,
    /// Advice on the next step.
    pub advice: String,
}
