//! Accepting commits: the calling thread checks its commit, assigns positions and queues the bytes,
//! under one lock and without touching the disk. Writing comes later and elsewhere.
//!
//! The subtle thing is how long the lock is held. Frames are encoded and checksummed before it is
//! taken. Key and conditions are looked up before it, too, among everything accepted up to that
//! moment. Under the lock only newer events are left to check, and those are in memory.

use std::{
    cmp::Reverse,
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    task::{Poll, Waker},
    time::Instant,
};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, CommitNumber, CommitSync, InvalidRequest,
    KeyedCommit, Limits, Position, Refusal, TimeSource, Timestamp, Unavailable, encoding,
};

use crate::{
    append::writer::LARGE_COMMIT,
    catalog::{Catalog, IndexPart},
    engine::Engine,
    error::check_failed,
    format::{
        chain::Chain,
        frame::{self, CONTROL, LAST, Link, SECTION, Section, TrackingTable},
        segment::{self, Head, Header, Segment},
    },
    index::{Coverage, newest::Commit},
};

/// Parts of the index that may wait to be written out before appends wait for that.
const WAITING_PARTS: usize = 4;

/// The state that accepting the next commit depends on.
#[derive(Debug)]
pub(crate) struct State {
    /// Why commits are refused, if they are.
    pub(crate) ended: Option<Unavailable>,
    /// The last accepted position.
    pub(crate) accepted: Position,
    /// The last accepted commit.
    pub(crate) commits: u64,
    pub(crate) time: Timestamp,
    pub(crate) clock_went_back: bool,
    /// Readers share the table of each batch; while they hold it, changes go to a copy.
    pub(crate) tracking: Arc<TrackingTable>,
    /// The segment that commits go to.
    pub(crate) segment: Arc<Segment>,
    pub(crate) segment_head: Head,
    /// Offset of the next frame in that segment.
    pub(crate) offset: u64,
    /// The running checksum of the segment's frames before that offset.
    pub(crate) chain: Chain,
    /// The segment holds no commit before this offset: it is empty unless `offset` is above.
    pub(crate) segment_from: u64,
    /// The index of the newest events.
    pub(crate) tail: Arc<IndexPart>,
    /// Offset of the first frame that `tail` covers.
    pub(crate) tail_from: u64,
    pub(crate) queue: Queue,
    /// Number of the batch that the queued commits will form.
    pub(crate) batch: u64,
    /// The writer thread or a caller is writing, or was told to.
    pub(crate) writing: bool,
    /// The writer thread was told to write.
    pub(crate) handed_over: bool,
    /// Since when written commits wait for a sync; `None` if all are synced.
    pub(crate) unsynced_since: Option<Instant>,
    /// Tells the threads to end.
    pub(crate) stop: bool,
    /// Parts that wait to be written out.
    pub(crate) waiting_parts: usize,
    /// Wakers of callers that wait until there is room.
    pub(crate) room: Vec<Waker>,
}

/// Accepted commits that are not being written yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bytes: usize,
}

/// Bytes to write at one place of one segment.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) segment: Arc<Segment>,
    pub(crate) checksum: u32,
    /// Set if the segment begins with this piece: its file is created with this header.
    pub(crate) create: Option<Header>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// Parts of the index that are complete once this piece is written.
    pub(crate) jobs: Vec<Job>,
}

/// A part of the index to write to a file once the records that it covers are durable.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) segment: Arc<Segment>,
    /// `None` if all its events are in files already.
    pub(crate) part: Option<Arc<IndexPart>>,
    pub(crate) coverage: Coverage,
    /// It is the last part of its segment: all of them can be merged into one file.
    pub(crate) seals: bool,
}

impl State {
    pub(crate) fn stop_taking(&mut self, why: Unavailable) {
        // Also replaces `Closed`: the remaining steps of closing must not run.
        self.ended = Some(why);
        self.queue = Queue::default();
        self.unsynced_since = None;
    }

