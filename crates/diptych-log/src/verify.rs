//! Verifying a whole log by reading it. Changes nothing.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use diptych_store::{Corruption, LogIdentity, Position, Timestamp};

use crate::{
    catalog::{
        filter_file,
        rebuild::{LastCommit, Rebuilt},
    },
    disk::Disk,
    error::{OpenError, RESTORE, VerifyError, io_error, is_unreachable_archive},
    folder::{
        Folders, derived,
        head_file::HEAD_FILE,
        hold,
        listing::{self, SegmentFile},
        manifest::MANIFEST,
        mark::{self, FolderKind},
    },
    format::{
        chain::Chain,
        frame::{CONTROL, Link},
        frame_order::{self, ArrivalOrder},
        head::PublishedHead,
        recovery::{self, ScanStart},
        segment::{self, BadHeader, Header, may_precede},
    },
    index::{Columns, IndexFile, Name, index_file},
    open::{self, evidence::Evidence},
    options::LogOptions,
    report::{Damage, VerifyReport},
};

mod archived;
mod filter_check;
mod index_ends;
pub(crate) mod scrub;
pub(crate) mod scrubs;
mod sums;

use filter_check::SegmentFilterCheck;
use index_ends::{IndexEnds, IndexFileCheck};
use sums::Sums;

/// Checks every checksum, the order of positions and times, and every index file against its
/// segment. Changes nothing, and needs no right to write. Meanwhile no process can open the log to
/// append to it, if the file system can lock folders. `progress` gets the bytes read so far and the
/// total.
///
/// An unfinished commit at the end of the last segment is not damage: a killed process leaves one.
/// [`scrub`](crate::scrub()) verifies a log that another process has open.
///
/// # Errors
/// [`VerifyError::Damaged`] with the first damage of each file; [`VerifyError::Open`] if the log
/// cannot be read.
pub fn verify(
    dir: impl AsRef<Path>,
    options: &LogOptions,
    progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    verify_from(dir.as_ref(), options, Scope::Everything, progress)
}

/// As [`verify`], but archived segments ([`Log::archive`](crate::Log::archive)) are not read, and
/// their index files are not checked. So it needs no archive.
///
/// # Errors
/// As [`verify`].
pub fn verify_without_archive(
    dir: impl AsRef<Path>,
    options: &LogOptions,
    progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    verify_from(dir.as_ref(), options, Scope::WithoutArchive, progress)
}

/// The segments that are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everything,
    WithoutArchive,
}

fn verify_from(
    root: &Path,
    options: &LogOptions,
    scope: Scope,
    mut progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    let folders = Folders::new(root);
    let disk = &*hold::pin(&*options.disk, &folders.root)?;
    if !has_log(disk, &folders)? {
        return Err(hold::no_log(&folders.root).into());
    }
    let _lock = hold::lock_shared(disk, &folders.root)?;
    let mut verifying = Verifying::new(disk, &folders)?;
    let mut segments = listing::segments(disk, &folders)?;
    if scope == Scope::WithoutArchive {
        verifying.skip_archived(&mut segments);
    }
    if let Some(end) = verifying.backup {
        segments.retain(|segment| segment.sequence <= end.segment);
    }
    let all = verifying.bytes_in_all(&segments)?;
    let mut segments = segments.into_iter().peekable();
    while let Some(segment) = segments.next() {
        verifying.segment(&segment, segments.peek().map(|next| next.base))?;
        progress(verifying.bytes, all);
    }
    verifying.leftover_index();
    verifying.end_of_backup(&folders);
    verifying.end_of_log();
    if verifying.damage.is_empty() {
        // A log that an open would refuse is not in order, even if no file is damaged.
        open::check(disk, &folders, options)?;
    }
    verifying.finish()
}

