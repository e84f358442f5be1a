//! Reading published events: the index says where they are, their frames say what they are.

use diptych_store::{
    Batch, BatchBuilder, CommitBatch, Direction, Filter, KeyedCommit, Limits, Position, Read,
    ReadCommits, ReadError, Tag, Timestamp, Tracking,
};

use crate::{
    catalog::{part::IndexPart, segment::SegmentBytes},
    disk::{is_resident, prefetch},
    error::{corruption, read_failed},
    format::{
        frame::{self, CONTROL, Frame, LAST},
        segment::Order,
    },
    index::NameQuery,
    report::Stats,
    shared::SharedState,
};

mod commits;
mod files;
pub(crate) mod follower;
mod names;

use commits::CommitReader;
use names::{count_names, type_names};

/// Where in a part to look, and the first thing to know about it.
type Range = (u32, u32);

/// Reads the published events of an open log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    shared: &'a SharedState,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(shared: &'a SharedState) -> Reader<'a> {
        Reader { shared }
    }

    pub(crate) fn read(self, filter: &Filter, read: &Read) -> Result<Batch, ReadError> {
        self.shared.check_open()?;
        filter.check(&self.shared.options().limits)?;
        let head = self.shared.head().position();
        let Some((low, high)) = BatchBuilder::range(read, head)? else {
            return Ok(BatchBuilder::nothing(read));
        };
        let mut batch = Filling {
            shared: self.shared,
            builder: match filter.is_everything() {
                true => BatchBuilder::with_capacity(expected(
                    read,
                    (low, high),
                    &self.shared.options().limits,
                )),
                false => BatchBuilder::new(),
            },
            limit: read.limit.min(self.shared.options().limits.batch_events),
            bytes: 0,
            last: None,
            ends_commit: None,
        };
        let catalog = self.shared.catalog();
        let wanted = NameQuery::of(filter);
        let range = (low, high);
        for within in catalog.within(self.shared.disk(), wanted, range, read.direction) {
            let (part, range) = within?;
            if filter.is_everything() && read.direction == Direction::Forwards {
                batch.fill_with_all(part, range)?;
            } else {
                batch.fill(part, range, filter, read.direction)?;
            }
            if batch.is_full() {
                break;
            }
        }
        let upto = batch.last.unwrap_or(match read.direction {
            Direction::Forwards => high,
            Direction::Backwards => low,
        });
        let is_end = upto == head || batch.ends_commit == Some(upto);
        let commit_end = match read.direction {
            Direction::Forwards if !is_end => {
                CommitReader::new(self.shared, &catalog).commit_end(upto)?
            }
            _ => upto,
        };
        Ok(batch.builder.finish(upto, commit_end))
    }

    pub(crate) fn commits(self, read: &ReadCommits) -> Result<CommitBatch, ReadError> {
        self.shared.check_open()?;
        // The head first: a catalog that is taken later holds everything published up to it.
        let head = self.shared.head().position();
        CommitReader::new(self.shared, &self.shared.catalog()).commits(read, head)
    }

    pub(crate) fn last(
        self,
        filter: &Filter,
        upto: Position,
    ) -> Result<Option<Position>, ReadError> {
        self.shared.check_open()?;
        filter.check(&self.shared.options().limits)?;
        let upto = upto.min(self.shared.head().position());
        self.shared.catalog().last(self.shared.disk(), filter, Position::new(1), upto)
    }

    pub(crate) fn count(self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.shared.check_open()?;
        let upto = upto.min(self.shared.head().position());
        self.shared.catalog().count(self.shared.disk(), tag, upto)
    }

    pub(crate) fn keyed(self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.shared.check_open()?;
        // The head first: a catalog that is taken later holds everything published up to it.
        let head = self.shared.head().position();
        let found = self.shared.catalog().key(self.shared.disk(), key, Position::new(1))?;
        Ok(found.filter(|commit| commit.last <= head))
    }

    pub(crate) fn tracked(self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.shared.check_open()?;
        let tracking = self.shared.tracking();
        Ok(tracking.get(source).map(|(tracking, _)| tracking.clone()))
    }

    pub(crate) fn types(self) -> Result<Vec<String>, ReadError> {
        self.shared.check_open()?;
        // The head first: a catalog that is taken later holds everything published up to it.
        let head = self.shared.head().position();
        type_names(self.shared.disk(), &self.shared.catalog(), head)
    }

    pub(crate) fn stats(self) -> Result<Stats, ReadError> {
        let shared = self.shared;
        shared.check_open()?;
        let head = shared.head().position();
        let (types, tag_keys) = count_names(shared.disk(), &shared.catalog(), head)?;
        let last = self.read(&Filter::everything(), &Read::backwards().limit(1))?;
        let files = files::files(shared);
        let files = files.map_err(|error| read_failed(&shared.folders().root, error))?;
        let head_now = shared.head();
        let why = head_now.ended().or_else(|| head_now.paused());
        let takes_no_commits = why.map(|why| why.to_string());
        Ok(Stats {
            identity: shared.identity(),
            head,
            segments: files.segments,
            segment_bytes: files.segment_bytes,
            archived_segments: files.archived_segments,
            archived_bytes: files.archived_bytes,
            archive: files.archive,
            index_bytes: files.index_bytes,
            allocated_bytes: files.allocated_bytes,
            types,
            tag_keys,
            sources: shared.tracking().len() as u64,
            last_recorded_at: last.get(0).map(|event| event.recorded_at()),
            maps: shared.maps().mapped() as u64,
            maps_limit: shared.maps().limit() as u64,
            open_files: shared.disk().open_files(),
            takes_no_commits,
        })
    }
}

