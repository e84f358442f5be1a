//! Verifying a log that is open and written to, at a bounded rate.
//!
//! The subtle thing is that files are replaced and removed meanwhile: clustering puts a segment
//! into another order, and index files are merged. So a segment that looks damaged is verified
//! again if one of its files has changed since. Damage counts only if the files stayed as they
//! were.
//!
//! Derived files are mapped, and a map is read as fast as the disk can. So each of them is read at
//! the rate first, which brings it to memory, and verified then.

use std::{
    io::{self, ErrorKind},
    path::Path,
    time::{Duration, Instant},
};

use diptych_store::{Position, Unavailable};

use super::{IndexFileCheck, SegmentFilterCheck, Verifying, known_end};
use crate::{
    catalog::filter_file,
    disk::Disk,
    error::{OpenError, VerifyError, io_error, is_unreachable_archive},
    folder::{
        Folders, archive, derived, found_end, hold,
        listing::{self, SegmentFile},
        mark::{self, FolderKind},
    },
    format::{
        head::PublishedHead,
        segment::{self, Header, Order},
    },
    index::{IndexFile, index_file},
    options::LogOptions,
    report::VerifyReport,
};

/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// How far the reading may fall behind its rate and still catch up.
const BEHIND: Duration = Duration::from_secs(1);
/// How often a segment is verified while its files change, how often it is read after an error, and
/// the pause before the next time.
const ATTEMPTS: u32 = 8;
const READ_ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Verifies a log that another process may have open, up to the commit that is published when the
/// scrub begins. It reads at most `bytes_per_second` of segments, index files and segment filters
/// (0 counts as 1).
///
/// It checks what [`verify`](crate::verify()) checks, apart from the records behind that commit. It
/// takes no lock and changes nothing, and the writer goes on meanwhile. It needs as much memory as
/// one segment. `progress` gets the bytes read so far and the total.
///
/// Use [`verify`](crate::verify()) for a log that no process has open: only it knows whether
/// commits are missing at the end.
///
/// # Errors
/// [`VerifyError::Damaged`] with the first damage of each file, or why it could not be read.
pub fn scrub(
    dir: impl AsRef<Path>,
    options: &LogOptions,
    bytes_per_second: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    let folders = Folders::new(dir.as_ref());
    let disk = &*hold::pin(&*options.disk, &folders.root)?;
    let end = published_end(disk, &folders)?;
    let mut sleep = |pause| {
        std::thread::sleep(pause);
        true
    };
    let mut pace = Pace::new(bytes_per_second, &mut sleep);
    let report = Scrubbing::new(disk, &folders, end)?.run(&mut pace, &mut progress)?;
    report.ok_or_else(|| is_closed().into())
}

/// Where the log ends for readers.
fn published_end(disk: &dyn Disk, folders: &Folders) -> Result<PublishedHead, OpenError> {
    if let FolderKind::Backup(end) = mark::kind(disk, &folders.root)? {
        return Ok(end);
    }
    let end = found_end::visible_end(disk, folders)?;
    end.map(|end| end.head).ok_or_else(|| hold::no_log(&folders.root))
}

/// The rate at which a scrub reads.
pub(crate) struct Pace<'a> {
    bytes_per_second: u64,
    begun: Instant,
    bytes: u64,
    /// Waits; answers whether the scrub should go on.
    wait: &'a mut dyn FnMut(Duration) -> bool,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(
        bytes_per_second: u64,
        wait: &'a mut dyn FnMut(Duration) -> bool,
    ) -> Pace<'a> {
        let bytes_per_second = bytes_per_second.max(1);
        Pace { bytes_per_second, begun: Instant::now(), bytes: 0, wait }
    }

    fn chunk(&self) -> u64 {
        CHUNK_BYTES.min(self.bytes_per_second.div_ceil(8))
    }

    /// Counts bytes that were read, and waits as long as the rate demands. Answers whether the
    /// scrub should go on.
    fn keep(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
        let elapsed = self.begun.elapsed();
        if let Some(late) = elapsed.checked_sub(due + BEHIND) {
            // Otherwise a pause of the machine would be followed by a burst.
            self.begun += late;
        }
        (self.wait)(due.saturating_sub(elapsed))
    }
}

/// The files of one segment, to see whether they have changed.
#[derive(PartialEq, Eq)]
struct FilesOfSegment {
    header: Vec<u8>,
    index: Vec<String>,
}