    /// Queues frames for the end of the segment.
    pub(crate) fn push(&mut self, frames: Vec<u8>) {
        self.chain.add_accepted(&frames);
        let bytes = frames.len() as u64;
        self.queue.push(&self.segment, self.segment_head, self.offset, frames);
        self.offset += bytes;
    }

    /// Microseconds from the segment's base time to the last commit; 0 if there is none since.
    pub(crate) fn since_base(&self) -> u64 {
        let base = self.segment_head.base_time.as_micros();
        u64::try_from(self.time.as_micros().saturating_sub(base)).unwrap_or(0)
    }

    /// Whether a write or sync failed: nothing may be written any more.
    pub(crate) fn failed(&self) -> bool {
        matches!(self.ended, Some(Unavailable::Failed { .. }))
    }

    fn has_room(&self, queue_bytes: usize) -> bool {
        self.queue.bytes < queue_bytes && self.waiting_parts < WAITING_PARTS
    }
}

/// A commit, encoded and checksummed as far as is possible without its position.
#[derive(Debug)]
pub(crate) struct EncodedCommit {
    append: Append,
    frames: Vec<u8>,
}

impl EncodedCommit {
    /// # Errors
    /// [`InvalidRequest`] if it is beyond the limits.
    pub(crate) fn new(append: Append, limits: &Limits) -> Result<EncodedCommit, InvalidRequest> {
        append.check(limits)?;
        let section = Section { key: append.key.clone(), tracking: append.tracking.clone() };
        let payloads: usize = append.events.iter().map(|event| event.payload.len()).sum();
        // At most the bytes of one commit: one that is too large is refused before it is copied.
        let room = payloads.min(limits.commit_bytes) + append.events.len() * 96 + 64;
        let mut frames = Vec::with_capacity(room);
        for (at, event) in append.events.iter().enumerate() {
            let with_section = at == 0 && !section.is_empty();
            let flags = if with_section { SECTION } else { 0 }
                | if at + 1 == append.events.len() { LAST } else { 0 };
            frame::prepare(&mut frames, flags, |body| {
                if with_section {
                    section.encode(body);
                }
                encoding::encode(event, limits, body)
            })?;
            let bytes = frames.len();
            if bytes > limits.commit_bytes + (at + 1) * frame::HEADER {
                let limit = limits.commit_bytes;
                return Err(InvalidRequest::too_large("commit", bytes, limit, "commit_bytes"));
            }
        }
        if append.events.is_empty() && append.tracking.is_some() {
            frame::prepare(&mut frames, SECTION | CONTROL | LAST, |body| {
                section.encode(body);
                body.push(frame::CONTROL_COMMIT);
                Ok::<_, InvalidRequest>(())
            })?;
        }
        Ok(EncodedCommit { append, frames })
    }
}

/// The result of the look-ups before the lock, over everything accepted up to `upto`.
#[derive(Debug, Default)]
struct Lookup {
    upto: Position,
    key: Option<KeyedCommit>,
    conflict: Option<Conflict>,
}

/// The last event that violates a condition, and the position after which that condition applies.
/// The maximum is the answer: the last such event and, if it violates several conditions, the
/// lowest of their positions.
type Conflict = (Position, Reverse<Position>);

/// The outcome of offering a commit.
#[derive(Debug)]
pub(crate) enum Outcome {
    Accepted {
        accepted: AcceptedCommit,
        /// The batch that it will be written with.
        batch: u64,
        /// The caller has to write: it asked for that, and found the writer idle.
        write: bool,
    },
    /// The refusal rests on commits up to this one, and may be returned once that one is synced.
    Refused(AppendError, CommitSync),
}

/// The thread that writes an accepted commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Another than the caller: the writer thread, or a call that drives a log without threads.
    Other,
    /// The caller, if no other thread writes at the moment.
    Caller,
}

