//! Archiving complete segments: moving them to another folder, from which they are read as before.
//!
//! The order of the steps makes this safe. A segment is verified and copied, the copy is synced and
//! read again, and a stub of the segment is left in the log's folder. Then the manifest says that
//! the segment is archived, and only then its file is removed. So wherever this stops, the file or
//! its copy is in use. Files that are left over are finished or replaced by the next run.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use diptych_store::{Epoch, LogIdentity, Position, ReadError, Unavailable};

use crate::{
    archive::{segment_move::SegmentMove, target::Target},
    disk::Disk,
    engine::Engine,
    error::{ArchiveError, OpenError, corruption, io_error},
    folder::{
        Folders, archive as stubs,
        hold::{self, HeldFolder},
        listing::{self, SegmentFile},
        manifest,
    },
    format::{
        archive::SegmentStub,
        chain,
        manifest::{ArchivePlace, Manifest},
        segment::{Head, Header, foreign, may_precede},
    },
    options::LogOptions,
    verify::Verifying,
};

mod bring_back;
mod segment_move;
mod target;

pub use bring_back::bring_back_archive;

/// Which complete segments are archived. The last complete one always stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveLimit {
    /// All that may leave the folder.
    #[default]
    All,
    /// Those without an event after this position.
    Upto(Position),
    /// All but the last complete ones, this many.
    KeepSegments(u32),
}

/// The report of an archiving.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveReport {
    /// The id and the epoch of the log.
    pub identity: LogIdentity,
    /// The folder of the archive.
    pub folder: PathBuf,
    /// Segments that were moved now.
    pub moved: u64,
    /// Their bytes.
    pub bytes: u64,
    /// All segments that are archived. They are the first ones of the log.
    pub archived: u64,
    /// The last position in them.
    pub upto: Position,
}

/// Notes that the archive of the log in the folder `dir` lies in the folder `to` now. No process
/// may have the log open.
///
/// # Errors
/// [`ArchiveError`]: the log has no archive, or `to` is not its archive. Nothing was changed.
pub fn relocate_archive(
    dir: impl AsRef<Path>,
    to: impl AsRef<Path>,
    options: &LogOptions,
) -> Result<ArchiveReport, ArchiveError> {
    let folders = Folders::new(dir.as_ref());
    let root = &folders.root;
    let disk = hold::pin(&*options.disk, root)?;
    let Some(noted) = manifest::read(&*disk, root)? else {
        return Err(hold::no_log(root).into());
    };
    let HeldFolder { disk, lock: _lock } = hold::create_and_lock(&*options.disk, root)?;
    let target = Target::of(&*disk, &folders, to.as_ref(), (noted.identity.id, noted.archive))?;
    let place = target.known(&*disk)?.ok_or_else(|| ArchiveError::Target {
        folder: root.display().to_string(),
        problem: "has no archive: `diptych archive --to` makes one".to_owned(),
    })?;
    // Read again: under the lock no other process changes it.
    let noted = manifest::read(&*disk, root)?.ok_or_else(|| manifest::missing(root))?;
    let upto = noted.archive.as_ref().map_or(place.upto, |noted| noted.upto);
    let place = ArchivePlace { upto, ..place };
    let identity = noted.identity;
    manifest::replace(&*disk, root, &Manifest { archive: Some(place.clone()), ..noted })?;
    Ok(report(identity, &place, &listing::segments(&*disk, &folders)?))
}

/// Archives segments of an open log: see [`Log::archive`](crate::Log::archive). `progress` gets the
/// bytes done so far and the total.
pub(crate) fn archive(
    engine: &Engine,
    to: &Path,
    limit: ArchiveLimit,
    mut progress: impl FnMut(u64, u64),
) -> Result<ArchiveReport, ArchiveError> {
    engine.check_changes().map_err(of_log)?;
    let shared = engine.shared();
    let (disk, folders, identity) = (shared.disk(), shared.folders(), shared.identity());
    let known = engine.archive_place();
    let target = Target::of(disk, folders, to, (identity.id, known.clone()))?;
    let place = target.check(disk)?;
    let segments = listing::segments(disk, folders)?;
    let last = last_of(&segments, limit, engine.last_to_archive());
    let planned = planned(disk, &segments, place.upto, last)?;
    let without_stub = without_stub(disk, &segments, place.upto)?;
    let is_known = known.as_ref().is_none_or(|known| *known == place);
    if planned.is_empty() && without_stub.is_empty() && is_known {
        return Ok(report(identity, &place, &segments));
    }
    let HeldFolder { disk: archive, lock: _lock } = target.hold(disk)?;
    // Checked again: under the lock no other process changes the folder.
    let place = target.check(&*archive)?;
    target.make(&*archive, &place)?;
    if known.as_ref() != Some(&place) {
        engine.note_archive(&place)?;
    }
    let mut mover = SegmentMove { engine, archive: &*archive, place };
    for segment in without_stub {
        mover.leave_stub(segment, &listing::read_stored(disk, segment, u64::MAX)?)?;
    }
    let all = planned.iter().map(|(_, _, bytes)| bytes).sum();
    let (mut moved, mut done) = (0, 0);
    for (segment, next, bytes) in planned {
        engine.check_changes().map_err(of_log)?;
        engine.without_clustering(|| mover.archive(segment, next))?;
        (moved, done) = (moved + 1, done + bytes);
        progress(done, all);
    }
    Ok(ArchiveReport { moved, bytes: done, ..report(identity, &mover.place, &segments) })
}

