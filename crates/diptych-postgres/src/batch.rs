//! The commits of one call of the server's function, as its parameters.

use std::collections::HashMap;

use bytes::Bytes;
use diptych_store::{
    AcceptedCommit, Append, AppendError, BatchBuilder, ContentChecksum, EventChecksum,
    InvalidRequest, Key, KeyedCommit, Limits, LogId, LogIdentity, Position, Refusal, Timestamp,
    Tracking, encoding::DecodeError,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    history::History,
    overlap::{BatchIndex, EventNames},
    parts::EventParts,
    schema::{position_of, stored_position},
    session::Parameter,
    text::{FilterColumns, escape},
};

/// A commit that waits for its decision.
#[derive(Debug)]
pub(crate) struct CommitJob {
    events: Vec<EventParts>,
    names: Vec<EventNames>,
    append: Append,
    /// Bytes of the encoded events.
    bytes: usize,
    /// The encoded events, for rows that are written with the commit.
    encoded: Option<EncodedEvents>,
    /// The checksum of the last event, without its place.
    pub(crate) content: Option<ContentChecksum>,
    /// The history that its positions are of.
    pub(crate) log: LogIdentity,
    pub(crate) deadline: Instant,
    reply: CommitReply,
}

/// Encoded events in one piece of memory, and where each ends.
#[derive(Debug, Default)]
struct EncodedEvents {
    bytes: Bytes,
    ends: Vec<u32>,
}

/// Answers the caller of an append.
#[derive(Debug)]
pub(crate) struct CommitReply {
    pub(crate) reply: oneshot::Sender<Result<AcceptedCommit, AppendError>>,
    /// Held until the answer.
    pub(crate) place: OwnedSemaphorePermit,
}

impl CommitJob {
    /// Checks the commit and takes its events apart. Rows that are written with it need the encoded
    /// events, too.
    pub(crate) fn new(
        mut append: Append,
        log: LogIdentity,
        limits: &Limits,
        has_rows: bool,
        deadline: Instant,
        reply: CommitReply,
    ) -> Result<CommitJob, InvalidRequest> {
        let raw = std::mem::take(&mut append.events);
        let content = raw.last().map(ContentChecksum::of);
        let names = raw.iter().map(EventNames::of).collect();
        let (mut events, mut encoded, mut bytes) = (Vec::with_capacity(raw.len()), vec![], 0);
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for event in raw {
            let parts = EventParts::of(event, log.id, limits, &mut encoded)?;
            if has_rows {
                all.extend_from_slice(&encoded);
                ends.push(u32::try_from(all.len()).unwrap_or(u32::MAX));
            }
            bytes += parts.bytes;
            if bytes > limits.commit_bytes {
                let limit = limits.commit_bytes;
                return Err(InvalidRequest::too_large("commit", bytes, limit, "commit_bytes"));
            }
            events.push(parts);
        }
        let encoded = has_rows.then(|| EncodedEvents { bytes: Bytes::from(all), ends });
        Ok(CommitJob { events, names, append, bytes, encoded, content, log, deadline, reply })
    }

    pub(crate) fn answer(self, answer: Result<AcceptedCommit, AppendError>) {
        let CommitReply { reply, place } = self.reply;
        // The caller may be gone.
        let _ = reply.send(answer);
        drop(place);
    }

    /// Adds the events to a batch, as a read gives them after this commit.
    pub(crate) fn put_events(
        &self,
        commit: &CommitPlace,
        builder: &mut BatchBuilder,
    ) -> Result<(), DecodeError> {
        let Some(EncodedEvents { bytes, ends }) = &self.encoded else { return Ok(()) };
        let (chunk, mut start) = (builder.chunk(bytes.clone()), 0);
        for (place, end) in (0..).zip(ends) {
            let position = commit.first.plus(place);
            builder.push(position, commit.recorded_at, chunk, start, *end)?;
            start = *end;
        }
        Ok(())
    }

    pub(crate) fn tracking(&self) -> Option<&Tracking> {
        self.append.tracking.as_ref()
    }

