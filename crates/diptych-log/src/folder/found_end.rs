//! The end of a log whose published head is missing.
//!
//! The file `head` can be removed by mistake while a process has the log open. That process makes
//! it again, but only with one of its next commits. Until then readers find the end in the last
//! segment. The subtle thing is that a commit there may be whole and not durable yet, so it need
//! not be published. The reader itself syncs the file before it takes such commits for published:
//! from then on no open loses them.

use std::{io::ErrorKind, path::Path, thread, time::Duration};

use crate::{
    disk::Disk,
    error::{OpenError, corruption, io_error},
    folder::{
        Folders,
        head_file::{self, HEAD_FILE},
        hold,
        listing::{self, SegmentFile},
        manifest,
    },
    format::{
        frame::{self, CONTROL, SYNCED},
        head::PublishedHead,
        recovery::{self, ScanStart},
        segment::{self, BadHeader, Header},
    },
};

/// Attempts while the process that has the log open writes a batch or begins a segment, and the
/// pause between them.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// Where the whole commits of a segment end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentEnd {
    /// Behind the last whole commit.
    pub(crate) whole: PublishedHead,
    /// Behind the last commit that a later record proves to be durable; `None` if no record does.
    proven: Option<PublishedHead>,
    /// Whether an unfinished commit follows.
    torn: bool,
}

/// Where a log ends for readers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VisibleEnd {
    pub(crate) head: PublishedHead,
    /// Whether it is the published head. An end that was found instead may be a batch ahead of the
    /// head that is published next.
    pub(crate) is_published: bool,
}

/// The published head, or where the log ends without it; `None` if there is no log, or no commit in
/// it yet.
///
/// # Errors
/// Also if the log ends before the place up to which its manifest promises it.
pub(crate) fn visible_end(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<Option<VisibleEnd>, OpenError> {
    let (head, is_published) = match head_file::open_for_reading(disk, folders)? {
        Some(file) => {
            let path = folders.root.join(HEAD_FILE);
            (Some(head_file::read_head(&*file).map_err(io_error("read", &path))?), true)
        }
        None => (find(disk, folders, None)?, false),
    };
    Ok(head.map(|head| VisibleEnd { head, is_published }))
}

/// Finds where a log without its published head ends; `None` if it has no commit yet. The end is
/// not before `known`, an end that was published before.
///
/// # Errors
/// Also if the log ends before the place up to which its manifest promises it.
pub(crate) fn find(
    disk: &dyn Disk,
    folders: &Folders,
    known: Option<PublishedHead>,
) -> Result<Option<PublishedHead>, OpenError> {
    for attempt in 1..=ATTEMPTS {
        let is_last = attempt == ATTEMPTS;
        let found = last_end(disk, folders, known);
        let promised = manifest::read(disk, &folders.root)?.map(|manifest| manifest.active);
        let reaches = |end: &PublishedHead| {
            promised.is_none_or(|active| place(end) >= (active.sequence, active.end))
        };
        match found {
            Ok(Some(end)) if !end.torn && reaches(&end.whole) => return Ok(Some(end.whole)),
            // A batch is being written, or there was no space for all of it. The process that
            // writes it may still cut it off.
            Ok(Some(end)) if is_last && reaches(&end.whole) => {
                let is_held =
                    matches!(hold::lock_shared(disk, &folders.root), Err(OpenError::Held { .. }));
                let proven = end.proven.or(known).filter(|_| is_held);
                return Ok(Some(proven.unwrap_or(end.whole)));
            }
            Ok(Some(_)) if is_last => {
                let what = "the log ends before the place that its manifest promises";
                return Err(corruption(&folders.segments, 0, what).into());
            }
            Ok(None) => return Ok(None),
            Err(error) if is_last => return Err(error),
            _ => thread::sleep(PAUSE),
        }
    }
    Ok(None)
}

fn place(head: &PublishedHead) -> (u32, u64) {
    (head.segment, head.end)
}

/// Where the commits of the last segment end that has any.
fn last_end(
    disk: &dyn Disk,
    folders: &Folders,
    known: Option<PublishedHead>,
) -> Result<Option<SegmentEnd>, OpenError> {
    let mut listed = listing::segments(disk, folders)?;
    while let Some(last) = listed.pop() {
        let known = known.filter(|known| known.segment == last.sequence);
        if let Some(end) = end_in(disk, &last, known)? {
            if known.is_none_or(|known| known.end != end.whole.end) {
                sync(disk, &last.path)?;
            }
            return Ok(Some(end));
        }
    }
    Ok(None)
}

fn sync(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    let file = disk.open_read(path, 0).map_err(io_error("open", path))?;
    match file.sync() {
        // Nothing in it was written lately.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(()),
        synced => synced.map_err(io_error("sync", path)),
    }
}

/// Where the whole commits of the last segment end, which is not before `known`, an end in that
/// segment. `None` if the segment does not count: it has no whole header, or it has no commit and
/// is not the first segment.
pub(crate) fn end_in(
    disk: &dyn Disk,
    last: &SegmentFile,
    known: Option<PublishedHead>,
) -> Result<Option<SegmentEnd>, OpenError> {
    let SegmentFile { sequence, base, path } = last;
    let file = disk.open_read(path, 0).map_err(io_error("open", path))?;
    let size = file.size().map_err(io_error("look at", path))?;
    let read = |offset: u64, end: u64| {
        let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        file.read_at(offset, length).map_err(io_error("read", path))
    };
    let header = match Header::parse(&read(0, segment::HEADER as u64)?) {
        Ok(header) if header.is_last(*sequence, *base) => header,
        Err(BadHeader::Newer(format)) => {
            return Err(OpenError::Newer { file: path.display().to_string(), format });
        }
        _ if size <= segment::HEADER as u64 => return Ok(None),
        _ => return Err(corruption(path, 0, "the header of the segment is damaged").into()),
    };
    let head = |end: u64, next: u32| PublishedHead {
        position: base.plus(u64::from(next)).before(),
        end,
        identity: header.identity,
        segment: *sequence,
    };
    let start = segment::HEADER as u64;
    let (offset, next) = known.map_or((start, 0), |known| {
        let next = (known.position.get() + 1).saturating_sub(base.get());
        (known.end, u32::try_from(next).unwrap_or(u32::MAX))
    });
    let from = ScanStart { offset, next, time: 0, checksum: header.checksum() };
    let (mut last_whole, mut proven) = ((offset, next), None);
    let bytes = read(offset, size)?;
    let found = recovery::recover(&bytes, from, |commit| {
        if commit.first().is_some_and(|first| first.frame.has(SYNCED)) {
            proven = Some(last_whole);
        }
        if let Some(last) = commit.last() {
            // A control record has the position of the next event.
            let next = last.frame.position + u32::from(!last.frame.has(CONTROL));
            last_whole = (last.offset + last.frame.size() as u64, next);
        }
    });
    let found = found.map_err(|error| corruption(path, error.offset, error.what))?;
    if found.end == start && *sequence > 1 {
        return Ok(None);
    }
    // The first record of a batch that is written in part may be unfinished itself.
    let behind = usize::try_from(found.end - offset).ok().and_then(|end| bytes.get(end..));
    let begun = behind.and_then(|behind| behind.first_chunk()).and_then(frame::peek);
    if begun.is_some_and(|begun| begun.flags & SYNCED != 0 && begun.position == found.next) {
        proven = Some((found.end, found.next));
    }
    let proven = proven.map(|(end, next)| head(end, next));
    Ok(Some(SegmentEnd { whole: head(found.end, found.next), proven, torn: found.torn }))
}
