use std::path::PathBuf;

use diptych_store::{LogIdentity, Position, Timestamp};

/// Figures about the content and the files of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The id and the epoch of the log.
    pub identity: LogIdentity,
    /// Its last position, and so how many events it has.
    pub head: Position,
    /// Segment files, archived ones included.
    pub segments: u64,
    /// Bytes used by records and segment headers, in archived segments too.
    pub segment_bytes: u64,
    /// Segments that are archived ([`Log::archive`](crate::Log::archive)).
    pub archived_segments: u64,
    /// Their bytes.
    pub archived_bytes: u64,
    /// The folder of the archive, if the log has one.
    pub archive: Option<PathBuf>,
    /// Bytes of the index files.
    pub index_bytes: u64,
    /// Bytes that all its files occupy on the disk, without those of the archive.
    pub allocated_bytes: u64,
    /// Events by type, most first.
    pub types: Vec<(String, u64)>,
    /// Events by tag key (each tag of an event counts), most first.
    pub tag_keys: Vec<(String, u64)>,
    /// Tracking sources.
    pub sources: u64,
    /// When the last event was recorded.
    pub last_recorded_at: Option<Timestamp>,
    /// Files that are mapped now.
    pub maps: u64,
    /// Files that stay mapped after they were read, at most:
    /// [`Tuning::mapped_files`](crate::Tuning::mapped_files).
    pub maps_limit: u64,
    /// Files and folders that are open now.
    pub open_files: u64,
}

/// The report of a verification that found everything in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The id and the epoch of the log.
    pub identity: LogIdentity,
    /// Events whose checksum and order hold.
    pub events: u64,
    /// Commits.
    pub commits: u64,
    /// Segment files that were read.
    pub segments: u64,
    /// Archived segments that were left out.
    pub skipped_segments: u64,
    /// Index files that agree with a scan of their segment.
    pub index_files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// When the last commit was recorded.
    pub last_recorded_at: Option<Timestamp>,
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
    /// Advice on how to go on.
    pub advice: String,
}
