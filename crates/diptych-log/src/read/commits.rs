//! Where commits end, and whole commits with their keys and tracking.
//!
//! The last frame of each commit has the flag LAST, and its first frame has the section with key
//! and tracking. In the order of arrival a commit is a run of frames. In a clustered segment the
//! index says where the frame of each position is, and control records stand first, each with the
//! position of the event that follows it.

use std::{collections::VecDeque, sync::Arc};

use diptych_store::{
    CommitBatch, CommitBatchBuilder, CommitFacts, CommitSize, InvalidRequest, Position,
    ReadCommits, ReadError, Timestamp,
};

use crate::{
    catalog::{
        Catalog,
        part::IndexPart,
        segment::{Segment, SegmentBytes},
    },
    error::{corruption, read_failed},
    format::{
        frame::{self, CONTROL, Flaw, Frame, LAST, Section},
        segment::{self, Order, file_name},
    },
    shared::SharedState,
};

/// Offsets of this number of events are taken from the index at once.
const OFFSETS: u32 = 256;

/// Finds commits in the segments that are in a catalog.
pub(super) struct CommitReader<'a> {
    shared: &'a SharedState,
    catalog: &'a Catalog,
}

/// Where the frame of an event is.
struct EventPlace<'a> {
    part: &'a Arc<IndexPart>,
    published: SegmentBytes,
    offset: usize,
}

impl<'a> CommitReader<'a> {
    pub(super) fn new(shared: &'a SharedState, catalog: &'a Catalog) -> CommitReader<'a> {
        CommitReader { shared, catalog }
    }

    /// The last position of the commit that the event at this position belongs to. The frames are
    /// not verified, which the reads of their events do.
    pub(super) fn commit_end(&self, mut position: Position) -> Result<Position, ReadError> {
        let mut place = self.place(position)?;
        loop {
            let rest = place.published.bytes.get(place.offset..).unwrap_or(&[]);
            let Some(peeked) = rest.first_chunk().and_then(frame::peek) else {
                return Err(damaged(&place.part.segment, place.offset, Flaw::Nothing.text()));
            };
            if peeked.flags & LAST != 0 {
                return Ok(position);
            }
            position = position.plus(1);
            match place.published.head.order {
                Order::Arrival => place.offset += peeked.size,
                Order::Clustered => place = self.place(position)?,
            }
        }
    }

    /// The first position of the commit that the event at this position belongs to.
    fn commit_first(&self, mut position: Position) -> Result<Position, ReadError> {
        while position > Position::new(1) {
            let before = self.place(position.before())?;
            if before.flags() & LAST != 0 {
                break;
            }
            position = position.before();
        }
        Ok(position)
    }

    fn place(&self, position: Position) -> Result<EventPlace<'a>, ReadError> {
        let parts = &self.catalog.parts;
        let next = parts.partition_point(|part| part.first <= position);
        let part = next.checked_sub(1).and_then(|at| parts.get(at));
        let part = part.ok_or_else(|| self.missing(position))?;
        let at = u32::try_from(position.get() - part.first.get());
        let disk = self.shared.disk();
        let offset = part.ask(disk, |index| at.ok().and_then(|at| index.offset(at)))?;
        let offset = offset.ok_or_else(|| self.missing(position))? as usize;
        Ok(EventPlace { part, published: self.published(&part.segment)?, offset })
    }

    fn published(&self, segment: &Segment) -> Result<SegmentBytes, ReadError> {
        let published = segment.published(self.shared.disk());
        published.map_err(|error| read_failed(&segment.path, error))
    }

    fn missing(&self, position: Position) -> ReadError {
        let what = format!("the record of position {position} is missing");
        corruption(&self.shared.folders().segments, 0, what).into()
    }

    /// Whole commits, up to the head at most.
    pub(super) fn commits(
        &self,
        read: &ReadCommits,
        head: Position,
    ) -> Result<CommitBatch, ReadError> {
        read.check(head)?;
        if read.after > Position::START && self.place(read.after)?.flags() & LAST == 0 {
            let (position, last) = (read.after, self.commit_end(read.after)?);
            let first = self.commit_first(position)?;
            return Err(InvalidRequest::WithinCommit { position, first, last }.into());
        }
        let mut filling = CommitFilling {
            shared: self.shared,
            read,
            head,
            builder: CommitBatchBuilder::new(),
            upto: read.after,
            commit: Vec::new(),
            is_full: false,
            is_at_head: false,
        };
        let mut sequence = 1;
        let mut rest = self.catalog.parts.get(..).unwrap_or(&[]);
        if read.after > Position::START {
            let before = rest.partition_point(|part| part.first <= read.after).saturating_sub(1);
            rest = rest.get(before..).unwrap_or(&[]);
            sequence = rest.first().map_or(1, |part| part.segment.sequence);
        }
        while let Some(part) = rest.first()
            && !filling.is_full
            && !filling.is_at_head
        {
            let segment = &part.segment;
            // A segment without events has no part.
            for empty in sequence..segment.sequence {
                let path = self.shared.folders().segments.join(file_name(empty, segment.base));
                let (base, identity) = (segment.base, self.shared.identity());
                let maps = segment.maps();
                let empty = Segment::sealed(maps, path, empty, (base, base), identity);
                filling.add_segment(&empty, &[])?;
            }
            let parts = rest.iter().take_while(|part| part.segment.sequence == segment.sequence);
            let (parts, others) = rest.split_at(parts.count());
            filling.add_segment(segment, parts)?;
            (sequence, rest) = (segment.sequence + 1, others);
        }
        if !filling.is_full && filling.upto < head {
            return Err(self.missing(filling.upto.plus(1)));
        }
        Ok(filling.builder.finish(filling.upto, head))
    }
}

