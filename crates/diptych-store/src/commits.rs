//! Whole commits, which a copy, a backup or a replica of a log writes again. A batch of events has
//! no keys and no tracking, and does not show which events belong together.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    append::{Key, Tracking},
    batch::{Batch, BatchBuilder, EventRef},
    encoding::DecodeError,
    error::InvalidRequest,
    limits::Limits,
    position::Position,
    time::Timestamp,
};

/// A request to read whole commits, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCommits {
    /// Only commits that ended after this position. A commit has to end at it.
    pub after: Position,
    /// Maximum number of events of all returned commits. The [`Limits`] of the store can make a
    /// batch smaller. The first commit is returned whatever its size, so that a read always makes
    /// progress.
    pub limit_events: usize,
}

impl ReadCommits {
    /// Reads the commits after `position`, as many as fit in one batch.
    pub fn after(position: Position) -> ReadCommits {
        ReadCommits { after: position, limit_events: usize::MAX }
    }

    /// Sets the maximum number of events.
    #[must_use]
    pub fn limit_events(mut self, events: usize) -> ReadCommits {
        self.limit_events = events;
        self
    }

    /// Checks that the read does not begin above the head. For authors of stores.
    ///
    /// # Errors
    /// [`InvalidRequest::AboveHead`] if it does.
    pub fn check(&self, head: Position) -> Result<(), InvalidRequest> {
        match self.after > head {
            true => Err(InvalidRequest::AboveHead { position: self.after, head }),
            false => Ok(()),
        }
    }
}

/// The number of events of some commits, and the bytes of their encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitSize {
    /// Number of events.
    pub events: usize,
    /// Bytes of the encoded events.
    pub bytes: usize,
}

/// The facts about a commit besides its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFacts {
    /// When the log recorded the commit.
    pub recorded_at: Timestamp,
    /// The idempotency key, with the digest of the request.
    pub key: Option<Key>,
    /// The tracking that was stored with the commit.
    pub tracking: Option<Tracking>,
}

/// Whole commits in order, and the position up to which the log was considered.
///
/// Commits without events have no position of their own. Each is in the order in which it was
/// accepted, with two rules:
///
/// - Between two commits with events, a batch has only the newest such commit of each source. The
///   older ones change nothing any more.
/// - A batch that ends at the head includes those after the last event. A later read that continues
///   there returns them again, together with newer ones. So a reader that writes them to another
///   log leaves out a tracking that is stored there already.
#[derive(Clone, Debug, Default)]
pub struct CommitBatch {
    events: Batch,
    commits: Vec<CommitEntry>,
}

#[derive(Clone, Debug)]
struct CommitEntry {
    last: Position,
    /// Which events of the batch it has.
    events: Range<usize>,
    facts: CommitFacts,
}

impl CommitBatch {
    /// Number of commits.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether the batch has no commit.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The position up to which every commit was considered. A commit ends there. To continue, read
    /// [after](ReadCommits::after) it. The read is complete when it equals the head.
    pub fn upto(&self) -> Position {
        self.events.upto()
    }

    /// The commit at this index of the batch.
    pub fn get(&self, index: usize) -> Option<CommitRef<'_>> {
        self.commits.get(index).map(|entry| CommitRef { entry, events: &self.events })
    }

    /// The commits, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = CommitRef<'_>> {
        self.commits.iter().map(|entry| CommitRef { entry, events: &self.events })
    }
}

/// A commit, borrowed from a [`CommitBatch`].
#[derive(Clone, Copy, Debug)]
pub struct CommitRef<'a> {
    entry: &'a CommitEntry,
    events: &'a Batch,
}

impl<'a> CommitRef<'a> {
    /// Position of the first event. For a commit without events it is the position after
    /// [`last`](CommitRef::last).
    pub fn first(&self) -> Position {
        let events = self.entry.events.len() as u64;
        Position::new((self.entry.last.get() + 1).saturating_sub(events))
    }

    /// Position of the last event. For a commit without events it is the head when it was accepted.
    pub fn last(&self) -> Position {
        self.entry.last
    }

    /// When the log recorded the commit.
    pub fn recorded_at(&self) -> Timestamp {
        self.entry.facts.recorded_at
    }

    /// The idempotency key of the commit, with the digest of its request.
    pub fn key(&self) -> Option<&'a Key> {
        self.entry.facts.key.as_ref()
    }

    /// The tracking that was stored with the commit.
    pub fn tracking(&self) -> Option<&'a Tracking> {
        self.entry.facts.tracking.as_ref()
    }

    /// The events, in order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = EventRef<'a>> + use<'a> {
        self.events.range(self.entry.events.clone())
    }
}

/// Fills a [`CommitBatch`]. For authors of stores.
#[derive(Debug, Default)]
pub struct CommitBatchBuilder {
    events: BatchBuilder,
    commits: Vec<CommitEntry>,
    /// Bytes of all events.
    bytes: usize,
    /// Number of the events that belong to a complete commit.
    complete: usize,
    /// The index of the first commit after the last one with events.
    without_events: usize,
}

impl CommitBatchBuilder {
    /// An empty batch.
    pub fn new() -> CommitBatchBuilder {
        CommitBatchBuilder::default()
    }

    /// Whether another commit fits, which has this number of events with this size. The first
    /// commit with events always fits.
    pub fn has_room(&self, read: &ReadCommits, limits: &Limits, commit: CommitSize) -> bool {
        let most = read.limit_events.min(limits.batch_events);
        let events = self.events.len().saturating_add(commit.events);
        let bytes = self.bytes.saturating_add(commit.bytes);
        self.events.is_empty() || events <= most && bytes <= limits.batch_bytes
    }

    /// Adds memory that holds encoded events: see [`BatchBuilder::chunk`].
    pub fn chunk(&mut self, bytes: Bytes) -> u32 {
        self.events.chunk(bytes)
    }

    /// Adds the next event of the commit that [`end_commit`](CommitBatchBuilder::end_commit)
    /// completes. See [`BatchBuilder::push`].
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not an event. The batch does not change then.
    pub fn push(
        &mut self,
        position: Position,
        recorded_at: Timestamp,
        chunk: u32,
        start: u32,
        end: u32,
    ) -> Result<(), DecodeError> {
        self.events.push(position, recorded_at, chunk, start, end)?;
        self.bytes += end.saturating_sub(start) as usize;
        Ok(())
    }

    /// Completes a commit that ends at `last`, with the events that were added since the commit
    /// before. A commit without events replaces one of the same source that stands after the same
    /// event.
    pub fn end_commit(&mut self, last: Position, facts: CommitFacts) {
        let events = self.complete..self.events.len();
        if events.is_empty() {
            let source = facts.tracking.as_ref().map(|tracking| &tracking.source);
            let same = |old: &CommitEntry| {
                old.facts.tracking.as_ref().map(|tracking| &tracking.source) == source
            };
            let older = self.commits.iter().skip(self.without_events).position(same);
            if let Some(older) = older {
                self.commits.remove(self.without_events + older);
            }
        } else {
            self.without_events = self.commits.len() + 1;
        }
        self.complete = events.end;
        self.commits.push(CommitEntry { last, events, facts });
    }

    /// Completes the batch. The read considered every commit up to `upto`, where a commit ends.
    /// Below the head, the commits without events after it belong to the next batch.
    pub fn finish(mut self, upto: Position, head: Position) -> CommitBatch {
        if upto < head {
            self.commits.truncate(self.without_events);
        }
        CommitBatch { events: self.events.finish(upto, upto), commits: self.commits }
    }
}