/// How far ahead of a scan memory is prefetched, in bytes. The processor does that by itself, but
/// not beyond the end of a page.
const AHEAD: usize = 1024;
/// How far ahead in frames, where one does not lie behind the other.
const FRAMES_AHEAD: usize = 16;
/// Bytes of a frame that are prefetched, before any frame of the batch was read.
const FRAME: usize = 320;
/// Most bytes of a frame that are prefetched: beyond them the processor does so by itself.
const LARGE_FRAME: usize = 1024;

/// Number of events that a batch without a filter probably has: the most that it may have, unless
/// the events are larger than usual.
fn expected(read: &Read, (low, high): (Position, Position), limits: &Limits) -> usize {
    let range = usize::try_from(high.get() - low.get() + 1).unwrap_or(usize::MAX);
    range.min(read.limit).min(limits.batch_events).min(limits.batch_bytes / 64)
}

struct Filling<'a> {
    shared: &'a SharedState,
    builder: BatchBuilder,
    limit: usize,
    bytes: usize,
    /// The last event, once the batch is full with it.
    last: Option<Position>,
    /// The last event that ends a commit.
    ends_commit: Option<Position>,
}

impl Filling<'_> {
    fn is_full(&self) -> bool {
        self.last.is_some()
    }

    fn fill(
        &mut self,
        part: &IndexPart,
        range: Range,
        filter: &Filter,
        direction: Direction,
    ) -> Result<(), ReadError> {
        let room = self.limit - self.builder.len();
        let found: Vec<(u32, u32)> = part.ask(self.shared.disk(), |index| {
            let at = index.find(filter, range, direction, room);
            at.into_iter().filter_map(|at| Some((at, index.offset(at)?))).collect()
        })?;
        if found.is_empty() {
            return Ok(());
        }
        let (published, chunk) = self.open(part)?;
        let fetch = |place: Option<&(u32, u32)>, bytes| {
            let Some((_, offset)) = place else { return };
            prefetch(&published.bytes, *offset as usize, bytes);
        };
        prefetch::ask_for_frames(&published.bytes, found.iter().map(|(_, offset)| *offset));
        let mut likely = FRAME;
        found.iter().take(FRAMES_AHEAD).for_each(|place| fetch(Some(place), likely));
        for (number, &(at, offset)) in found.iter().enumerate() {
            fetch(found.get(number + FRAMES_AHEAD), likely);
            let frame = frame_at(part, &published, offset as usize)?;
            likely = frame.size().min(LARGE_FRAME);
            let position = part.first.plus(u64::from(at));
            self.push(part, &published, chunk, offset as usize, &frame, position)?;
            if self.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Every event of the range, frame after frame, without asking the index for each.
    fn fill_with_all(&mut self, part: &IndexPart, (low, high): Range) -> Result<(), ReadError> {
        let Some(start) = part.ask(self.shared.disk(), |index| index.offset(low))? else {
            return Ok(());
        };
        let (published, chunk) = self.open(part)?;
        if published.head.order == Order::Clustered {
            return self.fill_with_all_clustered(part, (low, high), &published, chunk);
        }
        let mut offset = start as usize;
        // Prefetches this batch, and the next one while the caller works on this one.
        let likely = self.shared.options().limits.batch_bytes.saturating_mul(2);
        prefetch::ask_for_all(&published.bytes, offset, likely);
        let mut position = part.first.plus(u64::from(low));
        let last = part.first.plus(u64::from(high));
        while position <= last {
            let ahead = offset + AHEAD;
            prefetch(&published.bytes, ahead, FRAME);
            let frame = frame_at(part, &published, offset)?;
            if !frame.has(CONTROL) {
                self.push(part, &published, chunk, offset, &frame, position)?;
                if self.is_full() {
                    break;
                }
                position = position.plus(1);
            }
            offset += frame.size();
        }
        Ok(())
    }

    /// Every event of the range of a clustered segment, where one does not lie behind the other.
    fn fill_with_all_clustered(
        &mut self,
        part: &IndexPart,
        (low, high): Range,
        published: &SegmentBytes,
        chunk: u32,
    ) -> Result<(), ReadError> {
        let room = u32::try_from(self.limit - self.builder.len()).unwrap_or(u32::MAX);
        let high = high.min(low.saturating_add(room.saturating_sub(1)));
        let offsets = part.ask(self.shared.disk(), |index| index.offsets(low, high))?;
        let offsets = offsets.unwrap_or_default();
        let mut position = part.first.plus(u64::from(low));
        let missing = |offset: &u32| !is_resident(&published.bytes, *offset as usize);
        if offsets.iter().step_by(offsets.len() / 4 + 1).any(missing) {
            prefetch::ask_for_all(&published.bytes, 0, published.bytes.len());
        }
        // Events of one log often have about one size.
        let mut likely = FRAME;
        for offset in offsets.iter().take(FRAMES_AHEAD) {
            prefetch(&published.bytes, *offset as usize, likely);
        }
        for (at, offset) in offsets.iter().enumerate() {
            if let Some(ahead) = offsets.get(at + FRAMES_AHEAD) {
                prefetch(&published.bytes, *ahead as usize, likely);
            }
            let offset = *offset as usize;
            let frame = frame_at(part, published, offset)?;
            likely = frame.size().min(LARGE_FRAME);
            self.push(part, published, chunk, offset, &frame, position)?;
            if self.is_full() {
                break;
            }
            position = position.plus(1);
        }
        Ok(())
    }

    fn open(&mut self, part: &IndexPart) -> Result<(SegmentBytes, u32), ReadError> {
        let published = part.segment.published(self.shared.disk());
        let published = published.map_err(|error| read_failed(&part.segment.path, error))?;
        let chunk = self.builder.chunk(published.bytes.clone());
        Ok((published, chunk))
    }

    #[inline]
    fn push(
        &mut self,
        part: &IndexPart,
        published: &SegmentBytes,
        chunk: u32,
        offset: usize,
        frame: &Frame<'_>,
        position: Position,
    ) -> Result<(), ReadError> {
        let here = part.segment.base.plus(u64::from(frame.position));
        if here != position || frame.has(CONTROL) {
            return Err(damaged(part, offset, "the index and the log disagree"));
        }
        let Some(content) = frame.content() else {
            return Err(damaged(part, offset, "a commit section is malformed"));
        };
        let size = content.len();
        // A batch takes at least one event, whatever its size.
        if self.bytes + size > self.shared.options().limits.batch_bytes && !self.builder.is_empty()
        {
            self.last = self.builder.last_position();
            return Ok(());
        }
        let end = offset + frame.size();
        let micros = published.head.base_time.as_micros().wrapping_add(frame.time as i64);
        let recorded_at = Timestamp::from_micros(micros);
        let (start, end) = ((end - size) as u32, end as u32);
        if let Err(error) = self.builder.push(position, recorded_at, chunk, start, end) {
            return Err(damaged(part, offset, &error.to_string()));
        }
        self.bytes += size;
        if frame.has(LAST) {
            self.ends_commit = Some(position);
        }
        if self.builder.len() == self.limit {
            self.last = Some(position);
        }
        Ok(())
    }
}

#[cold]
fn damaged(part: &IndexPart, offset: usize, what: &str) -> ReadError {
    corruption(&part.segment.path, offset as u64, what).into()
}

#[inline]
fn frame_at<'b>(
    part: &IndexPart,
    published: &'b SegmentBytes,
    offset: usize,
) -> Result<Frame<'b>, ReadError> {
    let bytes = published.bytes.get(offset..).unwrap_or(&[]);
    match frame::parse(bytes, published.head.checksum) {
        Ok(frame) => Ok(frame),
        Err(flaw) => Err(damaged(part, offset, flaw.text())),
    }
}