    pub(crate) fn key(&self) -> Option<&Key> {
        self.append.key.as_ref()
    }

    /// Whether the commit leaves something in the log.
    pub(crate) fn writes(&self) -> bool {
        !self.events.is_empty() || self.append.tracking.is_some()
    }

    /// The highest position of the conditions.
    pub(crate) fn highest(&self) -> Position {
        let conditions = self.append.conditions.iter();
        conditions.map(|condition| condition.after).max().unwrap_or_default()
    }
}

/// Checks that need no server: the limits, and the given time.
pub(crate) fn check(
    append: &Append,
    limits: &Limits,
    time: diptych_store::TimeSource,
) -> Result<(), InvalidRequest> {
    append.check(limits)?;
    if !append.events.is_empty() || append.tracking.is_some() {
        time.next(append.recorded_at, Timestamp::NEVER)?;
    }
    Ok(())
}

/// The most commits, events, bytes and overlaps of one call. A larger commit is alone.
const COMMITS: usize = 1_024;
const EVENTS: usize = 16_384;
const BYTES: usize = 8 << 20;
const OVERLAPS: usize = 20_000;

/// Commits that are decided together.
#[derive(Debug, Default)]
pub(crate) struct CommitBatch {
    pub(crate) jobs: Vec<CommitJob>,
    index: BatchIndex,
    events: usize,
    bytes: usize,
    overlaps: Overlaps,
}

#[derive(Debug, Default)]
struct Overlaps {
    commit: Vec<i32>,
    on: Vec<i32>,
    event: Vec<i32>,
    after: Vec<i64>,
}

static NO_OVERLAPS: Overlaps =
    Overlaps { commit: Vec::new(), on: Vec::new(), event: Vec::new(), after: Vec::new() };

impl CommitBatch {
    /// Whether this commit still fits.
    pub(crate) fn has_room(&self, job: &CommitJob) -> bool {
        self.jobs.is_empty()
            || self.jobs.len() < COMMITS
                && self.events + job.events.len() <= EVENTS
                && self.bytes + job.bytes <= BYTES
                && self.overlaps.commit.len() < OVERLAPS
    }

    pub(crate) fn push(&mut self, mut job: CommitJob) {
        let commit = self.jobs.len();
        for condition in &job.append.conditions {
            for overlap in self.index.overlaps(&condition.fail_if) {
                // The server counts from 1.
                self.overlaps.commit.push(small(commit + 1));
                self.overlaps.on.push(small(overlap.on + 1));
                self.overlaps.event.push(small(overlap.event));
                self.overlaps.after.push(stored_position(condition.after));
            }
        }
        self.index.add(commit, std::mem::take(&mut job.names));
        self.events += job.events.len();
        self.bytes += job.bytes;
        self.jobs.push(job);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The number of events.
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// The stored names of all types.
    pub(crate) fn types(&self) -> Vec<String> {
        let mut names: Vec<&str> = Vec::new();
        for event in self.jobs.iter().flat_map(|job| &job.events) {
            if names.last() != Some(&event.event_type.as_str()) {
                names.push(&event.event_type);
            }
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| escape(name).into_owned()).collect()
    }

    /// The call that decides all commits.
    pub(crate) fn call(&self, log: LogId, types: &HashMap<String, i32>) -> AppendCall<'_> {
        CommitBatch::call_of(&self.jobs, &self.overlaps, log, types)
    }

    /// The call that decides one commit, after those before it.
    pub(crate) fn call_alone<'b>(
        job: &'b CommitJob,
        log: LogId,
        types: &HashMap<String, i32>,
    ) -> AppendCall<'b> {
        CommitBatch::call_of(std::slice::from_ref(job), &NO_OVERLAPS, log, types)
    }

    fn call_of<'b>(
        jobs: &'b [CommitJob],
        overlaps: &'b Overlaps,
        log: LogId,
        types: &HashMap<String, i32>,
    ) -> AppendCall<'b> {
        let mut call = AppendCall { overlaps: Some(overlaps), ..AppendCall::default() };
        for (number, job) in (1..).zip(jobs) {
            call.add_commit(job);
            for condition in &job.append.conditions {
                for item in condition.fail_if.items() {
                    call.item_commit.push(number);
                    call.item_after.push(stored_position(condition.after));
                    call.items.push(log, item);
                }
            }
            for (offset, event) in (0..).zip(&job.events) {
                let name = escape(&event.event_type);
                let event_type = types.get(name.as_ref()).copied().unwrap_or_default();
                call.add_event((number, offset, event_type), event);
            }
        }
        call
    }
}