impl EventPlace<'_> {
    fn flags(&self) -> u8 {
        let rest = self.published.bytes.get(self.offset..).unwrap_or(&[]);
        rest.first_chunk().and_then(frame::peek).map_or(0, |peeked| peeked.flags)
    }
}

struct CommitFilling<'a> {
    shared: &'a SharedState,
    read: &'a ReadCommits,
    head: Position,
    builder: CommitBatchBuilder,
    /// The end of the last commit so far.
    upto: Position,
    /// The frames of a commit that has begun.
    commit: Vec<EventFrame>,
    is_full: bool,
    /// The next record was published after the head was read. So is everything behind it, also in
    /// the next segments.
    is_at_head: bool,
}

struct EventFrame {
    recorded_at: Timestamp,
    /// Where the encoded event is in the segment.
    start: u32,
    end: u32,
    section: Option<Section>,
}

impl CommitFilling<'_> {
    fn add_segment(
        &mut self,
        segment: &Segment,
        parts: &[Arc<IndexPart>],
    ) -> Result<(), ReadError> {
        let published = segment.published(self.shared.disk());
        let published = published.map_err(|error| read_failed(&segment.path, error))?;
        let mut frames = self.frames(segment, parts, &published)?;
        let mut chunk = None;
        while let Some((offset, frame)) = frames.next(self.shared, segment, parts, &published)? {
            let damaged = |what: &str| damaged(segment, offset, what);
            let section = frame.section();
            let section = section.ok_or_else(|| damaged("a commit section is malformed"))?;
            let at = segment.base.plus(u64::from(frame.position));
            let is_control = frame.has(CONTROL);
            // A control record has the position of the event that follows it.
            let last = if is_control { self.head.plus(1) } else { self.head };
            if at > last {
                self.is_at_head = true;
                return Ok(());
            }
            let micros = published.head.base_time.as_micros().wrapping_add(frame.time as i64);
            let recorded_at = Timestamp::from_micros(micros);
            if is_control {
                if section.tracking.is_some() {
                    let Section { key, tracking } = section;
                    let facts = CommitFacts { recorded_at, key, tracking };
                    self.builder.end_commit(self.upto, facts);
                }
                continue;
            }
            let position = self.upto.plus(self.commit.len() as u64 + 1);
            if at != position {
                return Err(damaged("a record is out of order"));
            }
            let content = frame.content().unwrap_or(&[]);
            let end = offset + frame.size();
            let (start, end) = ((end - content.len()) as u32, end as u32);
            let section = self.commit.is_empty().then_some(section);
            self.commit.push(EventFrame { recorded_at, start, end, section });
            if frame.has(LAST) {
                let chunk = chunk.get_or_insert_with(|| {
                    // Batches share the memory of the segment.
                    self.builder.chunk(published.bytes.clone())
                });
                self.end_commit(*chunk, position).map_err(|what| damaged(&what))?;
                if self.is_full {
                    return Ok(());
                }
            }
        }
        match self.commit.is_empty() {
            true => Ok(()),
            false => Err(damaged(segment, 0, "the last commit is not finished")),
        }
    }

    /// The frames of a segment after the commit that the batch ends with.
    fn frames(
        &self,
        segment: &Segment,
        parts: &[Arc<IndexPart>],
        published: &SegmentBytes,
    ) -> Result<FramesInOrder, ReadError> {
        if published.head.order == Order::Clustered {
            return FramesInOrder::of_clustered(segment, published, self.upto);
        }
        let within = self.upto.get().checked_sub(segment.base.get());
        let part = parts.first().filter(|_| within.is_some() && self.upto > Position::START);
        let Some(part) = part else { return Ok(FramesInOrder::Arrival(segment::HEADER)) };
        let at = u32::try_from(self.upto.get().saturating_sub(part.first.get())).ok();
        let offset = part.ask(self.shared.disk(), |index| at.and_then(|at| index.offset(at)))?;
        let what = "the index and the log disagree";
        let offset = offset.ok_or_else(|| damaged(segment, 0, what))? as usize;
        let size = frame::size(published.bytes.get(offset..).unwrap_or(&[]));
        Ok(FramesInOrder::Arrival(offset + size))
    }

    /// Adds the commit that ends at this position, if it fits.
    fn end_commit(&mut self, chunk: u32, last: Position) -> Result<(), String> {
        let commit = std::mem::take(&mut self.commit);
        let bytes = commit.iter().map(|event| (event.end - event.start) as usize).sum();
        let size = CommitSize { events: commit.len(), bytes };
        if !self.builder.has_room(self.read, &self.shared.options().limits, size) {
            self.is_full = true;
            return Ok(());
        }
        let mut facts = None;
        for (position, event) in (self.upto.get() + 1..).zip(commit) {
            let EventFrame { recorded_at, start, end, section } = event;
            let pushed = self.builder.push(position.into(), recorded_at, chunk, start, end);
            pushed.map_err(|error| error.to_string())?;
            if let Some(Section { key, tracking }) = section {
                facts = Some(CommitFacts { recorded_at, key, tracking });
            }
        }
        if let Some(facts) = facts {
            self.builder.end_commit(last, facts);
        }
        self.upto = last;
        Ok(())
    }
}

