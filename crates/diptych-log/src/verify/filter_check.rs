//! Group files, as a verification reads them.

use std::path::PathBuf;

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
    folder::derived,
    index::segment_filter::{self, SegmentFilter},
};

/// A group file: the sequences of its segments, and its content if it is whole.
#[derive(Clone)]
pub(super) struct SegmentFilterCheck {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) path: PathBuf,
    pub(super) group: Option<SegmentFilter>,
    /// Whether the file is whole, but of an older format. The log then rebuilds it when it needs
    /// it.
    pub(super) is_older: bool,
}

impl SegmentFilterCheck {
    pub(super) fn read(
        disk: &dyn Disk,
        path: PathBuf,
        (first, last): (u32, u32),
    ) -> Result<SegmentFilterCheck, OpenError> {
        let bytes = derived::map_if_there(disk, &path).map_err(io_error("read", &path))?;
        let bytes = bytes.unwrap_or_default();
        let is_older = segment_filter::is_older(&bytes);
        let group = SegmentFilter::parse(bytes).filter(SegmentFilter::is_whole);
        Ok(SegmentFilterCheck { first, last, path, group, is_older })
    }
}