/// The last segment to archive.
fn last_of(segments: &[SegmentFile], limit: ArchiveLimit, most: u32) -> u32 {
    let last = match limit {
        ArchiveLimit::All => most,
        ArchiveLimit::Upto(position) => {
            let nexts = segments.iter().skip(1);
            let before = nexts.take_while(|next| next.base <= position.plus(1));
            u32::try_from(before.count()).unwrap_or(u32::MAX)
        }
        // The last one is complete only once it has a successor.
        ArchiveLimit::KeepSegments(keep) => {
            let complete = segments.last().map_or(0, |last| last.sequence.saturating_sub(1));
            complete.saturating_sub(keep)
        }
    };
    last.min(most)
}

/// A segment to move, the one after it, and its length.
type SegmentToMove<'a> = (&'a SegmentFile, &'a SegmentFile, u64);

/// The segments to move: those behind `archived` up to `last`, and before them those that are
/// archived, but whose files an interrupted run has left.
fn planned<'a>(
    disk: &dyn Disk,
    segments: &'a [SegmentFile],
    archived: u32,
    last: u32,
) -> Result<Vec<SegmentToMove<'a>>, OpenError> {
    let mut planned = Vec::new();
    let with_next = segments.iter().zip(segments.iter().skip(1));
    let up_to_last = with_next.filter(|(segment, _)| segment.sequence <= last.max(archived));
    for (segment, next) in up_to_last.rev() {
        let path = &segment.path;
        // Files to be written to are those in the log's own folder.
        match disk.open(path, 0).and_then(|file| file.size()) {
            Ok(bytes) => planned.push((segment, next, bytes)),
            // The others before it are gone, too, because the first one is removed first.
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(io_error("open", path)(error)),
        }
    }
    planned.reverse();
    Ok(planned)
}

/// Archived segments whose stubs are lost or damaged.
fn without_stub<'a>(
    disk: &dyn Disk,
    segments: &'a [SegmentFile],
    archived: u32,
) -> Result<Vec<&'a SegmentFile>, OpenError> {
    let mut without = Vec::new();
    for segment in segments.iter().take_while(|segment| segment.sequence <= archived) {
        let path = &segment.path;
        if stubs::read_stub(disk, path).map_err(io_error("read the stub of", path))?.is_none() {
            without.push(segment);
        }
    }
    Ok(without)
}

fn report(identity: LogIdentity, place: &ArchivePlace, segments: &[SegmentFile]) -> ArchiveReport {
    let next = segments.iter().find(|segment| segment.sequence > place.upto);
    ArchiveReport {
        identity,
        folder: PathBuf::from(&place.path),
        moved: 0,
        bytes: 0,
        archived: u64::from(place.upto),
        upto: next.map_or(Position::START, |next| next.base.before()),
    }
}

/// Checks every checksum in a segment of the log `log`, and that `next`, the segment after it, goes
/// on from its records. Two copies of a log that went apart have segments of equal names, sizes and
/// headers: only the record that `next` begins with tells them apart. Answers whether there is such
/// a record.
fn verified(
    disk: &dyn Disk,
    log: LogIdentity,
    (segment, content): (&SegmentFile, &[u8]),
    next: &SegmentFile,
) -> Result<bool, ArchiveError> {
    let mut verifying = Verifying::nothing(disk);
    // The segment must be of this log.
    verifying.identity = Some(LogIdentity { epoch: Epoch::from_u64(0), ..log });
    verifying.begin_at(segment);
    verifying.content(segment, content, Some(next.base))?;
    verifying.must_be_whole().map_err(ArchiveError::Damaged)?;
    let header = Header::parse(content).map_err(|_| damaged(segment, "its header is damaged"))?;
    if !may_precede(header.identity, log) {
        return Err(damaged(segment, &foreign(header.identity, log)));
    }
    let Some(link) = listing::link(disk, next)? else { return Ok(false) };
    let events = next.base.get().saturating_sub(segment.base.get());
    let ends = chain::ends_as(content, &Head::of(&header), &link, events);
    ends.map(|()| true).map_err(|defect| {
        let what = format!("{}; the next one is {}", defect.what, next.path.display());
        damaged(segment, &what)
    })
}

/// Whether these are one segment, clustered or not.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let facts = |stub: SegmentStub| (stub.bytes(), stub.chain());
    let (one, other) = (SegmentStub::of(one).map(facts), SegmentStub::of(other).map(facts));
    one.is_some() && one == other
}

fn damaged(segment: &SegmentFile, what: &str) -> ArchiveError {
    OpenError::from(corruption(&segment.path, 0, what)).into()
}

fn of_log(error: ReadError) -> ArchiveError {
    match error {
        ReadError::Unavailable(why) => why.into(),
        ReadError::Corrupt(corruption) => OpenError::from(corruption).into(),
        other => Unavailable::Backend(std::sync::Arc::new(other)).into(),
    }
}
