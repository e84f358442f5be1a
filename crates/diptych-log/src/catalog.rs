//! All parts of the index of an open log, in order, each with the segment that it is about.
//!
//! Readers take a snapshot of the list and never wait for the writer. The list changes when a
//! part in memory is written out, when files are merged, and when a segment begins.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use diptych_store::{
    Direction, Filter, KeyedCommit, Position, ReadError, Tag, Timestamp,
    encoding::{Fields, Layout},
};
use parking_lot::RwLock;

use crate::{
    catalog::filter_file::{FilterSpan, SegmentFilterFile},
    disk::{Disk, prefetch},
    error::{corruption, read_failed},
    folder::derived,
    format::{
        chain::{self, Chain, Checkpoint},
        frame::{self, CONTROL, Frame, Link, SECTION, Section},
        frame_order,
        recovery::{self, FrameAt, ScanStart},
        segment::{self, Head, Order, Segment, SegmentBytes},
    },
    index::{
        Columns, Coverage, Index, IndexFile, Name, NameQuery, Newest, Seed, index_file,
        newest::Commit,
    },
};

pub(crate) mod filter_file;
mod within;

use within::Within;

/// The folders of a log.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) root: PathBuf,
    pub(crate) segments: PathBuf,
    pub(crate) index: PathBuf,
}

impl Folders {
    pub(crate) fn new(root: &Path) -> Folders {
        Folders {
            root: root.to_owned(),
            segments: root.join("segments"),
            index: root.join("index"),
        }
    }
}

/// The index of some consecutive events of one segment.
#[derive(Debug)]
pub(crate) struct IndexPart {
    pub(crate) segment: Arc<Segment>,
    pub(crate) first: Position,
    source: PartSource,
}

#[derive(Debug)]
enum PartSource {
    /// The index of the newest events, or of events whose index is about to be written to a file.
    Memory(Newest),
    /// In a file, which is read when it is first needed, and rebuilt if it is unusable.
    File {
        path: PathBuf,
        last: Position,
        /// The key of the hash of names, for a rebuild.
        seed: Seed,
        run: RwLock<Option<IndexFile>>,
    },
}

impl IndexPart {
    pub(crate) fn memory(segment: Arc<Segment>, columns: Columns) -> IndexPart {
        IndexPart {
            segment,
            first: columns.first,
            source: PartSource::Memory(Newest::new(columns)),
        }
    }

    pub(crate) fn loaded(segment: Arc<Segment>, path: PathBuf, run: IndexFile) -> IndexPart {
        let (first, last) = (run.first(), run.first().plus(u64::from(run.len())).before());
        let seed = run.seed();
        let source = PartSource::File { path, last, seed, run: RwLock::new(Some(run)) };
        IndexPart { segment, first, source }
    }

    pub(crate) fn file(
        segment: Arc<Segment>,
        folders: &Folders,
        (first, last): (Position, Position),
        seed: Seed,
    ) -> IndexPart {
        let path = folders.index.join(index_file::file_name(segment.sequence, first, last));
        IndexPart {
            segment,
            first,
            source: PartSource::File { path, last, seed, run: RwLock::new(None) },
        }
    }

    /// Number of events; 0 if the file of the part is not loaded.
    pub(crate) fn events(&self) -> u32 {
        match &self.source {
            PartSource::Memory(newest) => newest.columns().len(),
            PartSource::File { run, .. } => run.read().as_ref().map_or(0, IndexFile::len),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.source {
            PartSource::Memory(_) => None,
            PartSource::File { path, .. } => Some(path),
        }
    }

    /// Columns for the events that follow this part's.
    pub(crate) fn begin_after(&self, first: Position) -> Columns {
        match &self.source {
            PartSource::Memory(newest) => Columns::after(first, &newest.so_far()),
            PartSource::File { .. } => Columns::new(first),
        }
    }

    /// Adds a commit to a part in memory. It is deferred if `later` is set, or if earlier ones are
    /// still deferred.
    pub(crate) fn add(&self, commit: Commit, later: bool) {
        let PartSource::Memory(newest) = &self.source else { return };
        if later || newest.is_behind() {
            newest.add_later(commit);
        } else {
            newest.add(&commit);
        }
    }

    /// Whether there are deferred commits.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(&self.source, PartSource::Memory(newest) if newest.is_behind())
    }

    /// Adds the deferred commits.
    pub(crate) fn settle(&self) {
        if let PartSource::Memory(newest) = &self.source {
            newest.settle();
        }
    }

