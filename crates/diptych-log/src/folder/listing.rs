//! Listing and reading the segments of a folder that need not be open as a log.

use std::path::PathBuf;

use diptych_store::Position;

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
    folder::Folders,
    format::segment,
};

/// A segment, as described by its file name.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) sequence: u32,
    pub(crate) base: Position,
    pub(crate) path: PathBuf,
}

/// The segments in a folder, in order.
pub(crate) fn segments(disk: &dyn Disk, folders: &Folders) -> Result<Vec<SegmentFile>, OpenError> {
    let dir = &folders.segments;
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let listed = names.iter().filter_map(|name| {
        let (sequence, base) = segment::parse_file_name(name)?;
        Some(SegmentFile { sequence, base, path: dir.join(name) })
    });
    let mut listed: Vec<SegmentFile> = listed.collect();
    listed.sort_by_key(|segment| segment.sequence);
    Ok(listed)
}

/// The first `bytes` bytes of a segment, or all if it is shorter.
pub(crate) fn read(
    disk: &dyn Disk,
    segment: &SegmentFile,
    bytes: u64,
) -> Result<Vec<u8>, OpenError> {
    let path = &segment.path;
    let file = disk.open_read(path, 0).map_err(io_error("open", path))?;
    let size = file.size().map_err(io_error("look at", path))?.min(bytes);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    file.read_at(0, size).map_err(io_error("read", path))
}