impl Engine {
    /// Accepts a commit or refuses it. Pending means that there is no room now: `waker` is woken
    /// when the caller can offer it again.
    pub(crate) fn offer(
        &self,
        prepared: &mut EncodedCommit,
        writes: Writes,
        waker: &Waker,
    ) -> Poll<Result<Outcome, AppendError>> {
        let looked = match self.look(&prepared.append) {
            Ok(looked) => looked,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut state = self.state.lock();
        if let Some(why) = &state.ended {
            return Poll::Ready(Err(why.clone().into()));
        }
        if !state.has_room(self.options.queue_bytes) {
            state.room.push(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(self.decide(&mut state, prepared, looked, writes))
    }

    fn look(&self, append: &Append) -> Result<Lookup, AppendError> {
        let upto = Position::new(self.accepted.load(Ordering::Acquire));
        let mut looked = Lookup { upto, ..Lookup::default() };
        if append.key.is_none() && append.conditions.is_empty() {
            return Ok(looked);
        }
        let catalog = self.catalog();
        if let Some(key) = &append.key {
            let found = catalog.key(self.disk(), &key.name, Position::new(1));
            looked.key = found.map_err(check_failed)?;
        }
        looked.conflict = self.conflict(&catalog, append, (Position::new(1), upto))?;
        Ok(looked)
    }

    /// The conflict among the events `low..=high`, if one violates a condition.
    fn conflict(
        &self,
        catalog: &Catalog,
        append: &Append,
        (low, high): (Position, Position),
    ) -> Result<Option<Conflict>, AppendError> {
        let mut conflict = None;
        for &AppendCondition { ref fail_if, after } in &append.conditions {
            let low = low.max(after.plus(1));
            if low > high {
                continue;
            }
            let found = catalog.last(self.disk(), fail_if, low, high).map_err(check_failed)?;
            conflict = conflict.max(found.map(|at| (at, Reverse(after))));
        }
        Ok(conflict)
    }

    fn decide(
        &self,
        state: &mut State,
        prepared: &mut EncodedCommit,
        looked: Lookup,
        writes: Writes,
    ) -> Result<Outcome, AppendError> {
        let head = self.publisher.head();
        match self.check(state, &prepared.append, looked) {
            Err(error @ AppendError::Refused(_)) => {
                let rests_on = CommitSync::new(CommitNumber(state.commits), head);
                return Ok(Outcome::Refused(error, rests_on));
            }
            checked => checked?,
        }
        let first = state.accepted.plus(1);
        if prepared.frames.is_empty() {
            let sync = CommitSync::new(CommitNumber(state.commits), head);
            let (last, recorded_at) = (state.accepted, state.time);
            let accepted = AcceptedCommit { first, last, recorded_at, sync };
            return Ok(Outcome::Accepted { accepted, batch: 0, write: false });
        }
        self.accept(state, prepared)?;
        let sync = CommitSync::new(CommitNumber(state.commits), head);
        let (last, recorded_at) = (state.accepted, state.time);
        let accepted = AcceptedCommit { first, last, recorded_at, sync };
        let idle = !std::mem::replace(&mut state.writing, true);
        let write = idle && writes == Writes::Caller;
        if idle && !write {
            state.handed_over = true;
            self.work.notify_one();
        }
        Ok(Outcome::Accepted { accepted, batch: state.batch, write })
    }

    /// Checks tracking, key and conditions, in this order, against everything accepted.
    fn check(&self, state: &State, append: &Append, looked: Lookup) -> Result<(), AppendError> {
        append.check_positions(state.accepted)?;
        if let Some(tracking) = &append.tracking {
            if let Some((stored, at)) = state.tracking.get(&tracking.source) {
                tracking.check_against(stored, *at)?;
            } else {
                let (sources, limit) =
                    (state.tracking.len() + 1, self.options.limits.tracking_sources);
                if sources > limit {
                    let (what, name) = ("tracking sources", "tracking_sources");
                    return Err(InvalidRequest::too_many(what, sources, limit, name).into());
                }
            }
        }
        if append.key.is_none() && append.conditions.is_empty() {
            return Ok(());
        }
        let since = looked.upto.plus(1);
        let came = (state.accepted >= since).then(|| self.catalog());
        if let Some(key) = &append.key {
            let found = match (looked.key, &came) {
                (None, Some(catalog)) => {
                    catalog.key(self.disk(), &key.name, since).map_err(check_failed)?
                }
                (found, _) => found,
            };
            if let Some(commit) = found {
                return Err(commit.refuse(key).into());
            }
        }
        let newest = match &came {
            Some(catalog) => self.conflict(catalog, append, (since, state.accepted))?,
            None => None,
        };
        // Newer events are above all positions that were looked up before the lock.
        match newest.or(looked.conflict) {
            Some((at, Reverse(after))) => Err(Refusal::Conflict { at, after }.into()),
            None => Ok(()),
        }
    }

    fn accept(&self, state: &mut State, prepared: &mut EncodedCommit) -> Result<(), AppendError> {
        let time = self.options.time.next(prepared.append.recorded_at, state.time)?;
        self.watch_clock(state, time);
        let bytes = prepared.frames.len();
        if !self.fits(state, time, bytes as u64, prepared.append.events.len()) {
            self.begin_segment(state, time);
        }
        state.time = time;
        let events = prepared.append.events.len() as u64;
        place(state, prepared);
        let frames = std::mem::take(&mut prepared.frames);
        state.push(frames);
        state.accepted = state.accepted.plus(events);
        state.commits += 1;
        self.accepted.store(state.accepted.get(), Ordering::Release);
        if let Some(tracking) = &prepared.append.tracking {
            let stored = (tracking.clone(), state.accepted);
            Arc::make_mut(&mut state.tracking).insert(tracking.source.clone(), stored);
        }
        if state.offset - state.tail_from >= self.options.index_bytes {
            freeze(state, false);
            self.begin_part(state);
        }
        Ok(())
    }

    fn watch_clock(&self, state: &mut State, time: Timestamp) {
        let back = self.options.time == TimeSource::Clock
            && state.time != Timestamp::NEVER
            && Timestamp::now() < time;
        if back && !state.clock_went_back {
            tracing::warn!(recorded_at = %time, "the clock went back: recorded_at stands still");
        }
        state.clock_went_back = back;
    }

    /// Whether the segment can take the commit.
    fn fits(&self, state: &State, time: Timestamp, bytes: u64, events: usize) -> bool {
        let since = time.as_micros().checked_sub(state.segment_head.base_time.as_micros());
        let time_fits = since.is_some_and(|since| (0..frame::MAX_TIME as i64).contains(&since));
        let position = state.accepted.plus(1).get() - state.segment.base.get();
        let empty = state.offset <= state.segment_from;
        time_fits
            && position + (events as u64) < frame::MAX_POSITION
            && (empty || state.offset + bytes <= self.options.segment_bytes)
    }

    /// Seals the segment and plans the next one, whose file the writer creates.
    pub(crate) fn begin_segment(&self, state: &mut State, base_time: Timestamp) {
        freeze(state, true);
        let link = Link { chain: state.chain.to_u64(), bytes: state.offset };
        state.segment.goes_on(self.identity, state.accepted.plus(1), link);
        let header = Header {
            order: segment::Order::Arrival,
            sequence: state.segment.sequence + 1,
            identity: self.identity,
            base: state.accepted.plus(1),
            base_time,
        };
        state.segment = Arc::new(Segment::planned(&self.folders.segments, &header));
        state.segment_head = Head::of(&header);
        state.offset = segment::HEADER as u64;
        state.chain = Chain::begin(state.segment_head.seal);
        state.queue.pieces.push(Piece {
            segment: state.segment.clone(),
            checksum: state.segment_head.checksum,
            create: Some(header),
            offset: state.offset,
            bytes: Vec::new(),
            jobs: Vec::new(),
        });
        // Written even if there is no source: this record shows that the segment was begun.
        let (time, tracking) = (state.time, &*state.tracking);
        let bytes = control_frame(0, 0, state.segment_head.checksum, |body| {
            frame::put_begin(body, time, tracking, link);
        });
        state.push(bytes);
        state.segment_from = state.offset;
        self.begin_part(state);
    }

    /// Begins a new part of the index, for the next events.
    fn begin_part(&self, state: &mut State) {
        let columns = state.tail.begin_after(state.accepted.plus(1));
        state.tail = Arc::new(IndexPart::memory(state.segment.clone(), columns));
        state.tail_from = state.offset;
        let mut catalog = self.catalog.write();
        let mut parts = catalog.parts.clone();
        // A part that never got an event is left out.
        parts.retain(|part| part.first < state.tail.first);
        parts.push(state.tail.clone());
        *catalog = Arc::new(catalog.with(parts));
    }
}

/// Gives every frame its position and time, and adds the events to the index. For a large commit
/// the writer does the latter.
fn place(state: &State, prepared: &mut EncodedCommit) {
    let since = state.time.as_micros().wrapping_sub(state.segment_head.base_time.as_micros());
    let first = state.accepted.plus(1);
    let EncodedCommit { append, frames } = prepared;
    let mut position = (first.get() - state.segment.base.get()) as u32;
    let mut offset = state.offset as u32;
    let mut offsets = Vec::with_capacity(append.events.len());
    let mut rest = frames.as_mut_slice();
    while !rest.is_empty() {
        let size = frame::size(rest).clamp(1, rest.len());
        let (this, after) = rest.split_at_mut(size);
        frame::complete(this, position, since as u64, state.segment_head.checksum);
        offsets.push(offset);
        position += 1;
        offset += size as u32;
        rest = after;
    }
    let (events, key) = (std::mem::take(&mut append.events), append.key.take());
    state.tail.add(Commit { first, key, events, offsets }, frames.len() >= LARGE_COMMIT);
}

pub(crate) fn control_frame(
    position: u32,
    time: u64,
    checksum: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let filled = frame::prepare(&mut bytes, CONTROL | LAST, |body| {
        fill(body);
        Ok::<_, Infallible>(())
    });
    let Ok(()) = filled;
    frame::complete(&mut bytes, position, time, checksum);
    bytes
}

/// Completes the newest part of the index, and queues it to be written to a file.
pub(crate) fn freeze(state: &mut State, seals: bool) {
    let has_events = state.tail.first <= state.accepted;
    if !has_events && !seals {
        return;
    }
    let time = state.since_base();
    let coverage = Coverage {
        segment: state.segment.sequence,
        checksum: state.segment_head.checksum,
        end: state.offset,
        time,
        proof: state.offset,
        chain: state.chain,
        tracking: TrackingTable::clone(&state.tracking),
    };
    // The checkpoint record binds the file of the part to these records. It is written with them,
    // so it is durable when the file is written.
    let position = state.accepted.plus(1).get() - state.segment.base.get();
    let chain = state.chain.to_u64();
    let checkpoint = control_frame(position as u32, time, state.segment_head.checksum, |body| {
        frame::put_checkpoint(body, chain);
    });
    let part = has_events.then(|| state.tail.clone());
    let job = Job { segment: state.segment.clone(), part, coverage, seals };
    state.waiting_parts += 1;
    state.push(checkpoint);
    if let Some(piece) = state.queue.pieces.last_mut() {
        piece.jobs.push(job);
    }
}

impl Queue {
    /// Adds bytes to write at `offset` of the segment.
    pub(crate) fn push(&mut self, segment: &Arc<Segment>, head: Head, offset: u64, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        let same = |piece: &&mut Piece| Arc::ptr_eq(&piece.segment, segment);
        if let Some(piece) = self.pieces.last_mut().filter(same) {
            return piece.bytes.extend_from_slice(&bytes);
        }
        self.pieces.push(Piece {
            segment: segment.clone(),
            checksum: head.checksum,
            create: None,
            offset,
            bytes,
            jobs: Vec::new(),
        });
    }
}