    /// Answers a question from the index, in memory or in its file.
    pub(crate) fn ask<R>(
        &self,
        disk: &dyn Disk,
        question: impl FnOnce(Index<'_>) -> R,
    ) -> Result<R, ReadError> {
        match &self.source {
            PartSource::Memory(newest) => Ok(question(Index::Memory(&newest.columns()))),
            PartSource::File { path, last, seed, run } => {
                if let Some(run) = &*run.read() {
                    return Ok(question(Index::File(run)));
                }
                let mut slot = run.write();
                if slot.is_none() {
                    *slot = Some(self.load(disk, path, *last, *seed)?);
                }
                match &*slot {
                    Some(run) => Ok(question(Index::File(run))),
                    None => Ok(question(Index::Memory(&Columns::new(self.first)))),
                }
            }
        }
    }

    fn load(
        &self,
        disk: &dyn Disk,
        path: &Path,
        last: Position,
        seed: Seed,
    ) -> Result<IndexFile, ReadError> {
        let published = self.segment.published(disk);
        let published = published.map_err(|error| read_failed(&self.segment.path, &error))?;
        let checksum = published.head.checksum;
        let found = derived::map_if_there(disk, path).map_err(|error| read_failed(path, &error))?;
        let link = self.segment.link(disk);
        let link = link.map_err(|error| read_failed(&self.segment.path, &error))?;
        let fits = found.and_then(IndexFile::parse).filter(|(run, coverage)| {
            run.first() == self.first
                && run.first().plus(u64::from(run.len())) == last.plus(1)
                && coverage.segment == self.segment.sequence
                && coverage.checksum == checksum
                && is_bound(run, coverage, &published, link)
        });
        if let Some((run, _)) = fits {
            return Ok(run);
        }
        let why = "index file is missing, damaged or of other records: built again";
        tracing::warn!(file = %path.display(), "{why}");
        let file = self.rebuild(last, seed, &published, link)?;
        let written = derived::write(disk, path, &file).and_then(|()| disk.map(path));
        // The bytes in memory are enough: a look-up need not wait until the disk works again.
        if let Err(error) = &written {
            tracing::warn!(file = %path.display(), %error, "index file cannot be written");
        }
        // After a failed write the damaged file may still have that name.
        let parsed = written.ok().and_then(IndexFile::parse).or_else(|| IndexFile::parse(file));
        let damaged = || corruption(&self.segment.path, 0, "the index just built is not whole");
        parsed.map(|(run, _)| run).ok_or_else(|| damaged().into())
    }

    /// The bytes of the part's file, rebuilt from the segment.
    fn rebuild(
        &self,
        last: Position,
        seed: Seed,
        SegmentBytes { head, bytes }: &SegmentBytes,
        link: Option<Link>,
    ) -> Result<Bytes, ReadError> {
        let chain = Chain::begin(head.seal);
        let mut built = Rebuilt::new(self.segment.base, (self.first, last), chain);
        let damaged = |offset, what: &str| corruption(&self.segment.path, offset, what);
        prefetch::ask_for_all(bytes, 0, bytes.len());
        let arrived = frame_order::in_arrival_order(bytes)
            .map_err(|error| damaged(error.offset, error.what))?;
        let offset = segment::HEADER as u64;
        let from = ScanStart { offset, next: 0, time: 0, checksum: arrived.header.checksum() };
        let frames = arrived.bytes.get(segment::HEADER..).unwrap_or(&[]);
        let recovered = recovery::recover(frames, from, |commit| built.add(commit))
            .map_err(|error| damaged(error.offset, error.what))?;
        if built.columns.first.plus(u64::from(built.columns.len())) != last.plus(1) {
            let what = "records are missing that were synced before the next segment began";
            return Err(damaged(recovered.end, what).into());
        }
        let proof = built.proof.map(|proof| match &arrived.offsets {
            None => (proof.offset, proof.chain),
            Some(_) => (proof.offset_clustered, proof.chain),
        });
        if let Some(offsets) = arrived.offsets {
            built.columns.move_to(self.segment.base, &offsets);
        }
        let (proof, chain) = match (proof, link) {
            (Some(proof), _) => proof,
            (None, Some(_)) => (0, built.chain),
            (None, None) => (0, sample(&built.columns, bytes, head)),
        };
        let coverage = Coverage {
            segment: self.segment.sequence,
            checksum: head.checksum,
            end: built.end,
            time: built.time,
            proof,
            chain,
            tracking: built.tracking,
        };
        Ok(Bytes::from(index_file::encode(&built.columns, &coverage, seed)))
    }

    /// The index file of a part that has one.
    pub(crate) fn run(&self, disk: &dyn Disk) -> Result<IndexFile, ReadError> {
        let run = self.ask(disk, |index| match index {
            Index::Memory(_) => None,
            Index::File(run) => Some(run.clone()),
        });
        let missing = || corruption(&self.segment.path, 0, "the part has no index file");
        run?.ok_or_else(|| missing().into())
    }
}

/// Whether an index file was made from the records of this segment.
pub(crate) fn is_bound(
    run: &IndexFile,
    coverage: &Coverage,
    SegmentBytes { head, bytes }: &SegmentBytes,
    link: Option<Link>,
) -> bool {
    let at_proof = usize::try_from(coverage.proof).ok().and_then(|proof| bytes.get(proof..));
    let chain = match (coverage.proof, link) {
        (proof @ 1.., _) => match at_proof.and_then(|bytes| Checkpoint::at(bytes, head)) {
            Some(checkpoint) => Some(checkpoint.chain),
            // A damaged checkpoint record does not make a whole index file unusable.
            None if head.order == Order::Arrival => chain::by_content(bytes, head, proof as usize),
            None => None,
        },
        (0, Some(link)) => Some(Chain::from_u64(link.chain)),
        (0, None) => Some(chain::sample(bytes, head, run.len(), |at| run.offset(at))),
    };
    chain == Some(coverage.chain)
}

fn sample(columns: &Columns, bytes: &[u8], head: &Head) -> Chain {
    let offset = |at: u32| columns.offsets.get(at as usize).copied();
    chain::sample(bytes, head, columns.len(), offset)
}

/// A checkpoint record that a scan found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    /// Its offset in the order of arrival.
    pub(crate) offset: u64,
    /// Its offset in the clustered segment.
    pub(crate) offset_clustered: u64,
    pub(crate) chain: Chain,
}