/// A scrub that goes through the segments, in order.
pub(crate) struct Scrubbing<'a> {
    folders: &'a Folders,
    /// The log ends here for this scrub.
    end: PublishedHead,
    found: Verifying<'a>,
}

impl<'a> Scrubbing<'a> {
    pub(crate) fn new(
        disk: &'a dyn Disk,
        folders: &'a Folders,
        end: PublishedHead,
    ) -> Result<Scrubbing<'a>, OpenError> {
        // A damaged manifest is an error, although the scrub does not need it.
        known_end(disk, folders)?;
        Ok(Scrubbing { folders, end, found: Verifying::nothing(disk) })
    }

    /// Verifies everything up to the end; answers `None` if it was stopped.
    pub(crate) fn run(
        mut self,
        pace: &mut Pace<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<VerifyReport>, VerifyError> {
        let Some(groups) = self.groups(pace)? else { return Ok(None) };
        // A group that is not whole may have been removed while it was opened.
        self.found.groups = groups.into_iter().filter(|group| group.group.is_some()).collect();
        let mut segments = listing::segments(self.found.disk, self.folders)?;
        segments.retain(|segment| segment.sequence <= self.end.segment);
        let all = self.found.bytes_in_all(&segments)?;
        let after = self.end.position.plus(1);
        let next = segments.iter().skip(1).map(|next| next.base).chain([after]);
        for (segment, next) in segments.iter().zip(next) {
            if !self.segment(segment, next, pace)? {
                return Ok(None);
            }
            progress(self.found.bytes, all);
        }
        if !self.damaged_groups(pace)? {
            return Ok(None);
        }
        self.end_of_scrub();
        self.found.finish().map(Some)
    }

    /// Verifies a segment with its index files, again if one of them changes meanwhile.
    fn segment(
        &mut self,
        segment: &SegmentFile,
        next: Position,
        pace: &mut Pace<'_>,
    ) -> Result<bool, OpenError> {
        let is_last = segment.sequence == self.end.segment;
        for attempt in 1.. {
            let before = self.files_of(segment)?;
            let Some(bytes) = self.read(segment, pace)? else { return Ok(false) };
            let index = before.index.iter().map(|name| self.folders.index.join(name));
            for derived in index.chain([archive::stub_of(&segment.path)]) {
                if !self.read_ahead(&derived, pace)? {
                    return Ok(false);
                }
            }
            let mut looked = self.found.clone();
            looked.runs = self.index_files(segment, &before)?;
            let may_pass = bytes.is_err() && attempt < READ_ATTEMPTS;
            match bytes {
                Ok(bytes) => {
                    // It was completed and clustered after the scrub began, so it may have more
                    // events.
                    let has_grown = is_last && is_clustered(&bytes);
                    looked.stub_of(segment, &bytes)?;
                    looked.content(segment, &bytes, (!has_grown).then_some(next))?;
                }
                Err(error) => looked.unreadable(segment, Some(next), &error),
            }
            let is_whole = looked.damage.len() == self.found.damage.len();
            let is_settled = attempt == ATTEMPTS || self.files_of(segment)? == before;
            if is_whole || is_settled && !may_pass {
                self.found = looked;
                break;
            }
            if !(pace.wait)(PAUSE) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The index files of a segment that are about records before the end.
    fn index_files(
        &self,
        segment: &SegmentFile,
        files: &FilesOfSegment,
    ) -> Result<Vec<IndexFileCheck>, OpenError> {
        let mut runs = Vec::new();
        for name in &files.index {
            let Some((sequence, first, last)) = index_file::parse_file_name(name) else { continue };
            let path = self.folders.index.join(name);
            let run = IndexFileCheck { segment: sequence, first, last, path };
            if is_clustered(&files.header) || !self.is_behind_end(segment, &run)? {
                runs.push(run);
            }
        }
        Ok(runs)
    }

    /// Whether an index file of the last segment covers records that came after the end.
    fn is_behind_end(
        &self,
        segment: &SegmentFile,
        run: &IndexFileCheck,
    ) -> Result<bool, OpenError> {
        if segment.sequence < self.end.segment {
            return Ok(false);
        }
        let bytes = derived::map_if_there(self.found.disk, &run.path);
        let bytes = bytes.map_err(io_error("read", &run.path))?.unwrap_or_default();
        // The record that binds the index file comes after the records that it covers.
        let covers = IndexFile::parse(bytes).map(|(_, of)| of.end.max(of.proof + 1));
        Ok(run.last > self.end.position || covers.is_some_and(|covers| covers > self.end.end))
    }

    fn files_of(&self, segment: &SegmentFile) -> Result<FilesOfSegment, OpenError> {
        let dir = &self.folders.index;
        let mut index = self.found.disk.list(dir).map_err(io_error("list", dir))?;
        index.retain(|name| {
            index_file::parse_file_name(name).is_some_and(|(of, ..)| of == segment.sequence)
        });
        index.sort();
        // A segment whose header cannot be read is damage, and has no content to compare.
        let file = self.found.disk.open_read(&segment.path, 0);
        let header = file.and_then(|file| file.read_at(0, segment::HEADER)).unwrap_or_default();
        Ok(FilesOfSegment { header, index })
    }

    /// Reads a segment at the pace. Answers `None` if the scrub was stopped, or why the segment
    /// cannot be read.
    fn read(
        &self,
        segment: &SegmentFile,
        pace: &mut Pace<'_>,
    ) -> Result<Option<io::Result<Vec<u8>>>, OpenError> {
        let path = &segment.path;
        let file = match self.found.disk.open_read(path, 0) {
            // It is gone, from the folder or from the archive.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                return Ok(Some(Err(error)));
            }
            file => file.map_err(io_error("open", path))?,
        };
        let mut size = file.size().map_err(io_error("look at", path))?;
        let header = file.read_at(0, segment::HEADER).unwrap_or_default();
        if segment.sequence == self.end.segment && !is_clustered(&header) {
            size = size.min(self.end.end);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        while (bytes.len() as u64) < size {
            let at = bytes.len() as u64;
            let chunk = pace.chunk().min(size - at);
            match file.read_stored(at, chunk as usize) {
                Ok(read) if read.is_empty() => break,
                Ok(read) => bytes.extend_from_slice(&read),
                Err(error) if is_unreachable_archive(&error) => {
                    return Err(io_error("read", path)(error));
                }
                Err(error) => return Ok(Some(Err(error))),
            }
            if !pace.keep(chunk) {
                return Ok(None);
            }
        }
        Ok(Some(Ok(bytes)))
    }

    /// Reads a derived file at the pace, if it is there. Answers `false` if the scrub was stopped.
    fn read_ahead(&self, path: &Path, pace: &mut Pace<'_>) -> Result<bool, OpenError> {
        let file = derived::if_there(self.found.disk.open_read(path, 0));
        let Some(file) = file.map_err(io_error("open", path))? else { return Ok(true) };
        let size = file.size().map_err(io_error("look at", path))?;
        let mut at = 0;
        while at < size {
            let chunk = pace.chunk().min(size - at);
            file.read_at(at, chunk as usize).map_err(io_error("read", path))?;
            at += chunk;
            if !pace.keep(chunk) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The groups, without those that were found to be whole before; `None` if the scrub was
    /// stopped.
    fn groups(&self, pace: &mut Pace<'_>) -> Result<Option<Vec<SegmentFilterCheck>>, OpenError> {
        let (disk, dir) = (self.found.disk, &self.folders.index);
        let mut groups = Vec::new();
        for name in disk.list(dir).map_err(io_error("list", dir))? {
            let Some(span) = filter_file::parse_file_name(&name) else { continue };
            let path = dir.join(&name);
            if self.found.groups.iter().any(|known| known.path == path) {
                continue;
            }
            if !self.read_ahead(&path, pace)? {
                return Ok(None);
            }
            groups.push(SegmentFilterCheck::read(disk, path, span)?);
        }
        Ok(Some(groups))
    }

    /// Names the groups that are there and not whole. Answers `false` if the scrub was stopped.
    fn damaged_groups(&mut self, pace: &mut Pace<'_>) -> Result<bool, OpenError> {
        let Some(groups) = self.groups(pace)? else { return Ok(false) };
        self.found.index_files += self.found.groups.len() as u64;
        let broken = |group: &SegmentFilterCheck| group.group.is_none() && !group.is_older;
        for group in groups.into_iter().filter(broken) {
            // Again, because it may have been removed between its listing and its opening.
            let bytes = derived::map_if_there(self.found.disk, &group.path);
            if bytes.map_err(io_error("read", &group.path))?.is_some() {
                self.found.index_damaged(&group.path, "it is not a whole group file");
            }
        }
        Ok(true)
    }

    /// Checks that the segments reach the end.
    fn end_of_scrub(&mut self) {
        if !self.found.damage.is_empty() {
            return;
        }
        let (segments, upto) = (self.found.checked_segments, self.found.next.before());
        if segments != u64::from(self.end.segment) || upto < self.end.position {
            let PublishedHead { position, segment, .. } = self.end;
            let what = format!("the log should reach position {position} in segment {segment}");
            self.found.damaged(&self.folders.segments, 0, what);
        }
    }
}

/// Whether this is the header of a clustered segment.
fn is_clustered(bytes: &[u8]) -> bool {
    Header::parse(bytes).is_ok_and(|header| header.order == Order::Clustered)
}

/// The error for a scrub that the end of the log stopped.
pub(crate) fn is_closed() -> OpenError {
    let cause = io::Error::other(Unavailable::Closed);
    OpenError::Io { what: "the scrub was stopped".to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use diptych_store::{Append, RawEvent, Tag};

    use super::*;
    use crate::{archive::ArchiveLimit, log::Log, options::Background};

    #[test]
    fn the_pace_waits_as_long_as_the_rate_demands() {
        let mut waits = Vec::new();
        let mut wait = |pause| {
            waits.push(pause);
            waits.len() < 4
        };
        let mut pace = Pace::new(1_000, &mut wait);
        let goes_on = [(); 4].map(|()| pace.keep(25_000));
        assert_eq!(goes_on, [true, true, true, false]);
        let seconds = |at: u64| Duration::from_secs(at);
        for (wait, due) in waits.iter().zip([25, 50, 75, 100].map(seconds)) {
            // The machine may have been slow meanwhile.
            assert!(*wait <= due && *wait > due - seconds(20), "{wait:?} of {due:?}");
        }
    }

    /// Once only segments counted, and index and group files were read as fast as the disk could.
    #[test]
    fn each_file_that_a_scrub_reads_counts() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes: 2048,
            index_bytes: 700,
            background: Background::Inline,
            ..LogOptions::default()
        };
        let (root, to) = (dir.path().join("log"), dir.path().join("archive"));
        let log = Log::open(&root, options.clone()).unwrap();
        for number in 0..400_u64 {
            let event = RawEvent::new("counted", "1").tag(Tag::new("number", number));
            log.blocking().commit(Append::event(event)).unwrap();
        }
        let report = log.archive(&to, ArchiveLimit::KeepSegments(3), |_, _| {}).unwrap();
        assert!(report.moved > 3, "{report:?}");
        log.close().unwrap();

        let folders = Folders::new(&root);
        let disk = &*hold::pin(&*options.disk, &folders.root).unwrap();
        let read = |bytes_per_second: u64, upto: usize| {
            let mut waits = Vec::new();
            let mut wait = |pause| {
                waits.push(pause);
                waits.len() < upto
            };
            let mut pace = Pace::new(bytes_per_second, &mut wait);
            let end = published_end(disk, &folders).unwrap();
            let scrubbing = Scrubbing::new(disk, &folders, end).unwrap();
            let report = scrubbing.run(&mut pace, &mut |_, _| {}).unwrap();
            (report, pace.bytes, waits)
        };
        let (report, bytes, waits) = read(100, usize::MAX);
        let of_files = |folder: &Path| -> u64 {
            let files = std::fs::read_dir(folder).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
        };
        let derived = of_files(&folders.index) + of_files(&folders.segments)
            - listing::segments(disk, &folders).unwrap().iter().map(in_folder).sum::<u64>();
        let segments = report.unwrap().bytes;
        assert!(derived > segments / 2, "{derived} bytes beside {segments} of segments");
        assert_eq!(bytes, segments + derived);
        // The machine may have been slow meanwhile.
        let (last, due) = (*waits.last().unwrap(), Duration::from_secs(bytes / 100));
        assert!(last > due - Duration::from_secs(60), "{last:?} of {due:?}");
        // It can be stopped in each file. At this rate, none of them takes two reads.
        const FAST: u64 = 1 << 20;
        let files = read(FAST, usize::MAX).2.len();
        for upto in 1..files {
            assert_eq!(read(FAST, upto).0, None, "{upto} of {files}");
        }
    }

    /// The size of a segment in the folder of the log.
    fn in_folder(segment: &SegmentFile) -> u64 {
        std::fs::metadata(&segment.path).map_or(0, |file| file.len())
    }

    #[test]
    fn a_late_reader_does_not_catch_up_at_full_speed() {
        let mut waits = Vec::new();
        let mut wait = |pause| {
            waits.push(pause);
            true
        };
        let mut pace = Pace::new(1_000, &mut wait);
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        pace.begun = long_ago;
        assert!(pace.keep(1_000) && pace.keep(100_000));
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[1] > Duration::from_secs(80), "{waits:?}");
    }
}
