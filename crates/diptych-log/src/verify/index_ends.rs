//! The state of the log where the index files of a segment end. An index file repeats that state,
//! so that an open need not scan the segment.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use diptych_store::Position;

use crate::{
    catalog::rebuild::Rebuilt,
    disk::Disk,
    folder::derived,
    format::frame::TrackingTable,
    index::{Coverage, index_file},
};

/// An index file, as described by its name.
#[derive(Clone)]
pub(super) struct IndexFileCheck {
    pub(super) segment: u32,
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) path: PathBuf,
}

/// The tracking of every source, and the time of the last frame, at each offset where an index file
/// ends; `None` until a scan has come there.
#[derive(Default)]
pub(super) struct IndexEnds(BTreeMap<u64, Option<(TrackingTable, u64)>>);

impl IndexEnds {
    /// Where these index files end, as they say themselves.
    ///
    /// # Errors
    /// The path of a file that cannot be read, and the error of the operating system.
    pub(super) fn of<'r>(
        disk: &dyn Disk,
        files: impl Iterator<Item = &'r IndexFileCheck>,
    ) -> Result<IndexEnds, (&'r Path, io::Error)> {
        let mut ends = IndexEnds::default();
        for IndexFileCheck { path, .. } in files {
            let file =
                derived::if_there(disk.open_read(path, 0)).map_err(|error| (&**path, error))?;
            let Some(file) = file else { continue };
            let header = file.read_at(0, index_file::HEADER).map_err(|error| (&**path, error))?;
            if let Some(end) = index_file::end_in(&header) {
                ends.0.insert(end, None);
            }
        }
        Ok(ends)
    }

    /// Remembers the state behind the commit that was just scanned, if an index file ends there.
    pub(super) fn pass(&mut self, scanned: &Rebuilt) {
        if let Some(state) = self.0.get_mut(&scanned.end) {
            *state = Some((scanned.tracking.clone(), scanned.time));
        }
    }

    /// Whether an index file says the same as the scan about the state at its end. A file that was
    /// replaced since its end was read is taken for one that does.
    pub(super) fn agree(&self, Coverage { end, time, tracking, .. }: &Coverage) -> bool {
        match self.0.get(end) {
            None => true,
            Some(scanned) => {
                let says = (tracking, time);
                scanned.as_ref().is_some_and(|(of_scan, at)| (of_scan, at) == says)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::Tracking;

    use super::*;

    fn tracking(position: u64) -> TrackingTable {
        let tracking = Tracking::new("billing", position);
        [("billing".into(), (tracking, Position::new(position)))].into()
    }

    #[test]
    fn an_index_file_agrees_only_with_the_state_that_was_scanned_at_its_end() {
        let scanned = [(100, Some((tracking(3), 7))), (200, None)];
        let ends = IndexEnds(scanned.into());
        let agrees = |end, time, tracking| {
            ends.agree(&Coverage { end, time, tracking, ..Coverage::default() })
        };
        assert!(agrees(100, 7, tracking(3)));
        assert!(!agrees(100, 8, tracking(3)), "another time");
        assert!(!agrees(100, 7, tracking(4)), "another position of a source");
        assert!(!agrees(100, 7, TrackingTable::default()), "no source");
        assert!(!agrees(200, 7, tracking(3)), "no commit ends there");
        assert!(agrees(300, 7, tracking(3)), "its end was not read before");
    }
}