/// Where the backup ends, if the folder has one, and otherwise what the log knows about its end.
fn known_end(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<(Option<PublishedHead>, Evidence), OpenError> {
    Ok(match mark::kind(disk, &folders.root)? {
        FolderKind::Log => (None, Evidence::left_in(disk, &folders.root)?),
        FolderKind::Backup(end) => (Some(end), Evidence::default()),
    })
}

/// Whether the folder has any file of a log, even if it has no segments.
fn has_log(disk: &dyn Disk, folders: &Folders) -> Result<bool, OpenError> {
    let Folders { root, segments, index } = folders;
    let names = |dir: &Path| disk.list(dir).map_err(io_error("list", dir));
    let mut there = names(root)?.into_iter();
    let has_file = there.any(|name| [HEAD_FILE, MANIFEST].contains(&name.as_str()));
    Ok(has_file || !names(segments)?.is_empty() || !names(index)?.is_empty())
}

/// A verification that goes through the segments, in order.
#[derive(Clone)]
pub(crate) struct Verifying<'a> {
    disk: &'a dyn Disk,
    /// Where the backup ends; the verification ignores everything behind that in its folder.
    backup: Option<PublishedHead>,
    evidence: Evidence,
    /// The segment that was read last, and where the whole commits in it end; `None` if it is
    /// damaged.
    end: Option<(PathBuf, PublishedHead)>,
    runs: Vec<IndexFileCheck>,
    groups: Vec<SegmentFilterCheck>,
    pub(crate) identity: Option<LogIdentity>,
    /// The segment that was verified last, and the link that the next segment must have.
    before: Option<(u32, Link)>,
    /// Segments without a mark in a group, each with the path of that group file.
    unmarked: Vec<(u32, PathBuf)>,
    /// The position and time that the next segment must continue from.
    next: Position,
    time: i64,
    events: u64,
    commits: u64,
    checked_segments: u64,
    /// Those of them that were not read.
    skipped: u64,
    index_files: u64,
    bytes: u64,
    damage: Vec<Damage>,
}

