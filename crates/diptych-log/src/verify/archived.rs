//! Verifying a log whose first segments are in an archive.

use std::io::ErrorKind;

use super::Verifying;
use crate::{
    error::{OpenError, io_error},
    folder::{archive, listing::SegmentFile},
    format::archive::SegmentStub,
};

impl Verifying<'_> {
    /// Leaves the archived segments out, which are the first ones.
    pub(super) fn skip_archived(&mut self, segments: &mut Vec<SegmentFile>) {
        let place = self.evidence.manifest().and_then(|manifest| manifest.archive.as_ref());
        let Some(upto) = place.map(|place| place.upto) else { return };
        segments.retain(|segment| segment.sequence > upto);
        self.runs.retain(|run| run.segment > upto);
        if let Some(first) = segments.first() {
            self.begin_at(first);
            self.skipped = self.checked_segments;
        }
    }

    /// Compares the stub of an archived segment with the segment.
    pub(super) fn stub_of(&mut self, segment: &SegmentFile, bytes: &[u8]) -> Result<(), OpenError> {
        let path = archive::stub_of(&segment.path);
        let stub = match self.disk.open_read(&path, 0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.and_then(|file| {
                let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
                file.read_at(0, size)
            }),
        };
        let stub = SegmentStub::parse(&stub.map_err(io_error("read", &path))?);
        if stub.is_none() || stub != SegmentStub::of(bytes) {
            let what = "the stub of an archived segment says something else than the segment";
            self.index_damaged(&path, what);
        }
        Ok(())
    }
}
