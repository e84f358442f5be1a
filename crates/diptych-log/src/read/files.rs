//! Counting the files of a log.

use std::{io, path::PathBuf};

use crate::{folder::manifest, format::segment::parse_file_name, shared::SharedState};

/// How many files a log has, and how large they are.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) segments: u64,
    pub(super) segment_bytes: u64,
    pub(super) index_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) archived_segments: u64,
    pub(super) archived_bytes: u64,
    pub(super) archive: Option<PathBuf>,
}

pub(super) fn files(shared: &SharedState) -> io::Result<Files> {
    let noted = manifest::read(shared.disk(), &shared.folders().root);
    let place = noted.map_err(io::Error::other)?.and_then(|noted| noted.archive);
    let archived = place.as_ref().map_or(0, |place| place.upto);
    let archive = place.map(|place| PathBuf::from(place.path));
    let mut files = Files { archive, ..Files::default() };
    for (dir, is_segments) in [(&shared.folders().segments, true), (&shared.folders().index, false)]
    {
        for name in shared.disk().list(dir)? {
            let path = dir.join(&name);
            let looked = shared.disk().allocated(&path);
            let looked =
                looked.and_then(|all| Ok((all, shared.disk().open_read(&path, 0)?.size()?)));
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
                if parse_file_name(&name).is_some_and(|(sequence, _)| sequence <= archived) {
                    files.archived_segments += 1;
                    files.archived_bytes += size;
                }
            } else {
                files.index_bytes += size;
            }
        }
    }
    Ok(files)
}