impl<'a> Verifying<'a> {
    fn new(disk: &'a dyn Disk, folders: &Folders) -> Result<Verifying<'a>, OpenError> {
        let (backup, evidence) = known_end(disk, folders)?;
        let (mut runs, mut groups) = (Vec::new(), Vec::new());
        let dir = &folders.index;
        for name in disk.list(dir).map_err(io_error("list", dir))? {
            if let Some((segment, first, last)) = index_file::parse_file_name(&name) {
                let path = folders.index.join(&name);
                runs.push(IndexFileCheck { segment, first, last, path });
            } else if let Some(span) = filter_file::parse_file_name(&name) {
                groups.push(SegmentFilterCheck::read(disk, folders.index.join(&name), span)?);
            }
        }
        Ok(Verifying { backup, evidence, runs, groups, ..Verifying::nothing(disk) })
    }

    /// A verification that has read nothing yet, and checks no index files.
    pub(crate) fn nothing(disk: &'a dyn Disk) -> Verifying<'a> {
        Verifying {
            disk,
            backup: None,
            evidence: Evidence::default(),
            end: None,
            runs: Vec::new(),
            groups: Vec::new(),
            identity: None,
            before: None,
            unmarked: Vec::new(),
            next: Position::new(1),
            time: i64::MIN,
            events: 0,
            commits: 0,
            checked_segments: 0,
            skipped: 0,
            index_files: 0,
            bytes: 0,
            damage: Vec::new(),
        }
    }

    /// Treats the segments before this one as verified.
    pub(crate) fn begin_at(&mut self, segment: &SegmentFile) {
        self.checked_segments = u64::from(segment.sequence).saturating_sub(1);
        self.next = segment.base;
    }

    /// Takes the damage that was found so far.
    ///
    /// # Errors
    /// If damage was found.
    pub(crate) fn must_be_whole(&mut self) -> Result<(), Vec<Damage>> {
        match std::mem::take(&mut self.damage) {
            none if none.is_empty() => Ok(()),
            damage => Err(damage),
        }
    }

    fn bytes_in_all(&self, segments: &[SegmentFile]) -> Result<u64, OpenError> {
        let paths = segments.iter().map(|segment| &segment.path);
        let sizes = paths.map(|path| match self.disk.open_read(path, 0) {
            // It is reported when it is read.
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok(0),
            file => file.map_err(io_error("open", path))?.size().map_err(io_error("look at", path)),
        });
        sizes.sum()
    }

    fn damaged(&mut self, file: &Path, offset: u64, what: impl Into<String>) {
        let (file, what, advice) = (file.to_owned(), what.into(), RESTORE.to_owned());
        self.damage.push(Damage { file, offset, what, advice });
    }

    fn segment(&mut self, segment: &SegmentFile, next: Option<Position>) -> Result<(), OpenError> {
        let path = &segment.path;
        let file = match self.disk.open_read(path, 0) {
            // It is archived, and missing there.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.unreadable(segment, next, &error);
                return Ok(());
            }
            file => file.map_err(io_error("open", path))?,
        };
        let mut size = file.size().map_err(io_error("look at", path))?;
        let last_of_backup = self.backup.filter(|end| end.segment == segment.sequence);
        if let Some(end) = last_of_backup {
            size = size.min(end.end);
        }
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let bytes = match file.read_stored(0, length) {
            Ok(bytes) => bytes,
            Err(error) if is_unreachable_archive(&error) => {
                return Err(io_error("read", path)(error));
            }
            Err(error) => {
                self.unreadable(segment, next, &error);
                return Ok(());
            }
        };
        self.stub_of(segment, &bytes)?;
        self.content(segment, &bytes, next.or(last_of_backup.map(|end| end.position.plus(1))))
    }

    fn unreadable(&mut self, segment: &SegmentFile, next: Option<Position>, error: &io::Error) {
        self.damaged(&segment.path, 0, format!("it cannot be read: {error}"));
        self.checked_segments += 1;
        self.skip(segment, next);
    }

    /// Verifies the bytes of a segment. `next` is the position after its last event, if that is
    /// known.
    pub(crate) fn content(
        &mut self,
        segment: &SegmentFile,
        bytes: &[u8],
        next: Option<Position>,
    ) -> Result<(), OpenError> {
        let SegmentFile { sequence, base, path } = segment;
        self.checked_segments += 1;
        if u64::from(*sequence) != self.checked_segments {
            let missing = self.checked_segments;
            self.damaged(path, 0, format!("segment {missing} before it is missing"));
            self.checked_segments = u64::from(*sequence);
        }
        self.bytes += bytes.len() as u64;
        let header = match Header::parse(bytes) {
            Ok(header) if header.is_of(*sequence, *base) => header,
            Err(BadHeader::Newer(format)) => {
                return Err(OpenError::Newer { file: path.display().to_string(), format });
            }
            // The header of the last segment may be unfinished: then it never had a frame.
            _ if next.is_none() && bytes.len() <= segment::HEADER => return Ok(()),
            _ => {
                self.damaged(path, 0, "the header of the segment is damaged");
                self.skip(segment, next);
                return Ok(());
            }
        };
        if let Some(before) = self.identity.filter(|before| !may_precede(*before, header.identity))
        {
            let here = header.identity;
            let what = format!("the segment is of {here}, and those before it are of {before}");
            self.damaged(path, 16, what);
        }
        self.identity = Some(header.identity);
        match frame_order::in_arrival_order(bytes) {
            Ok(arrived) => self.frames(segment, &header, &arrived, next)?,
            Err(error) => {
                self.damaged(path, error.offset, error.what);
                self.skip(segment, next);
            }
        }
        Ok(())
    }

    /// Skips a damaged segment. The next segment is checked against the position in its own name.
    /// The index files of the damaged segment are not checked.
    fn skip(&mut self, listed: &SegmentFile, next: Option<Position>) {
        self.next = next.unwrap_or(self.next);
        self.end = None;
        self.before = None;
        self.runs.retain(|run| run.segment != listed.sequence);
    }

    fn frames(
        &mut self,
        listed: &SegmentFile,
        header: &Header,
        arrived: &ArrivalOrder<'_>,
        next: Option<Position>,
    ) -> Result<(), OpenError> {
        let path = &listed.path;
        if header.base != self.next || header.base_time.as_micros() < self.time {
            self.damaged(path, 40, format!("it does not continue from position {}", self.next));
        }
        let first = header.base;
        let seal = arrived.header.checksum();
        let mut built = Rebuilt::new(first, (first, Position::MAX), Chain::begin(seal));
        let mut sums = Sums::begin(seal);
        let mine = self.runs.iter().filter(|run| run.segment == header.sequence);
        let ends = IndexEnds::of(self.disk, mine);
        let mut ends = ends.map_err(|(path, error)| io_error("read", path)(error))?;
        let offset = segment::HEADER as u64;
        let from = ScanStart { offset, next: 0, time: 0, checksum: arrived.header.checksum() };
        let (mut commits, mut malformed) = (0, None);
        let frames = arrived.bytes.get(segment::HEADER..).unwrap_or(&[]);
        let recovered = recovery::recover(frames, from, |commit| {
            sums.add(commit);
            built.add(commit);
            ends.pass(&built);
            let events = commit.iter().filter(|placed| !placed.frame.has(CONTROL)).count();
            commits += u64::from(events > 0);
            let whole = |content| diptych_store::encoding::Layout::of(content).is_ok();
            let broken = commit.iter().find(|placed| {
                !placed.frame.has(CONTROL) && !placed.frame.content().is_some_and(whole)
            });
            malformed = malformed.or(broken.map(|placed| arrived.place_of(placed)));
        });
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                self.damaged(path, error.offset, error.what);
                self.skip(listed, next);
                return Ok(());
            }
        };
        if let Some(offset) = malformed {
            self.damaged(path, offset, "a record is whole, but holds no event");
        }
        self.commits += commits;
        self.events += u64::from(recovered.next);
        self.next = first.plus(u64::from(recovered.next));
        let (position, end) = (self.next.before(), recovered.end);
        let (identity, segment) = (header.identity, header.sequence);
        self.end = Some((path.clone(), PublishedHead { position, end, identity, segment }));
        // This is the time of the last commit, not of the last frame: a segment can begin with the
        // time of a commit that was lost.
        match built.last_commit {
            Some(LastCommit::Here(since)) => {
                let since = i64::try_from(since).unwrap_or(i64::MAX);
                self.time = header.base_time.as_micros().saturating_add(since);
            }
            Some(LastCommit::Before(_)) | None => {}
        }
        if next.is_some_and(|next| next != self.next) || (next.is_some() && recovered.torn) {
            self.damaged(path, recovered.end, "records are missing before the next segment");
        }
        self.chained(listed, &sums, recovered.end);
        self.index_of(header, recovered.end, &mut built.columns, (arrived, &sums, &ends))
    }

    /// Checks the running checksums in the records of this segment, and its link to the segment
    /// before.
    fn chained(&mut self, listed: &SegmentFile, sums: &Sums, end: u64) {
        let SegmentFile { sequence, path, .. } = listed;
        if let Some(offset) = sums.wrong() {
            self.damaged(path, offset, "this checkpoint record does not fit the records before it");
        }
        let before = self.before.filter(|(before, _)| before + 1 == *sequence);
        if let Some(((_, found), says)) = before.zip(sums.link())
            && found != says
        {
            let what = "it continues other records than those of the segment before: one of the \
                        two segments is from another copy of the log";
            self.damaged(path, segment::HEADER as u64, what);
        }
        if sums.link().is_some() {
            let is_of = |(unmarked, _): &(u32, PathBuf)| unmarked + 1 == *sequence;
            let marked = self.unmarked.iter().filter(|unmarked| is_of(unmarked));
            for path in marked.map(|(_, path)| path.clone()).collect::<Vec<_>>() {
                self.index_damaged(&path, "it does not agree with the log");
            }
        }
        self.before = Some((*sequence, Link { chain: sums.chain().to_u64(), bytes: end }));
    }

    /// Compares every index file of the segment with the result of the scan.
    ///
    /// A crash can leave index files for the order of arrival beside a clustered segment. Such a
    /// file is in order if it fits the order of arrival.
    fn index_of(
        &mut self,
        header: &Header,
        end: u64,
        scanned: &mut Columns,
        (arrived, sums, ends): (&ArrivalOrder<'_>, &Sums, &IndexEnds),
    ) -> Result<(), OpenError> {
        let of_arrival = scanned.offsets.clone();
        let mine = |run: &IndexFileCheck| run.segment == header.sequence;
        let (runs, others) = std::mem::take(&mut self.runs).into_iter().partition(mine);
        self.runs = others;
        let runs: Vec<IndexFileCheck> = runs;
        for listed in runs {
            self.index_files += 1;
            let path = &listed.path;
            // If the file only cannot be read now, the advice to remove it would be wrong.
            let bytes = derived::map_if_there(self.disk, path).map_err(io_error("read", path))?;
            let bytes = bytes.unwrap_or_default();
            let Some((run, coverage)) = IndexFile::parse(bytes.clone()) else {
                // The log rebuilds a file of an older format when it needs it.
                if index_file::evidence(&bytes).is_none() {
                    self.index_damaged(path, "it is not a whole index file");
                }
                continue;
            };
            let count = listed.last.get().wrapping_sub(listed.first.get()).wrapping_add(1);
            let left_behind = coverage.checksum == arrived.header.checksum();
            let wrong_place = run.first() != listed.first
                || u64::from(run.len()) != count
                || coverage.segment != header.sequence
                || !left_behind && coverage.checksum != header.checksum();
            scanned.offsets = match &arrived.offsets {
                Some(offsets) if !left_behind => offsets.clone(),
                _ => of_arrival.clone(),
            };
            if wrong_place {
                self.index_damaged(path, "it covers another part of the log than its name says");
            } else if coverage.end > end {
                let what = format!("records up to byte {} were durable and are gone", coverage.end);
                self.damaged(path, end, what);
            } else if scanned.slice(run.first(), run.len()).as_ref() != Some(&run.columns())
                || !run.finds_each_name()
                || !ends.agree(&coverage)
            {
                self.index_damaged(path, "it does not agree with the log");
            } else {
                let skipped = (run.first().get() - header.base.get()) as usize;
                let offsets = of_arrival.get(skipped..).unwrap_or(&[]);
                if !sums.bind(&run, &coverage, arrived, offsets) {
                    self.index_damaged(path, "it is bound to other records than those of the log");
                }
            }
        }
        self.groups_of(header, scanned, sums.chain());
        Ok(())
    }

    /// Checks the groups of a segment. A group may have a name that the segment does not have, but
    /// must not leave out a name of the segment.
    fn groups_of(&mut self, header: &Header, scanned: &Columns, chain: Chain) {
        let of =
            |group: &&SegmentFilterCheck| (group.first..=group.last).contains(&header.sequence);
        let mut wrong = Vec::new();
        for SegmentFilterCheck { first, path, group, .. } in self.groups.iter().filter(of) {
            let Some(group) = group else { continue };
            let bit = header.sequence - first;
            let mark = group.mark(bit);
            let chain = if scanned.len() == 0 { 0 } else { chain.to_u64() };
            if mark == Some(0) && chain != 0 {
                // This is correct only if an older version wrote the next segment, which `chained`
                // checks.
                self.unmarked.push((header.sequence, path.clone()));
            }
            let types = scanned.type_names.iter().map(|name| Name::Type(name));
            let tags = scanned.tags.keys().map(|name| Name::Tag(name));
            let keys = scanned.keys.keys().map(|name| Name::Key(name));
            let mut names = types.chain(tags).chain(keys);
            let all = names.all(|name| group.find_name(name) >> bit & 1 == 1);
            let fits = [Some(0), Some(chain)].contains(&mark);
            if !all || !fits || group.first != *first {
                wrong.push(path.clone());
            }
        }
        for path in wrong {
            self.index_damaged(&path, "it does not agree with the log");
        }
    }

    fn index_damaged(&mut self, path: &Path, what: &str) {
        self.damage.push(Damage {
            file: path.to_owned(),
            offset: 0,
            what: what.to_owned(),
            advice: "remove the file: the log rebuilds it when it needs it".to_owned(),
        });
    }

    fn leftover_index(&mut self) {
        for listed in std::mem::take(&mut self.groups) {
            self.index_files += 1;
            if listed.group.is_none() && !listed.is_older {
                self.index_damaged(&listed.path, "it is not a whole group file");
            }
        }
        for listed in std::mem::take(&mut self.runs) {
            let what = format!("segment {}, which it covers, is missing", listed.segment);
            self.damaged(&listed.path, 0, what);
        }
    }

    /// Checks that the segments of a backup end where its mark promises.
    fn end_of_backup(&mut self, folders: &Folders) {
        let Some(end) = self.backup.filter(|_| self.damage.is_empty()) else { return };
        let found = (self.checked_segments, self.next.before(), self.identity);
        if found != (u64::from(end.segment), end.position, Some(end.identity)) {
            let what = format!(
                "the backup should end at position {} of segment {}, {}",
                end.position, end.segment, end.identity
            );
            self.damaged(&folders.segments, 0, what);
        }
    }

    /// Checks the end of the log against the evidence beside it. If a log was cut off where a
    /// commit ends, its segments alone do not show the loss.
    fn end_of_log(&mut self) {
        let Some((path, found)) = self.end.take() else { return };
        if let Some(what) = self.evidence.durable_loss(&found) {
            self.damaged(&path, found.end, what);
        }
    }

    fn finish(self) -> Result<VerifyReport, VerifyError> {
        if !self.damage.is_empty() {
            return Err(VerifyError::Damaged(self.damage));
        }
        let identity = self.identity.ok_or_else(|| {
            OpenError::from(Corruption {
                place: "the only segment".to_owned(),
                what: "its header was never finished".to_owned(),
                advice: "open the log: it begins anew, because it never had a commit".to_owned(),
            })
        })?;
        Ok(VerifyReport {
            identity,
            events: self.events,
            commits: self.commits,
            segments: self.checked_segments - self.skipped,
            skipped_segments: self.skipped,
            index_files: self.index_files,
            bytes: self.bytes,
            last_recorded_at: (self.time != i64::MIN).then(|| Timestamp::from_micros(self.time)),
        })
    }
}
