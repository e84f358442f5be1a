//! Copies the segments of a log, up to where a commit ends.
//!
//! The bytes that the mark of the target promises are never overwritten. Each segment is written
//! under a temporary name, synced, read again and renamed. If it replaces the last segment of an
//! older backup, it begins with the bytes of the older segment. So a copy can stop anywhere. The
//! next call continues where it stopped.

use std::path::{Path, PathBuf};

use diptych_store::{Epoch, LogIdentity, Position};

use crate::{
    backup::{SealedSegments, target_error},
    disk::Disk,
    error::{BackupError, OpenError, corruption, io_error},
    folder::{
        Folders, durable_file,
        listing::{self, SegmentFile},
    },
    format::{
        frame_order,
        head::PublishedHead,
        segment::{self, Header, Order, may_precede},
    },
    verify::Verifying,
};

pub(crate) struct Copy<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) from: &'a Folders,
    pub(crate) to: &'a Folders,
    /// Where the copy is to end.
    pub(crate) end: PublishedHead,
    /// The end that the mark of the target promises, if the target has a mark.
    pub(crate) held: Option<PublishedHead>,
    pub(crate) sealed: SealedSegments,
}

/// The work that was done, in segments and in bytes that were written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CopyCounts {
    pub(crate) linked: u64,
    pub(crate) copied: u64,
    pub(crate) kept: u64,
    pub(crate) bytes: u64,
}

/// The work that a segment needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Nothing: an earlier backup promises the whole segment, and it still has its length.
    Keep,
    /// The segment is there, but no mark promises all of it yet: it is verified.
    Check,
    /// The segment is linked or copied.
    Make,
}

struct PlannedSegment {
    segment: SegmentFile,
    /// Number of bytes that the target must have in this segment.
    bytes: u64,
    /// The position after its last event.
    next: Position,
    task: Task,
}