/// A number that the limits keep small.
fn small(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The parameters of the function, column by column.
#[derive(Debug, Default)]
pub(crate) struct AppendCall<'a> {
    events: Vec<i32>,
    after: Vec<i64>,
    time: Vec<Option<i64>>,
    key: Vec<Option<String>>,
    digest: Vec<Option<Uuid>>,
    source: Vec<Option<String>>,
    position: Vec<Option<String>>,
    origin: Vec<Option<Uuid>>,
    origin_epoch: Vec<Option<i64>>,
    item_commit: Vec<i32>,
    item_after: Vec<i64>,
    items: FilterColumns,
    overlaps: Option<&'a Overlaps>,
    event_commit: Vec<i32>,
    event_offset: Vec<i32>,
    event_type: Vec<i32>,
    event_tags: Vec<&'a str>,
    event_meta: Vec<Option<&'a [u8]>>,
    event_data: Vec<&'a [u8]>,
    tag_commit: Vec<i32>,
    tag_offset: Vec<i32>,
    tag_type: Vec<i32>,
    tag_hash: Vec<i64>,
}

/// The function that decides a batch.
pub(crate) const APPEND: &str = "select o_epoch, o_head, o_verdicts from diptych.append(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
  $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34)";

/// Which call of which writer it is.
#[derive(Debug)]
pub(crate) struct CallHead {
    pub(crate) log: i16,
    pub(crate) epoch: i64,
    pub(crate) writer: Uuid,
    pub(crate) number: i64,
    /// The greatest number of sources.
    pub(crate) sources: i64,
}

impl CallHead {
    pub(crate) fn new(history: &History, writer: Uuid, number: i64, limits: &Limits) -> CallHead {
        let sources = i64::try_from(limits.tracking_sources).unwrap_or(i64::MAX);
        CallHead { log: history.log, epoch: history.epoch(), writer, number, sources }
    }
}

impl<'a> AppendCall<'a> {
    fn add_commit(&mut self, job: &CommitJob) {
        let Append { key, tracking, recorded_at, .. } = &job.append;
        self.events.push(small(job.events.len()));
        self.after.push(stored_position(job.highest()));
        self.time.push(recorded_at.map(Timestamp::as_micros));
        self.key.push(key.as_ref().map(|key| escape(&key.name).into_owned()));
        self.digest.push(key.as_ref().map(|key| Uuid::from_bytes(key.digest.0)));
        let tracking = tracking.as_ref();
        let origin = tracking.and_then(|tracking| tracking.origin);
        self.source.push(tracking.map(|tracking| escape(&tracking.source).into_owned()));
        self.position.push(tracking.map(|tracking| tracking.position.to_string()));
        self.origin.push(origin.map(|origin| Uuid::from_bytes(origin.id.to_bytes())));
        self.origin_epoch.push(origin.map(|origin| origin.epoch.to_u64().cast_signed()));
    }

    fn add_event(&mut self, (commit, offset, event_type): (i32, i32, i32), event: &'a EventParts) {
        self.event_commit.push(commit);
        self.event_offset.push(offset);
        self.event_type.push(event_type);
        self.event_tags.push(&event.tags);
        self.event_meta.push(event.meta.as_deref());
        self.event_data.push(&event.payload);
        for hash in &event.hashes {
            self.tag_commit.push(commit);
            self.tag_offset.push(offset);
            self.tag_type.push(event_type);
            self.tag_hash.push(*hash);
        }
    }

