//! Evidence, beside the log itself, of how far earlier processes published it.
//!
//! A log that was cut off where a commit ends looks like a shorter log that is whole. Only the
//! published head, the manifest and the index files show that there was more. Opening, verifying
//! and backing up a log all ask this module, so that none of them accepts an end that another one
//! refuses.

use std::path::Path;

use diptych_store::{LogIdentity, Position};

use super::{CommitSource, tail::two_logs};
use crate::{
    disk::{Disk, FolderPlace},
    error::OpenError,
    folder::{
        head_file::{self, HEAD_FILE},
        manifest::{self, MANIFEST},
        unclean,
    },
    format::{
        head::PublishedHead,
        manifest::{Manifest, Role, Run, SealedSegment, State},
        segment::{self, Header},
    },
    options::PlacePolicy,
};

/// The first format of segments that belong to a log with a manifest.
const WITH_MANIFEST: u16 = 2;

/// The evidence in the folder of a log, besides its segments and index files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The published head that was written last. It may be an older one, but never one that was not
    /// published.
    published: Option<PublishedHead>,
    /// The open that wrote it, if it says so.
    nonce: Option<[u8; 16]>,
    manifest: Option<Manifest>,
    /// The log was not closed in order, and did not sync every commit before publishing it.
    marked: bool,
    /// Segments of a format that comes with a manifest are damaged without one.
    needs_manifest: bool,
}

