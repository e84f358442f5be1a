//! Evidence, beside the log itself, of how far earlier processes published it.
//!
//! A log that was cut off where a commit ends looks like a shorter log that is whole. Only the
//! published head and the index files show that there was more. Opening, verifying and backing up a
//! log all ask this module, so that none of them accepts an end that another one refuses.

use std::path::Path;

use diptych_store::{LogIdentity, Position};

use crate::{
    disk::Disk,
    error::OpenError,
    folder::unclean,
    format::segment,
    read::follower::{self, PublishedHead},
};

/// The evidence in the folder of a log, besides its segments and index files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evidence {
    /// The published head that was written last. It may be an older one, but never one that was not
    /// published.
    published: Option<PublishedHead>,
    /// The log was not closed in order, and did not sync every commit before publishing it.
    marked: bool,
}

impl Evidence {
    pub(crate) fn left_in(disk: &dyn Disk, root: &Path) -> Result<Evidence, OpenError> {
        let published = follower::left_behind(disk, root)?;
        let marked = unclean::is_marked(disk, root)?;
        Ok(Evidence { published, marked })
    }

    /// The log id and the epoch of the published head.
    pub(crate) fn identity(&self) -> Option<LogIdentity> {
        self.published.map(|published| published.identity)
    }

    /// Whether the log once went on behind the end that was found.
    pub(crate) fn shows_loss(&self, found: &PublishedHead) -> bool {
        let Some(published) = self.published else { return false };
        let (was, is) = (published.identity, found.identity);
        let further = published.position > found.position || place(&published) > place(found);
        was.id == is.id
            && (was.epoch.number() > is.epoch.number() || was.epoch == is.epoch && further)
    }

    /// Describes the durable records that are missing behind the end that was found. If commits
    /// were published before they were synced, missing ones are no damage.
    pub(crate) fn durable_loss(&self, found: &PublishedHead) -> Option<String> {
        let published = self.published.filter(|_| !self.marked && self.shows_loss(found))?;
        Some(missing(&published, found.position.plus(1)))
    }

    /// Describes the durable records that a segment without any once held, whichever log they were
    /// of.
    pub(crate) fn durable_content(&self, sequence: u32, base: Position) -> Option<String> {
        let nothing = (sequence, segment::HEADER as u64);
        let held = |of: &PublishedHead| of.position >= base || place(of) > nothing;
        let published = self.published.filter(|of| !self.marked && held(of))?;
        Some(missing(&published, base))
    }
}

fn place(end: &PublishedHead) -> (u32, u64) {
    (end.segment, end.end)
}

fn missing(published: &PublishedHead, next: Position) -> String {
    let PublishedHead { position, end, identity, segment } = published;
    if *position >= next {
        format!(
            "events from position {next} to at least {position} were published, and so durable, as \
             the file head says, and are missing or damaged"
        )
    } else {
        format!(
            "records after position {}, up to byte {end} of segment {segment} of {identity}, were \
             published, and so durable, as the file head says, and are missing or damaged",
            next.before()
        )
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::{Epoch, LogId};

    use super::*;

    /// In segment 3.
    fn end(id: u8, epoch: u64, position: u64, end: u64) -> PublishedHead {
        let identity =
            LogIdentity { id: LogId::from_bytes([id; 16]), epoch: Epoch::from_u64(epoch << 32) };
        PublishedHead { position: Position::new(position), end, identity, segment: 3 }
    }

    fn published(end: PublishedHead) -> Evidence {
        Evidence { published: Some(end), marked: false }
    }

    #[test]
    fn a_published_head_shows_what_is_missing_of_its_history() {
        let left = published(end(1, 2, 9, 900));
        assert!(left.durable_loss(&end(1, 2, 9, 900)).is_none());
        let said = left.durable_loss(&end(1, 2, 5, 500)).unwrap();
        assert!(said.contains("from position 6 to at least 9"), "{said}");
        assert!(left.durable_loss(&end(1, 3, 5, 500)).is_none(), "an older, longer history");
        assert!(left.durable_loss(&end(2, 2, 5, 500)).is_none(), "another log");
    }

    /// Once, a head of a newer epoch was no evidence: a log whose last segments were gone went on
    /// in the older epoch, and gave out positions again.
    #[test]
    fn a_newer_epoch_shows_that_its_segment_is_missing() {
        let left = published(end(1, 2, 9, 900));
        let said = left.durable_loss(&end(1, 1, 5, 500)).unwrap();
        assert!(said.contains("from position 6 to at least 9"), "{said}");
        assert!(left.durable_loss(&end(1, 1, 9, 900)).is_some());
    }

    /// Once, only positions were compared: commits without events, which say up to where a source
    /// was taken in, could be gone without a word.
    #[test]
    fn commits_without_events_are_missed_too() {
        let left = published(end(1, 2, 9, 900));
        let said = left.durable_loss(&end(1, 2, 9, 500)).unwrap();
        assert!(said.contains("after position 9, up to byte 900 of segment 3"), "{said}");
        let (base, header) = (Position::new(10), segment::HEADER as u64);
        assert!(left.durable_content(3, base).is_some());
        assert!(left.durable_content(4, base).is_none());
        assert!(published(end(1, 2, 9, header)).durable_content(3, base).is_none());
    }

    #[test]
    fn a_log_that_was_not_synced_may_have_lost_its_end() {
        let left = Evidence { marked: true, ..published(end(1, 1, 9, 900)) };
        let found = end(1, 1, 5, 500);
        assert!(left.shows_loss(&found));
        assert!(left.durable_loss(&found).is_none());
        assert!(left.durable_content(3, Position::new(6)).is_none());
    }
}
