//! Listing and reading the segments of a folder that need not be open as a log.

use std::path::PathBuf;

use diptych_store::Position;

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
    folder::Folders,
    format::{
        chain,
        frame::{self, Link},
        segment::{self, Header},
    },
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

/// The record that a segment begins with, about the segment before it; `None` if an older version
/// wrote the segment, or its header or that record is damaged. Reading the segment reports damage.
pub(crate) fn link(disk: &dyn Disk, segment: &SegmentFile) -> Result<Option<Link>, OpenError> {
    let front = read(disk, segment, (segment::HEADER + frame::HEADER) as u64)?;
    let header = Header::parse(&front).ok();
    let Some(header) = header.filter(|header| header.is_of(segment.sequence, segment.base)) else {
        return Ok(None);
    };
    let size = frame::size(front.get(segment::HEADER..).unwrap_or(&[]));
    let front = read(disk, segment, (segment::HEADER + size) as u64)?;
    Ok(chain::link_in(&front, &header))
}