/// The frames of a segment, in the order of arrival.
enum FramesInOrder {
    /// The offset of the next frame.
    Arrival(usize),
    Clustered {
        /// Control records: the position of the next event, and the offset.
        controls: VecDeque<(u32, usize)>,
        /// The position of the next event.
        next: u32,
        /// The offsets of the next events.
        offsets: VecDeque<u32>,
    },
}

impl FramesInOrder {
    /// The frames of a clustered segment after this position.
    fn of_clustered(
        segment: &Segment,
        published: &SegmentBytes,
        after: Position,
    ) -> Result<FramesInOrder, ReadError> {
        let next = after.plus(1).get().saturating_sub(segment.base.get());
        let next = u32::try_from(next).unwrap_or(u32::MAX);
        let (mut controls, mut at) = (VecDeque::new(), segment::HEADER);
        while let Some((offset, frame)) = parsed(segment, published, at)?
            && frame.has(CONTROL)
        {
            if frame.position >= next {
                controls.push_back((frame.position, offset));
            }
            at += frame.size();
        }
        Ok(FramesInOrder::Clustered { controls, next, offsets: VecDeque::new() })
    }

    fn next<'b>(
        &mut self,
        shared: &SharedState,
        segment: &Segment,
        parts: &[Arc<IndexPart>],
        published: &'b SegmentBytes,
    ) -> Result<Option<(usize, Frame<'b>)>, ReadError> {
        match self {
            FramesInOrder::Arrival(at) => {
                let found = parsed(segment, published, *at)?;
                *at += found.as_ref().map_or(0, |(_, frame)| frame.size());
                Ok(found)
            }
            FramesInOrder::Clustered { controls, next, offsets } => {
                if let Some(&(position, offset)) = controls.front()
                    && position <= *next
                {
                    controls.pop_front();
                    return parsed(segment, published, offset);
                }
                if offsets.is_empty() {
                    *offsets = offsets_from(shared, segment, parts, *next)?;
                }
                if let Some(offset) = offsets.pop_front() {
                    *next += 1;
                    return parsed(segment, published, offset as usize);
                }
                match controls.pop_front() {
                    Some((_, offset)) => parsed(segment, published, offset),
                    None => Ok(None),
                }
            }
        }
    }
}

/// The offsets of some events of the segment, from this position on. There are none after its last
/// event.
fn offsets_from(
    shared: &SharedState,
    segment: &Segment,
    parts: &[Arc<IndexPart>],
    next: u32,
) -> Result<VecDeque<u32>, ReadError> {
    let position = segment.base.plus(u64::from(next));
    let after = parts.partition_point(|part| part.first <= position);
    let Some(part) = after.checked_sub(1).and_then(|at| parts.get(at)) else {
        return Ok(VecDeque::new());
    };
    let low = u32::try_from(position.get() - part.first.get()).unwrap_or(u32::MAX);
    let high = low.saturating_add(OFFSETS - 1);
    let offsets = part.ask(shared.disk(), |index| match low < index.len() {
        true => index.offsets(low, high),
        false => None,
    })?;
    Ok(offsets.unwrap_or_default().into())
}

/// The frame at this offset, or `None` at the end of the segment.
fn parsed<'b>(
    segment: &Segment,
    published: &'b SegmentBytes,
    offset: usize,
) -> Result<Option<(usize, Frame<'b>)>, ReadError> {
    let rest = published.bytes.get(offset..).unwrap_or(&[]);
    match frame::parse(rest, published.head.checksum) {
        Ok(frame) => Ok(Some((offset, frame))),
        Err(Flaw::Nothing) => Ok(None),
        Err(Flaw::CutShort) if rest.iter().all(|byte| *byte == 0) => Ok(None),
        Err(flaw) => Err(damaged(segment, offset, flaw.text())),
    }
}

#[cold]
fn damaged(segment: &Segment, offset: usize, what: &str) -> ReadError {
    corruption(&segment.path, offset as u64, what).into()
}