/// Columns of some events of a segment, from its frames.
pub(crate) struct Rebuilt {
    base: Position,
    last: Position,
    pub(crate) columns: Columns,
    pub(crate) tracking: frame::TrackingTable,
    /// Offset after the last frame that belongs to it.
    pub(crate) end: u64,
    /// Time of that frame.
    pub(crate) time: u64,
    /// When the last commit was recorded, as far as these frames tell.
    pub(crate) last_commit: Option<LastCommit>,
    /// The running checksum of all frames that were scanned, and of those before.
    pub(crate) chain: Chain,
    /// The first checkpoint record behind the events.
    pub(crate) proof: Option<Proof>,
    /// Bytes of the control records so far.
    control_bytes: u64,
}

/// When the last commit was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastCommit {
    /// In this segment, this long after its base time.
    Here(u64),
    /// In a segment before.
    Before(Timestamp),
}

impl Rebuilt {
    /// For the events `first..=last` of a segment whose first position is `base`; `chain` is the
    /// running checksum of what stands before the first frame that will be added.
    pub(crate) fn new(
        base: Position,
        (first, last): (Position, Position),
        chain: Chain,
    ) -> Rebuilt {
        Rebuilt {
            base,
            last,
            columns: Columns::new(first),
            tracking: frame::TrackingTable::new(),
            end: segment::HEADER as u64,
            time: 0,
            last_commit: None,
            chain,
            proof: None,
            control_bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, commit: &[FrameAt<'_>]) {
        let (Some(first), Some(last)) = (commit.first(), commit.last()) else { return };
        let position = self.base.plus(u64::from(first.frame.position));
        commit.iter().for_each(|placed| self.sum(placed, position > self.last));
        if position > self.last {
            return;
        }
        let events = commit.iter().filter(|placed| !placed.frame.has(CONTROL));
        let head = position.plus(events.clone().count() as u64).before();
        if position >= self.columns.first {
            events.for_each(|placed| add_event(&mut self.columns, placed.offset, &placed.frame));
        }
        (self.end, self.time) = (last.offset + last.frame.size() as u64, last.frame.time);
        let section = first.frame.section().unwrap_or_default();
        self.remember(section, position, head, &first.frame);
    }

    /// Adds a frame to the running checksum. The first checkpoint record behind the events becomes
    /// the proof.
    fn sum(&mut self, FrameAt { offset, frame }: &FrameAt<'_>, is_behind: bool) {
        if frame.has(CONTROL) {
            if is_behind && self.proof.is_none() && is_checkpoint(frame) {
                let offset_clustered = segment::HEADER as u64 + self.control_bytes;
                let (offset, chain) = (*offset, self.chain);
                self.proof = Some(Proof { offset, offset_clustered, chain });
            }
            self.control_bytes += frame.size() as u64;
        }
        self.chain.add_frame(frame);
    }

    fn remember(&mut self, section: Section, first: Position, last: Position, frame: &Frame<'_>) {
        if let Some(key) = section.key
            && first >= self.columns.first
        {
            let commit = KeyedCommit { first, last, digest: key.digest };
            self.columns.keys.insert(key.name, commit);
        }
        if let Some(tracking) = section.tracking {
            self.tracking.insert(tracking.source.clone(), (tracking, last));
        }
        let begin = frame.has(CONTROL).then(|| frame.content().and_then(frame::take_begin));
        if let Some((time, table)) = begin.flatten() {
            self.last_commit = Some(LastCommit::Before(time));
            self.tracking = table;
        } else if !frame.has(CONTROL) || frame.has(SECTION) {
            self.last_commit = Some(LastCommit::Here(frame.time));
        }
    }
}

fn is_checkpoint(frame: &Frame<'_>) -> bool {
    frame.content().and_then(frame::take_checkpoint).is_some()
}

fn add_event(columns: &mut Columns, offset: u64, frame: &Frame<'_>) {
    let content = frame.content().unwrap_or(&[]);
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    match Layout::of(content) {
        Ok(layout) => {
            let event = Fields::new(content, layout);
            columns.push(offset, event.event_type(), event.tags());
        }
        // The event keeps its position; reading it reports the damage.
        Err(_) => columns.push(offset, "", std::iter::empty()),
    }
}

/// The parts, in order, which cover every accepted position; and the groups of their segments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) parts: Vec<Arc<IndexPart>>,
    pub(crate) filters: Vec<FilterSpan>,
}

impl Catalog {
    /// A catalog of these parts and groups, both in order.
    pub(crate) fn new(parts: Vec<Arc<IndexPart>>, filters: Vec<Arc<SegmentFilterFile>>) -> Catalog {
        let filters = filters.into_iter().map(|file| FilterSpan::new(file, &parts)).collect();
        Catalog { parts, filters }
    }