impl Copy<'_> {
    /// Copies the missing segments. `progress` gets the bytes done so far and the total.
    ///
    /// Afterwards every segment is durable in the target. Each was verified, either by this call or
    /// before the mark of the target was written.
    pub(crate) fn run(
        &self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<CopyCounts, BackupError> {
        let plan = self.plan()?;
        self.remove_leftovers(&plan)?;
        let to_do = || plan.iter().filter(|planned| planned.task != Task::Keep);
        // A damaged mark can promise any number of bytes.
        let all = to_do().fold(0_u64, |all, planned| all.saturating_add(planned.bytes));
        let (mut done, mut copied) = (0_u64, CopyCounts::default());
        copied.kept = (plan.len() - to_do().count()) as u64;
        let mut verifying = Verifying::nothing(self.disk);
        // Each segment must belong to the log that is copied.
        let of_log = LogIdentity { epoch: Epoch::from_u64(0), ..self.end.identity };
        verifying.identity = Some(of_log);
        let mut follows = false;
        for planned in &plan {
            let before = std::mem::replace(&mut follows, planned.task != Task::Keep);
            if !follows {
                continue;
            }
            if !before {
                verifying.begin_at(&planned.segment);
            }
            self.one(planned, &mut verifying, &mut copied)?;
            done = done.saturating_add(planned.bytes);
            progress(done, all);
        }
        let last = verifying.identity.filter(|last| !may_precede(*last, self.end.identity));
        if let Some(last) = last {
            let what = segment::foreign(last, self.end.identity);
            return Err(OpenError::from(corruption(&self.from.segments, 0, what)).into());
        }
        let dir = &self.to.segments;
        self.disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        Ok(copied)
    }

    /// Compares source and target, and refuses a target that is not an older state of the log.
    fn plan(&self) -> Result<Vec<PlannedSegment>, BackupError> {
        let mut source = listing::segments(self.disk, self.from)?;
        source.retain(|segment| segment.sequence <= self.end.segment);
        for (expected, found) in (1..=self.end.segment).zip(source.iter().map(Some).chain([None])) {
            if found.is_none_or(|found| found.sequence != expected) {
                let what = format!("segment {expected} is missing");
                return Err(OpenError::from(corruption(&self.from.segments, 0, what)).into());
            }
        }
        let there = listing::segments(self.disk, self.to)?;
        if let Some(strange) = there.iter().find(|there| {
            there.sequence <= self.promised() && !source.iter().any(|from| same_name(from, there))
        }) {
            return Err(self.another_history(&strange.path));
        }
        let nexts = source.iter().skip(1).map(|segment| segment.base);
        let nexts: Vec<_> = nexts.chain([self.end.position.plus(1)]).collect();
        let planned = source.into_iter().zip(nexts).map(|(segment, next)| {
            let bytes = match segment.sequence == self.end.segment {
                true => self.end.end,
                false => size(self.disk, &segment.path)?,
            };
            let found = there.iter().find(|there| same_name(&segment, there));
            let task = match found {
                Some(found) => self.task(&segment, found, bytes)?,
                None => Task::Make,
            };
            Ok(PlannedSegment { segment, bytes, next, task })
        });
        planned.collect()
    }

    /// The last segment that the mark of the target promises, at least in part.
    fn promised(&self) -> u32 {
        self.held.map_or(0, |held| held.segment)
    }

    fn task(
        &self,
        from: &SegmentFile,
        there: &SegmentFile,
        bytes: u64,
    ) -> Result<Task, BackupError> {
        let same = size(self.disk, &there.path)? == bytes
            && alike(&self.header(from)?, &self.header(there)?);
        match (same, from.sequence < self.promised()) {
            (true, true) => Ok(Task::Keep),
            (true, false) => Ok(Task::Check),
            (false, false) => Ok(Task::Make),
            (false, true) => Err(self.another_history(&there.path)),
        }
    }

    fn header(&self, segment: &SegmentFile) -> Result<Vec<u8>, OpenError> {
        listing::read(self.disk, segment, segment::HEADER as u64)
    }

    /// The bytes of a segment in the order that the target needs. Two segments must be in the order
    /// of arrival: the last one, and the one in which the older backup ends. Only in that order are
    /// the bytes before an end the same as when the end was there. The log may have clustered these
    /// segments since then.
    fn read(&self, segment: &SegmentFile, bytes: u64) -> Result<Vec<u8>, OpenError> {
        let content = listing::read_stored(self.disk, segment, bytes)?;
        let is_end = segment.sequence == self.end.segment || segment.sequence == self.promised();
        let clustered =
            Header::parse(&content).is_ok_and(|header| header.order == Order::Clustered);
        if !(is_end && clustered) {
            return Ok(content);
        }
        let whole = listing::read_stored(self.disk, segment, u64::MAX)?;
        // If the segment is damaged, its verification reports the place.
        let Ok(arrived) = frame_order::arrival_bytes(&whole) else { return Ok(whole) };
        let mut arrived = arrived.into_owned();
        arrived.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(arrived)
    }

    fn another_history(&self, path: &Path) -> BackupError {
        let problem = format!(
            "holds something else than the log in {}, or is damaged: verify it, keep it, and back \
             up into another folder",
            path.display()
        );
        target_error(&self.to.root, problem)
    }

    /// Removes files that an unfinished copy left and this copy does not use.
    fn remove_leftovers(&self, plan: &[PlannedSegment]) -> Result<(), BackupError> {
        let dir = &self.to.segments;
        for name in self.disk.list(dir).map_err(io_error("list", dir))? {
            let ours = name.ends_with(".tmp") || segment::parse_file_name(&name).is_some();
            let wanted = plan.iter().any(|planned| planned.segment.path.ends_with(&name));
            if ours && !wanted {
                let path = dir.join(&name);
                self.disk.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn one(
        &self,
        planned: &PlannedSegment,
        verifying: &mut Verifying<'_>,
        copied: &mut CopyCounts,
    ) -> Result<(), BackupError> {
        let PlannedSegment { segment, bytes, next, task } = planned;
        let target = self.to.segments.join(segment.path.file_name().unwrap_or_default());
        let here = SegmentFile { path: target.clone(), ..segment.clone() };
        let checked = if *task == Task::Check { &here } else { segment };
        let content = self.read(checked, *bytes)?;
        verifying.content(checked, &content, Some(*next))?;
        verifying.must_be_whole().map_err(BackupError::Damaged)?;
        if *task == Task::Check {
            copied.kept += 1;
            return Ok(());
        }
        if segment.sequence == self.promised() {
            self.must_go_on(&here, &content)?;
        }
        let sealed = segment.sequence < self.end.segment;
        if sealed && self.sealed == SealedSegments::Link && self.link(segment, &target, &content)? {
            copied.linked += 1;
        } else {
            self.write(&target, &content)?;
            copied.copied += 1;
            copied.bytes += content.len() as u64;
        }
        Ok(())
    }

    /// Checks that the new bytes of a segment begin with the bytes that the older backup promises.
    fn must_go_on(&self, older: &SegmentFile, content: &[u8]) -> Result<(), BackupError> {
        let Some(held) = self.held else { return Ok(()) };
        let names = self.disk.list(&self.to.segments);
        let names = names.map_err(io_error("list", &self.to.segments))?;
        if !names.iter().any(|name| older.path.ends_with(name)) {
            return Ok(());
        }
        let older_content = listing::read(self.disk, older, held.end)?;
        match content.starts_with(&older_content) {
            true => Ok(()),
            false => Err(self.another_history(&older.path)),
        }
    }

    /// Gives a sealed segment a second name in the target. Returns `false` if that is not possible,
    /// or if the file was replaced after it was verified: the log may have clustered it meanwhile.
    fn link(&self, from: &SegmentFile, to: &Path, content: &[u8]) -> Result<bool, OpenError> {
        let temporary = self.temporary(to);
        if self.disk.link(&from.path, &temporary).is_err() {
            return Ok(false);
        }
        let linked = SegmentFile { path: temporary.clone(), ..from.clone() };
        if !content.starts_with(&self.header(&linked)?) {
            self.disk.remove(&temporary).map_err(io_error("remove", &temporary))?;
            return Ok(false);
        }
        // A log has synced its segments. If the source folder is a copy, its files may be unsynced.
        let synced = self.disk.open(&temporary, 0).and_then(|file| file.sync());
        synced.map_err(io_error("sync", &temporary))?;
        self.disk.rename(&temporary, to).map_err(io_error("rename", &temporary))?;
        Ok(true)
    }

    /// Writes the file under a temporary name, syncs it, and reads it again before it gets its own
    /// name.
    fn write(&self, to: &Path, content: &[u8]) -> Result<(), OpenError> {
        durable_file::put(self.disk, to, content).map_err(io_error("write", to))
    }

    fn temporary(&self, path: &Path) -> PathBuf {
        let temporary = path.with_extension("tmp");
        // An earlier attempt may have left a file with this name.
        let _ = self.disk.remove(&temporary);
        temporary
    }
}

/// Whether both headers are of the same segment. One may be clustered and the other not.
fn alike(one: &[u8], other: &[u8]) -> bool {
    let parsed = |bytes| Header::parse(bytes).map(|header| header.in_order(Order::Arrival));
    one == other || parsed(one).is_ok_and(|header| parsed(other) == Ok(header))
}

fn same_name(one: &SegmentFile, other: &SegmentFile) -> bool {
    (one.sequence, one.base) == (other.sequence, other.base)
}

fn size(disk: &dyn Disk, path: &Path) -> Result<u64, OpenError> {
    let file = disk.open_read(path, 0).map_err(io_error("open", path))?;
    file.size().map_err(io_error("look at", path))
}
