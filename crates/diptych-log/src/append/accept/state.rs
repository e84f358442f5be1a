//! The state that accepting the next commit depends on: where the log continues, and the commits
//! that are not written yet.

use std::sync::Arc;

use diptych_store::{AppendError, CommitNumber, Position, TimeSource, Timestamp, Unavailable};

use super::{
    clock::ClockWatch,
    pauses::Pauses,
    room::{WaitingAppends, WaitingParts},
};
use crate::{
    append::{
        encoded::EncodedCommit,
        queue::{Piece, Queue, WriteBatch},
    },
    catalog::{part::IndexPart, segment::Segment},
    disk::Disk,
    format::{
        chain::Chain,
        frame::{self, CONTROL_CLOSED, Link, TrackingTable, control_frame},
        segment::{self, Head, Header},
    },
    index::{Coverage, newest::Commit},
    maintain::indexer::IndexJob,
    shared::{LogEnd, SharedState},
    sync::Instant,
};

/// Commits of at least this size start write-back before the writer indexes them. The threads that
/// append smaller commits index them, because those threads are many.
const LARGE_COMMIT_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct AcceptState {
    /// Why commits are refused, if they are.
    pub(super) ended: Option<Unavailable>,
    /// The last accepted position.
    pub(super) accepted: Position,
    /// The last accepted commit.
    pub(super) commits: u64,
    pub(super) time: Timestamp,
    clock: ClockWatch,
    /// Readers share the table of each batch; while they hold it, changes go to a copy.
    pub(super) tracking: Arc<TrackingTable>,
    /// The segment that commits go to.
    segment: Arc<Segment>,
    segment_head: Head,
    /// Offset of the next frame in that segment.
    offset: u64,
    /// The running checksum of the segment's frames before that offset.
    chain: Chain,
    /// The segment holds no commit before this offset: it is empty unless `offset` is above.
    segment_from: u64,
    /// The index of the newest events.
    tail: Arc<IndexPart>,
    /// Offset of the first frame that `tail` covers.
    tail_from: u64,
    pub(super) queue: Queue,
    /// Number of the batch that the queued commits will form.
    pub(super) batch: u64,
    /// The writer thread or a caller is writing, or was told to.
    pub(super) writing: bool,
    /// The writer thread was told to write.
    pub(super) handed_over: bool,
    /// Since when written commits wait for a sync; `None` if all are synced.
    pub(super) unsynced_since: Option<Instant>,
    /// Tells the writer thread to end.
    pub(super) stop: bool,
    /// Parts that wait to be written out.
    pub(super) parts: WaitingParts,
    /// Callers that wait until there is room.
    pub(super) room: WaitingAppends,
    /// Why commits are refused for now.
    pub(super) pauses: Pauses,
}

impl AcceptState {
    pub(super) fn new(end: LogEnd, disk: &dyn Disk) -> AcceptState {
        AcceptState {
            ended: end.refuses,
            accepted: end.position,
            commits: 0,
            time: end.time,
            clock: ClockWatch::begin(disk),
            tracking: end.tracking,
            segment: end.segment,
            segment_head: end.segment_head,
            offset: end.offset,
            chain: end.chain,
            segment_from: end.segment_from,
            tail: end.tail,
            tail_from: end.tail_from,
            queue: Queue::default(),
            batch: 1,
            writing: false,
            handed_over: false,
            unsynced_since: None,
            stop: false,
            parts: WaitingParts::default(),
            room: WaitingAppends::default(),
            pauses: Pauses::default(),
        }
    }

    /// Refuses commits from now on, and drops those that are queued.
    pub(super) fn stop_taking(&mut self, why: Unavailable) {
        // Also replaces `Closed`: the remaining steps of closing must not run.
        self.ended = Some(why);
        self.queue = Queue::default();
        self.pauses = Pauses::default();
        self.unsynced_since = None;
    }