    /// A catalog of these parts, with the groups of this one.
    pub(crate) fn with(&self, parts: Vec<Arc<IndexPart>>) -> Catalog {
        Catalog::new(parts, self.filters.iter().map(|span| span.file.clone()).collect())
    }

    /// The parts that may have a match for `wanted` in `low..=high`.
    pub(crate) fn within<'a>(
        &'a self,
        disk: &'a dyn Disk,
        wanted: NameQuery<'a>,
        (low, high): (Position, Position),
        direction: Direction,
    ) -> Within<'a> {
        let start = self.parts.partition_point(|part| part.first <= low).saturating_sub(1);
        let end = self.parts.partition_point(|part| part.first <= high);
        let range = (low, high);
        Within { catalog: self, disk, wanted, range, direction, start, end, span: None }
    }

    /// The last event in `low..=high` that matches.
    pub(crate) fn last(
        &self,
        disk: &dyn Disk,
        filter: &Filter,
        low: Position,
        high: Position,
    ) -> Result<Option<Position>, ReadError> {
        let wanted = NameQuery::of(filter);
        for within in self.within(disk, wanted, (low, high), Direction::Backwards) {
            let (part, range) = within?;
            let found =
                part.ask(disk, |index| index.find(filter, range, Direction::Backwards, 1))?;
            if let Some(at) = found.first() {
                return Ok(Some(part.first.plus(u64::from(*at))));
            }
        }
        Ok(None)
    }

    /// Number of events at or below `upto` that carry the tag.
    pub(crate) fn count(
        &self,
        disk: &dyn Disk,
        tag: &Tag,
        upto: Position,
    ) -> Result<u64, ReadError> {
        let mut count = 0;
        let wanted = NameQuery::One(Name::Tag(tag.as_str()));
        let range = (Position::new(1), upto);
        for within in self.within(disk, wanted, range, Direction::Forwards) {
            let (part, (_, high)) = within?;
            let rank =
                part.ask(disk, |index| index.postings(tag.as_str()).rank(high.saturating_add(1)))?;
            count += rank as u64;
        }
        Ok(count)
    }

    /// The commit with this key. Searches from the newest part down to the part that holds
    /// `down_to`.
    pub(crate) fn key(
        &self,
        disk: &dyn Disk,
        name: &str,
        down_to: Position,
    ) -> Result<Option<KeyedCommit>, ReadError> {
        let (wanted, range) = (NameQuery::One(Name::Key(name)), (down_to, Position::MAX));
        for within in self.within(disk, wanted, range, Direction::Backwards) {
            let (part, _) = within?;
            if let Some(commit) = part.ask(disk, |index| index.key(name))? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// A catalog with `new` in place of the consecutive parts `old`.
    pub(crate) fn replaced(&self, old: &[Arc<IndexPart>], new: Arc<IndexPart>) -> Catalog {
        let mut parts = Vec::with_capacity(self.parts.len());
        let mut new = Some(new);
        for part in &self.parts {
            if old.iter().any(|old| Arc::ptr_eq(old, part)) {
                parts.extend(new.take());
            } else {
                parts.push(part.clone());
            }
        }
        self.with(parts)
    }
}
