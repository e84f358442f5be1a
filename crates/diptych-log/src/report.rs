use std::{io, path::PathBuf};

use diptych_store::{LogIdentity, Position};

use crate::engine::Engine;

/// Figures about the content and the files of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The id and the epoch of the log.
    pub identity: LogIdentity,
    /// Its last position, and so how many events it has.
    pub head: Position,
    /// Segment files.
    pub segments: u64,
    /// Bytes used by records and segment headers.
    pub segment_bytes: u64,
    /// Bytes of the index files.
    pub index_bytes: u64,
    /// Bytes that all its files occupy on the disk.
    pub allocated_bytes: u64,
    /// Events by type, most first.
    pub types: Vec<(String, u64)>,
    /// Events by tag key (each tag of an event counts), most first.
    pub tag_keys: Vec<(String, u64)>,
    /// Tracking sources.
    pub sources: u64,
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
    /// Segment files.
    pub segments: u64,
    /// Index files that agree with a scan of their segment.
    pub index_files: u64,
    /// Bytes read.
    pub bytes: u64,
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

/// How many files a log has, and how large they are.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) allocated_bytes: u64,
}

pub(crate) fn files(engine: &Engine) -> io::Result<Files> {
    let mut files = Files::default();
    for (dir, is_segments) in [(&engine.folders.segments, true), (&engine.folders.index, false)] {
        for name in engine.disk().list(dir)? {
            let path = dir.join(&name);
            let looked = engine.disk().allocated(&path);
            let looked = looked.and_then(|all| Ok((all, engine.disk().open(&path, 0)?.size()?)));
            let (allocated, size) = match looked {
                // Another index file may replace one at any time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // An unfinished file is gone in a moment.
                Ok(_) if name.ends_with(".tmp") => continue,
                looked => looked?,
            };
            files.allocated_bytes += allocated;
            if is_segments {
                files.segments += 1;
                files.segment_bytes += size;
            } else {
                files.index_bytes += size;
            }
        }
    }
    Ok(files)
}