    /// Whether a write or sync failed: nothing may be written any more.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.ended, Some(Unavailable::Failed { .. }))
    }

    pub(super) fn has_room(&self, shared: &SharedState) -> bool {
        let options = shared.options();
        self.queue.bytes < options.queue_bytes && self.parts.have_room(options.tuning.waiting_parts)
    }

    /// When appends that wait may be accepted because of the time alone.
    pub(super) fn next_append(&self) -> Option<Instant> {
        self.parts.next_append().filter(|_| !self.room.is_empty())
    }

    /// Whether the writer has nothing to do: the queue is empty, or must not be written any more.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.pieces.is_empty() || self.has_failed()
    }

    /// The queued commits, to be written as one batch.
    pub(super) fn take_batch(&mut self) -> WriteBatch {
        let number = self.batch;
        self.batch += 1;
        WriteBatch {
            pieces: std::mem::take(&mut self.queue).pieces,
            position: self.accepted,
            commit: CommitNumber(self.commits),
            tracking: self.tracking.clone(),
            number,
            tail: self.tail.clone(),
            done: 0,
            begun: None,
        }
    }

    /// Accepts a commit that was checked: gives it its positions and its time, and queues it.
    pub(super) fn accept(
        &mut self,
        shared: &SharedState,
        commit: &mut EncodedCommit,
    ) -> Result<(), AppendError> {
        let time = self.next_time(shared, commit.append.recorded_at)?;
        let events = commit.append.events.len();
        if !self.fits(shared, time, commit.frames.len() as u64, events) {
            self.begin_segment(shared, time);
        }
        self.time = time;
        self.place(commit);
        self.push(&mut commit.frames);
        self.accepted = self.accepted.plus(events as u64);
        self.commits += 1;
        self.parts.slow_down(shared.options().tuning.waiting_parts);
        if let Some(tracking) = &commit.append.tracking {
            let stored = (tracking.clone(), self.accepted);
            Arc::make_mut(&mut self.tracking).insert(tracking.source.clone(), stored);
        }
        Ok(())
    }

    /// Begins a new part of the index if the newest one covers enough of the log.
    pub(super) fn limit_part(&mut self, shared: &SharedState) {
        if self.offset - self.tail_from >= shared.options().index_bytes {
            self.freeze(false);
            self.begin_part(shared);
        }
    }

    fn next_time(
        &mut self,
        shared: &SharedState,
        given: Option<Timestamp>,
    ) -> Result<Timestamp, AppendError> {
        let options = shared.options();
        if (options.time, given) != (TimeSource::Clock, None) {
            return Ok(options.time.next(given, self.time)?);
        }
        Ok(self.clock.next(shared.disk(), self.time, &options.tuning, options.future_time)?)
    }

    /// Whether the segment can take the commit.
    fn fits(&self, shared: &SharedState, time: Timestamp, bytes: u64, events: usize) -> bool {
        let since = time.as_micros().checked_sub(self.segment_head.base_time.as_micros());
        let time_fits = since.is_some_and(|since| (0..frame::MAX_TIME as i64).contains(&since));
        let position = self.accepted.plus(1).get() - self.segment.base.get();
        let empty = self.offset <= self.segment_from;
        time_fits
            && position + (events as u64) < frame::MAX_POSITION
            && (empty || self.offset + bytes <= shared.options().segment_bytes)
    }

    /// Microseconds from the segment's base time to the last commit; 0 if there is none since.
    fn since_base(&self) -> u64 {
        let base = self.segment_head.base_time.as_micros();
        u64::try_from(self.time.as_micros().saturating_sub(base)).unwrap_or(0)
    }

    /// Gives every frame its position and time, and adds the events to the index. The writer
    /// indexes large commits, while the disk works on their bytes. Events that are indexed stay in
    /// the commit, whose owner frees them outside of the lock.
    fn place(&self, commit: &mut EncodedCommit) {
        let since = self.time.as_micros().wrapping_sub(self.segment_head.base_time.as_micros());
        let first = self.accepted.plus(1);
        let EncodedCommit { append, frames } = commit;
        let mut position = (first.get() - self.segment.base.get()) as u32;
        let mut offset = self.offset as u32;
        let mut offsets = Vec::with_capacity(append.events.len());
        let mut rest = frames.as_mut_slice();
        while !rest.is_empty() {
            let size = frame::size(rest).clamp(1, rest.len());
            let (this, after) = rest.split_at_mut(size);
            frame::complete(this, position, since as u64, self.segment_head.checksum);
            offsets.push(offset);
            position += 1;
            offset += size as u32;
            rest = after;
        }
        let (events, key) = (std::mem::take(&mut append.events), append.key.take());
        let is_large = frames.len() >= LARGE_COMMIT_BYTES;
        let added = self.tail.add(Commit { first, key, events, offsets }, is_large);
        append.events = added.map(|commit| commit.events).unwrap_or_default();
    }

    /// Queues frames for the end of the segment. Their memory may stay with the caller.
    fn push(&mut self, frames: &mut Vec<u8>) {
        self.chain.add_accepted(frames);
        let bytes = frames.len() as u64;
        self.queue.push(&self.segment, self.segment_head, self.offset, frames);
        self.offset += bytes;
    }

    /// Queues the record of a log that is closed here, and completes the last part of the index.
    pub(super) fn mark_closed(&mut self) {
        if self.commits > 0 {
            let since = self.since_base();
            let position = self.accepted.plus(1).get() - self.segment.base.get();
            let checksum = self.segment_head.checksum;
            let mut mark = control_frame(position as u32, since, checksum, |body| {
                body.push(CONTROL_CLOSED);
            });
            self.push(&mut mark);
        }
        self.freeze(false);
    }

    /// Begins a segment to continue in, whether or not the last one is full.
    pub(super) fn begin_anew(&mut self, shared: &SharedState) {
        let base_time = match self.time {
            Timestamp::NEVER => self.segment_head.base_time,
            time => time,
        };
        self.begin_segment(shared, base_time);
    }

    /// Seals the segment and plans the next one, whose file the writer creates.
    fn begin_segment(&mut self, shared: &SharedState, base_time: Timestamp) {
        self.freeze(true);
        let link = Link { chain: self.chain.to_u64(), bytes: self.offset };
        self.segment.goes_on(shared.identity(), self.accepted.plus(1), link);
        let header = Header {
            format: segment::FORMAT,
            order: segment::Order::Arrival,
            sequence: self.segment.sequence + 1,
            identity: shared.identity(),
            base: self.accepted.plus(1),
            base_time,
        };
        let (maps, folder) = (shared.maps(), &shared.folders().segments);
        self.segment = Arc::new(Segment::planned(maps, folder, &header));
        self.segment_head = Head::of(&header);
        self.offset = segment::HEADER as u64;
        self.chain = Chain::begin(self.segment_head.seal);
        self.queue.pieces.push(Piece {
            segment: self.segment.clone(),
            checksum: self.segment_head.checksum,
            create: Some(header),
            offset: self.offset,
            bytes: Vec::new(),
            jobs: Vec::new(),
        });
        // Written even if there is no source: this record shows that the segment was begun.
        let (time, tracking) = (self.time, &*self.tracking);
        let mut bytes = control_frame(0, 0, self.segment_head.checksum, |body| {
            frame::put_begin(body, time, tracking, link);
        });
        self.push(&mut bytes);
        self.segment_from = self.offset;
        self.begin_part(shared);
    }

    /// Begins a new part of the index, for the next events.
    fn begin_part(&mut self, shared: &SharedState) {
        let columns = self.tail.begin_after(self.accepted.plus(1));
        self.tail = Arc::new(IndexPart::memory(self.segment.clone(), columns));
        self.tail_from = self.offset;
        shared.live_catalog().begin_part(&self.tail);
    }

    /// Completes the newest part of the index, and queues it to be written to a file. `seals` is
    /// set if the segment ends with it.
    fn freeze(&mut self, seals: bool) {
        let has_events = self.tail.first <= self.accepted;
        if !has_events && !seals {
            return;
        }
        let time = self.since_base();
        let coverage = Coverage {
            segment: self.segment.sequence,
            checksum: self.segment_head.checksum,
            end: self.offset,
            time,
            proof: self.offset,
            chain: self.chain,
            tracking: TrackingTable::clone(&self.tracking),
        };
        // The checkpoint record binds the file of the part to these records. It is written with
        // them, so it is durable when the file is written.
        let position = self.accepted.plus(1).get() - self.segment.base.get();
        let (chain, checksum) = (self.chain.to_u64(), self.segment_head.checksum);
        let mut checkpoint = control_frame(position as u32, time, checksum, |body| {
            frame::put_checkpoint(body, chain);
        });
        let part = has_events.then(|| self.tail.clone());
        let job = IndexJob { segment: self.segment.clone(), part, coverage, seals };
        self.parts.add();
        self.push(&mut checkpoint);
        if let Some(piece) = self.queue.pieces.last_mut() {
            piece.jobs.push(job);
        }
    }
}
