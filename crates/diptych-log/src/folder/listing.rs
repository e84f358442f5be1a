//! Listing and reading the segments of a folder that need not be open as a log.

use std::{path::PathBuf, sync::Arc};

use diptych_store::Position;

use crate::{
    disk::{Disk, DiskFile},
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

/// The first `bytes` bytes of a segment, or all if it is shorter. They may be of its stub.
pub(crate) fn read(
    disk: &dyn Disk,
    segment: &SegmentFile,
    bytes: u64,
) -> Result<Vec<u8>, OpenError> {
    let (file, length) = open(disk, segment, bytes)?;
    file.read_at(0, length).map_err(io_error("read", &segment.path))
}

/// The same bytes, read where the segment is stored, so that a copy has exactly what is there.
pub(crate) fn read_stored(
    disk: &dyn Disk,
    segment: &SegmentFile,
    bytes: u64,
) -> Result<Vec<u8>, OpenError> {
    let (file, length) = open(disk, segment, bytes)?;
    file.read_stored(0, length).map_err(io_error("read", &segment.path))
}

/// A segment, and how many of the first `bytes` bytes it has.
fn open(
    disk: &dyn Disk,
    segment: &SegmentFile,
    bytes: u64,
) -> Result<(Arc<dyn DiskFile>, usize), OpenError> {
    let path = &segment.path;
    let file = disk.open_read(path, 0).map_err(io_error("open", path))?;
    let size = file.size().map_err(io_error("look at", path))?.min(bytes);
    Ok((file, usize::try_from(size).unwrap_or(usize::MAX)))
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