    pub(crate) fn parameters<'p>(&'p self, head: &'p CallHead) -> Option<[Parameter<'p>; 34]> {
        let overlaps = self.overlaps?;
        Some([
            &head.log,
            &head.epoch,
            &head.writer,
            &head.number,
            &head.sources,
            &self.events,
            &self.after,
            &self.time,
            &self.key,
            &self.digest,
            &self.source,
            &self.position,
            &self.origin,
            &self.origin_epoch,
            &self.item_commit,
            &self.item_after,
            &self.items.tags,
            &self.items.hash,
            &self.items.hashes,
            &self.items.types,
            &overlaps.commit,
            &overlaps.on,
            &overlaps.event,
            &overlaps.after,
            &self.event_commit,
            &self.event_offset,
            &self.event_type,
            &self.event_tags,
            &self.event_meta,
            &self.event_data,
            &self.tag_commit,
            &self.tag_offset,
            &self.tag_type,
            &self.tag_hash,
        ])
    }
}

/// The place of a commit with events in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPlace {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) recorded_at: Timestamp,
}

impl CommitPlace {
    /// The place of an accepted commit by the numbers of the function.
    pub(crate) fn of(job: &CommitJob, numbers: &[i64]) -> Option<CommitPlace> {
        let [0, first, last, recorded_at] = *numbers else { return None };
        let (first, last) = (position_of(first), position_of(last));
        let recorded_at = Timestamp::from_micros(recorded_at);
        (!job.events.is_empty()).then_some(CommitPlace { first, last, recorded_at })
    }

    /// The checksum of the last event of the commit.
    pub(crate) fn checksum(&self, job: &CommitJob) -> Option<EventChecksum> {
        Some(job.content?.at(self.last, self.recorded_at))
    }
}

/// The decision about one commit.
#[derive(Debug)]
pub(crate) enum Verdict {
    Accepted {
        first: Position,
        last: Position,
        recorded_at: Timestamp,
    },
    Denied(AppendError),
    /// The stored tracking refuses it.
    TrackingRefused,
    /// Rows that are written with it were refused.
    RowsRefused,
}

/// Stands in the place of the function's numbers for a commit whose rows were refused.
pub(crate) const ROWS_REFUSED: [i64; 4] = [6, 0, 0, 0];

impl Verdict {
    /// The decisions from the numbers of the function, four for each commit.
    pub(crate) fn all(
        jobs: &[CommitJob],
        numbers: &[i64],
        limits: &Limits,
    ) -> Option<Vec<Verdict>> {
        if numbers.len() != jobs.len() * 4 {
            return None;
        }
        jobs.iter()
            .zip(numbers.chunks_exact(4))
            .map(|(job, of)| Verdict::of(job, of, limits))
            .collect()
    }

    fn of(job: &CommitJob, numbers: &[i64], limits: &Limits) -> Option<Verdict> {
        let [kind, a, b, c] = *numbers else { return None };
        let (first, last) = (position_of(a), position_of(b));
        let denied = |error: AppendError| Some(Verdict::Denied(error));
        match kind {
            0 => {
                let recorded_at = Timestamp::from_micros(c);
                Some(Verdict::Accepted { first, last, recorded_at })
            }
            1 => denied(InvalidRequest::AboveHead { position: job.highest(), head: first }.into()),
            2 => {
                let (what, limit) = ("tracking sources", limits.tracking_sources);
                let sources = usize::try_from(a).unwrap_or(usize::MAX);
                denied(InvalidRequest::too_many(what, sources, limit, "tracking_sources").into())
            }
            3 => Some(Verdict::TrackingRefused),
            4 => {
                let key = job.key()?;
                let mut keyed = KeyedCommit { first, last, digest: key.digest };
                if c == 0 {
                    // Any other digest.
                    keyed.digest.0 = key.digest.0.map(|byte| !byte);
                }
                denied(keyed.refuse(key).into())
            }
            5 => denied(Refusal::Conflict { at: first, after: last }.into()),
            6 => Some(Verdict::RowsRefused),
            _ => None,
        }
    }
}
