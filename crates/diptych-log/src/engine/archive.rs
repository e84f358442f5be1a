//! Facts and steps of an archiving that only the owners of an open log know.

use super::Engine;
use crate::{error::OpenError, format::manifest::ArchivePlace};

/// Complete segments that always stay: an open looks at the last one, and it is never clustered.
const STAYS: u32 = 1;

impl Engine {
    /// Lets no segment be clustered meanwhile.
    pub(crate) fn without_clustering<R>(&self, work: impl FnOnce() -> R) -> R {
        let _none_is_clustered = self.clusterer.lock();
        work()
    }

    /// The last segment that may leave the folder: it is complete, durable and indexed.
    pub(crate) fn last_to_archive(&self) -> u32 {
        let active = self.published_head().segment;
        let catalog = self.shared.catalog();
        let mut parts = catalog.parts.iter();
        let unfinished = parts.find(|part| !part.segment.is_sealed() || part.path().is_none());
        let unfinished = unfinished.map_or(active, |part| part.segment.sequence.min(active));
        active.saturating_sub(STAYS + 1).min(unfinished.saturating_sub(1))
    }

    /// Where the archived segments lie.
    pub(crate) fn archive_place(&self) -> Option<ArchivePlace> {
        self.writer.lock().archive_place().cloned()
    }

    /// How many segments are archived. They are the first ones.
    pub(super) fn archived_segments(&self) -> u32 {
        self.writer.lock().archive_place().map_or(0, |place| place.upto)
    }

    /// Notes durably where the archived segments lie. If this fails, the older note or this one is
    /// in force, and both must be true.
    pub(crate) fn note_archive(&self, place: &ArchivePlace) -> Result<(), OpenError> {
        self.writer.lock().note_archive(&self.shared, place)
    }
}