/// A place up to which records were durable, and the file that says so.
type Promise = (PublishedHead, &'static str);

impl Evidence {
    /// # Errors
    /// Also if the files contradict each other.
    pub(crate) fn left_in(disk: &dyn Disk, root: &Path) -> Result<Evidence, OpenError> {
        let manifest = manifest::read(disk, root)?;
        let evidence = Evidence { manifest, ..Evidence::without_manifest(disk, root)? };
        evidence.must_be_of_one_time(root)?;
        let marked = match evidence.in_force() {
            Some(manifest) => manifest.was_open_at_interval(),
            None => evidence.marked,
        };
        Ok(Evidence { marked, needs_manifest: true, ..evidence })
    }

    /// The evidence that is left if the manifest is missing or damaged.
    pub(crate) fn without_manifest(disk: &dyn Disk, root: &Path) -> Result<Evidence, OpenError> {
        let left = head_file::left_behind(disk, root)?;
        let marked = unclean::is_marked(disk, root)?;
        let (published, nonce) = (left.published, left.nonce);
        Ok(Evidence { published, nonce, manifest: None, marked, needs_manifest: false })
    }

    /// The manifest, unless older programs may have written to the log since.
    fn in_force(&self) -> Option<&Manifest> {
        self.manifest.as_ref().filter(|manifest| manifest.state != State::Migrating)
    }

    /// Checks that the published head is of the open that wrote the manifest, or of the one before.
    fn must_be_of_one_time(&self, root: &Path) -> Result<(), OpenError> {
        let (Some(manifest), Some(nonce)) = (self.in_force(), self.nonce) else { return Ok(()) };
        if [manifest.run.nonce, manifest.run.before].contains(&nonce) {
            return Ok(());
        }
        let what = "it was written at another time than the manifest beside it".to_owned();
        Err(two_logs(&root.join(HEAD_FILE), PublishedHead::BYTES as u64, what))
    }

    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The nonce in the published head; zeros if it has none.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.nonce.unwrap_or_default()
    }

    /// The log ids and epochs that the files tell, with the names of these files.
    pub(crate) fn identities(&self) -> impl Iterator<Item = (&'static str, LogIdentity)> {
        let published = self.published.map(|published| (HEAD_FILE, published.identity));
        let manifest = self.manifest.as_ref().map(|manifest| (MANIFEST, manifest.identity));
        published.into_iter().chain(manifest)
    }

    /// The last complete segment, as the manifest knows it.
    pub(crate) fn sealed(&self) -> Option<SealedSegment> {
        self.manifest.as_ref().and_then(|manifest| manifest.sealed)
    }

    /// Checks that a segment with this header is not without the manifest that it comes with.
    pub(crate) fn must_have_manifest(&self, root: &Path, last: &Header) -> Result<(), OpenError> {
        let lacks = self.needs_manifest && self.manifest.is_none();
        if lacks && last.format >= WITH_MANIFEST {
            return Err(manifest::missing(root));
        }
        Ok(())
    }

    /// Whether the log takes commits, and whose.
    pub(crate) fn role(&self) -> Role {
        self.manifest.as_ref().map(|manifest| manifest.role.clone()).unwrap_or_default()
    }

    /// Checks that the log takes commits from this source.
    pub(crate) fn must_take_appends(
        &self,
        root: &Path,
        source: CommitSource,
    ) -> Result<(), OpenError> {
        let folder = root.display().to_string();
        match (self.role(), source) {
            (Role::Primary, _) | (Role::Arriving { .. }, CommitSource::Move) => Ok(()),
            (Role::Arriving { from }, CommitSource::Users) => {
                Err(OpenError::Arriving { folder, from })
            }
            (Role::Left { to }, _) => Err(OpenError::Left { folder, to }),
            (Role::Replica, _) => Err(OpenError::Replica { folder }),
        }
    }

    /// Checks that the log is in the place where it was last appended to.
    pub(crate) fn must_be_in_place(
        &self,
        root: &Path,
        here: Option<FolderPlace>,
        policy: PlacePolicy,
    ) -> Result<(), OpenError> {
        let folder = root.display().to_string();
        match self.moved(here) {
            Some((was, is)) if policy == PlacePolicy::Refuse => {
                let (was, is) = (was.to_string(), is.to_string());
                Err(OpenError::Moved { folder, was, is })
            }
            _ => Ok(()),
        }
    }

    /// The place that the manifest names, and this one, if they differ.
    fn moved(&self, here: Option<FolderPlace>) -> Option<(FolderPlace, FolderPlace)> {
        let was = self.manifest.as_ref()?.place;
        was.zip(here).filter(|(was, is)| !was.is_same(is))
    }

    /// Whether acknowledged commits may be lost without a trace: they need not have been durable,
    /// the log was not closed, and the machine or the disk was stopped since.
    pub(crate) fn may_hide_loss(
        &self,
        disk: &dyn Disk,
        root: &Path,
        (run, here): (&Run, Option<FolderPlace>),
    ) -> Result<bool, OpenError> {
        match self.in_force() {
            None => unclean::was_cut_off(disk, root),
            Some(manifest) => {
                let elsewhere = !run.is_same(&manifest.run) || self.moved(here).is_some();
                Ok(manifest.was_open_at_interval() && elsewhere)
            }
        }
    }

    /// Up to where the log once went: as published, and as the manifest says.
    fn promises(&self) -> impl Iterator<Item = Promise> {
        let published = self.published.map(|published| (published, HEAD_FILE));
        published.into_iter().chain(self.noted())
    }

    /// The promises that hold whatever happened. The manifest is written only once its promise is
    /// durable.
    fn durable(&self) -> impl Iterator<Item = Promise> {
        let published = self.published.filter(|_| !self.marked);
        published.map(|published| (published, HEAD_FILE)).into_iter().chain(self.noted())
    }

    fn noted(&self) -> Option<Promise> {
        let Manifest { identity, active, .. } = self.manifest.as_ref()?;
        let (position, end, segment) = (active.position, active.end, active.sequence);
        let noted = PublishedHead { position, end, identity: *identity, segment };
        (segment > 0).then_some((noted, MANIFEST))
    }

    /// Whether the log once went on behind the end that was found.
    pub(crate) fn shows_loss(&self, found: &PublishedHead) -> bool {
        self.promises().any(|(promised, _)| exceeds(&promised, found))
    }

    /// Describes the durable records that are missing behind the end that was found. If commits
    /// were published before they were synced, missing ones are no damage.
    pub(crate) fn durable_loss(&self, found: &PublishedHead) -> Option<String> {
        let exceeding = self.durable().filter(|(promised, _)| exceeds(promised, found));
        let furthest = exceeding.max_by_key(|(promised, _)| place(promised))?;
        Some(missing(&furthest, found.position.plus(1)))
    }

    /// Describes the durable records that a segment without any once held, whichever log they were
    /// of.
    pub(crate) fn durable_content(&self, sequence: u32, base: Position) -> Option<String> {
        let nothing = (sequence, segment::HEADER as u64);
        let held = |of: &PublishedHead| of.position >= base || place(of) > nothing;
        let holding = self.durable().filter(|(promised, _)| held(promised));
        let furthest = holding.max_by_key(|(promised, _)| place(promised))?;
        Some(missing(&furthest, base))
    }
}

/// Whether the log once went on behind the end that was found, in the same epoch or a later one.
fn exceeds(promised: &PublishedHead, found: &PublishedHead) -> bool {
    let (was, is) = (promised.identity, found.identity);
    let further = promised.position > found.position || place(promised) > place(found);
    was.id == is.id && (was.epoch.number() > is.epoch.number() || was.epoch == is.epoch && further)
}

fn place(end: &PublishedHead) -> (u32, u64) {
    (end.segment, end.end)
}

fn missing((promised, file): &Promise, next: Position) -> String {
    let PublishedHead { position, end, identity, segment } = promised;
    if *position >= next {
        format!(
            "events from position {next} to at least {position} were durable, as the file {file} \
             says, and are missing or damaged"
        )
    } else {
        format!(
            "records after position {}, up to byte {end} of segment {segment} of {identity}, were \
             durable, as the file {file} says, and are missing or damaged",
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
        Evidence { published: Some(end), ..Evidence::default() }
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
