//! A blocking handle on the store under test. It bounds each wait, checks the rules of every batch,
//! and syncs commits before it reads.

use std::{
    future::Future,
    mem,
    ops::RangeInclusive,
    panic,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Hooks, Setup, TestStore};
use crate::{
    append::{
        AcceptedCommit, Append, AppendCondition, Digest, Key, KeyedCommit, SyncedCommit, Tracking,
    },
    batch::{Batch, Direction, EventRef, Read},
    checksum::EventChecksum,
    commits::{CommitFacts, CommitRef, ReadCommits},
    error::{AppendError, InvalidRequest, ReadError, Refusal},
    event::RawEvent,
    filter::Filter,
    limits::Limits,
    position::Position,
    store::Store,
    tag::Tag,
    time::{TimeSource, Timestamp},
};

#[derive(Clone)]
pub(super) struct Probe {
    pub(super) store: Store,
    patience: Duration,
    hooks: Arc<Mutex<Hooks>>,
}

/// An event as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenEvent {
    pub(super) position: u64,
    pub(super) recorded_at: Timestamp,
    pub(super) event: RawEvent,
}

/// A commit as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenCommit {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) facts: CommitFacts,
    pub(super) events: Vec<SeenEvent>,
}

impl SeenEvent {
    fn of(event: EventRef<'_>) -> SeenEvent {
        SeenEvent {
            position: event.position().get(),
            recorded_at: event.recorded_at(),
            event: event.to_raw(),
        }
    }
}

impl SeenCommit {
    fn of(commit: CommitRef<'_>) -> SeenCommit {
        SeenCommit {
            first: commit.first().get(),
            last: commit.last().get(),
            facts: CommitFacts {
                recorded_at: commit.recorded_at(),
                key: commit.key().cloned(),
                tracking: commit.tracking().cloned(),
            },
            events: commit.events().map(SeenEvent::of).collect(),
        }
    }
}

impl Probe {
    pub(super) fn new(test_store: TestStore, patience: Duration) -> Probe {
        Probe { store: test_store.store, patience, hooks: Arc::new(Mutex::new(test_store.hooks)) }
    }

    /// Waits for the future. Panics if this takes longer than the longest wait of the suite.
    pub(super) fn wait<F: Future>(&self, what: &str, future: F) -> F::Output {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let deadline = Instant::now() + self.patience;
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
                return answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: no answer in {:?}", self.patience);
            thread::park_timeout(left);
        }
    }

    /// Polls a condition that other threads change, and returns whether it became true in time.
    pub(super) fn eventually(&self, mut holds: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + self.patience;
        while !holds() {
            if Instant::now() > deadline {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    pub(super) fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.wait("append", self.store.append(append))
    }

    /// Commits, and waits for the sync.
    pub(super) fn commit(&self, append: Append) -> SyncedCommit {
        let accepted = match self.append(append) {
            Ok(accepted) => accepted,
            Err(error) => panic!("the append should be accepted: {error}"),
        };
        self.synced(accepted)
    }

    pub(super) fn synced(&self, accepted: AcceptedCommit) -> SyncedCommit {
        self.wait("sync", accepted.synced()).expect("it is synced")
    }

    /// Commits these events, and returns the positions of the first and the last one.
    pub(super) fn put(&self, events: impl IntoIterator<Item = RawEvent>) -> (u64, u64) {
        let committed = self.commit(Append::events(events));
        (committed.first.get(), committed.last.get())
    }

    pub(super) fn refused(&self, append: Append) -> Refusal {
        match self.append(append) {
            Err(AppendError::Refused(refusal)) => refusal,
            other => panic!("the append should be refused: {other:?}"),
        }
    }

    pub(super) fn invalid(&self, append: Append) -> InvalidRequest {
        match self.append(append) {
            Err(AppendError::Invalid(invalid)) => invalid,
            other => panic!("the append should be invalid: {other:?}"),
        }
    }

    pub(super) fn try_read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.wait("read", self.store.read(filter, read))
    }

    pub(super) fn read(&self, filter: &Filter, read: Read) -> Batch {
        let head = self.head();
        let batch = self.try_read(filter, read.clone()).expect("the read is valid");
        check_batch(filter, &read, head..=self.head(), &batch);
        batch
    }

    /// Every event of the read, batch by batch, in its order.
    pub(super) fn seen(&self, filter: &Filter, mut read: Read) -> Vec<SeenEvent> {
        let mut seen = Vec::new();
        let end = read.upto.min(self.store.head().position());
        loop {
            let batch = self.read(filter, read.clone());
            seen.extend(batch.iter().map(SeenEvent::of));
            match read.direction {
                Direction::Forwards => {
                    if batch.upto() >= end {
                        return seen;
                    }
                    read.after = batch.upto();
                }
                Direction::Backwards => {
                    read.upto = batch.upto().before();
                    if read.upto <= read.after {
                        return seen;
                    }
                }
            }
        }
    }

    pub(super) fn everything(&self) -> Vec<SeenEvent> {
        self.seen(&Filter::everything(), Read::all())
    }

    pub(super) fn positions(&self, filter: &str) -> Vec<u64> {
        numbers(&self.seen(&parse(filter), Read::all()))
    }

    pub(super) fn last(&self, filter: &str, upto: impl Into<Position>) -> Option<u64> {
        let (filter, upto) = (parse(filter), upto.into());
        let last = self.wait("last", self.store.last(&filter, upto));
        last.expect("the question is valid").map(Position::get)
    }

    pub(super) fn count(&self, tag: &str, upto: impl Into<Position>) -> u64 {
        let (tag, upto) = (Tag::parse(tag).unwrap(), upto.into());
        let count = self.wait("count", self.store.count(&tag, upto));
        count.expect("the question is valid")
    }

    pub(super) fn checksum(&self, at: Position) -> Option<EventChecksum> {
        let checksum = self.wait("checksum", self.store.checksum(at));
        checksum.expect("the question is valid")
    }

    pub(super) fn fresh_head(&self) -> u64 {
        let fresh = self.wait("fresh head", self.store.fresh_head());
        fresh.expect("the store answers").get()
    }

    pub(super) fn commits(&self, read: ReadCommits) -> Vec<SeenCommit> {
        self.try_commits(read).expect("the read is valid")
    }

    pub(super) fn try_commits(&self, read: ReadCommits) -> Result<Vec<SeenCommit>, ReadError> {
        let batch = self.wait("commits", self.store.commits(read.clone()))?;
        let commits: Vec<_> = batch.iter().map(SeenCommit::of).collect();
        let ends: Vec<_> = commits.iter().map(|commit| commit.last).collect();
        assert!(ends.is_sorted(), "{read:?}: commits are out of order: {ends:?}");
        let end = ends.last().copied().unwrap_or(read.after.get());
        assert_eq!(batch.upto().get(), end, "{read:?}: the batch ends where its last commit ends");
        Ok(commits)
    }

    /// Every commit after this position, batch by batch.
    pub(super) fn all_commits(&self, mut read: ReadCommits) -> Vec<SeenCommit> {
        let (mut seen, head) = (Vec::new(), self.head());
        loop {
            let commits = self.commits(read.clone());
            let upto = commits.last().map_or(read.after.get(), |commit| commit.last);
            seen.extend(commits);
            if upto >= head {
                return seen;
            }
            assert!(upto > read.after.get(), "{read:?}: no progress");
            read.after = upto.into();
        }
    }

    pub(super) fn keyed(&self, key: &str) -> Option<KeyedCommit> {
        let keyed = self.wait("keyed", self.store.keyed(key));
        keyed.expect("the question is valid")
    }

    pub(super) fn tracked(&self, source: &str) -> Option<Tracking> {
        let tracked = self.wait("tracked", self.store.tracked(source));
        tracked.expect("the question is valid")
    }

    pub(super) fn head(&self) -> u64 {
        self.store.head().position().get()
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(self) -> Probe {
        let Probe { store, patience, hooks } = self;
        drop(store);
        // The hooks are dropped without a call, because they have handles on the store.
        let Hooks { reopen, end, second } = mem::take(&mut *hooks.lock());
        drop((end, second));
        hooks.lock().reopen = reopen;
        let store = {
            let mut hooks = hooks.lock();
            (hooks.reopen.as_mut().expect("the store reopens"))()
        };
        Probe { store, patience, hooks }
    }

    /// Another handle on the log.
    pub(super) fn second(&self) -> Probe {
        let open = &mut self.hooks.lock().second;
        let store = (open.as_mut().expect("the log can have other writers"))();
        Probe { store, patience: self.patience, hooks: self.hooks.clone() }
    }

    pub(super) fn end(&self) {
        let end = self.hooks.lock().end.take();
        (end.expect("the store can be ended"))();
    }

    /// Runs `work` on `threads` threads that start together, and returns their results.
    pub(super) fn parallel<T: Send>(
        &self,
        threads: usize,
        work: impl Fn(usize, &Probe) -> T + Sync,
    ) -> Vec<T> {
        let start = Barrier::new(threads);
        let (start, work) = (&start, &work);
        thread::scope(|scope| {
            let spawn = |number| {
                let probe = self.clone();
                scope.spawn(move || {
                    start.wait();
                    work(number, &probe)
                })
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let join = |handle: thread::ScopedJoinHandle<'_, T>| {
                handle.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
            };
            handles.into_iter().map(join).collect()
        })
    }
}

/// Wakes a thread.
pub(super) struct Unpark(pub(super) Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Checks the rules of a batch that was read while the head was within this range.
fn check_batch(filter: &Filter, read: &Read, head: RangeInclusive<u64>, batch: &Batch) {
    let context = format!("{filter}, {read:?}, head {head:?}");
    let positions: Vec<_> = batch.iter().map(|event| event.position()).collect();
    assert!(batch.len() <= read.limit, "{context}: more than the limit");
    let upto = batch.upto();
    let end = read.upto.min(Position::new(*head.start()));
    let considered = |position: Position| match read.direction {
        Direction::Forwards => read.after < position && position <= upto.min(read.upto),
        Direction::Backwards => upto.max(read.after.plus(1)) <= position && position <= read.upto,
    };
    for event in batch.iter() {
        let position = event.position();
        assert!(
            considered(position),
            "{context}: {position} is outside the considered part, upto {upto}"
        );
        assert!(filter.matches(&event), "{context}: {position} does not match");
    }
    let ordered = positions.windows(2).all(|pair| match read.direction {
        Direction::Forwards => pair[0] < pair[1],
        Direction::Backwards => pair[0] > pair[1],
    });
    assert!(ordered, "{context}: out of order or twice: {positions:?}");
    let reachable = read.upto.min(Position::new(*head.end()));
    let sound = match read.direction {
        Direction::Forwards if read.limit == 0 => upto == read.after,
        Direction::Backwards if read.limit == 0 => upto.before() >= end || read.after >= end,
        // The read has nothing to consider, and is complete.
        Direction::Forwards if read.after >= reachable => upto == read.after,
        Direction::Backwards if read.after >= reachable => upto.before() <= read.after,
        // The read had nothing to consider when it began, but commits may have followed.
        Direction::Forwards if read.after >= end => upto <= reachable,
        Direction::Backwards if read.after >= end => upto.before() <= reachable,
        Direction::Forwards => upto > read.after && upto <= reachable,
        Direction::Backwards => upto > read.after && upto <= reachable,
    };
    assert!(sound, "{context}: upto {upto} is not a possible end of the batch");
    let commit_end = batch.commit_end();
    if read.direction == Direction::Backwards || upto <= read.after {
        assert_eq!(commit_end, upto, "{context}: the batch tells no end of a commit");
        return;
    }
    let is_possible = commit_end >= upto && commit_end <= Position::new(*head.end()).max(upto);
    assert!(is_possible, "{context}: no commit with position {upto} ends at {commit_end}");
}

pub(super) fn numbers(seen: &[SeenEvent]) -> Vec<u64> {
    seen.iter().map(|seen| seen.position).collect()
}

/// A filter from its text. `nothing` is the filter without items.
pub(super) fn parse(filter: &str) -> Filter {
    match filter {
        "nothing" => Filter::nothing(),
        text => text.parse().expect("the case has a good filter"),
    }
}

pub(super) fn tag(text: &str) -> Tag {
    Tag::parse(text).expect("the case has a good tag")
}

/// An event of this type with these tags.
pub(super) fn event(event_type: &str, tags: &[&str]) -> RawEvent {
    let event = RawEvent::new(event_type.to_owned(), b"payload");
    tags.iter().fold(event, |event, text| event.tag(tag(text)))
}

/// `count` events of type `plain`, each with its number as payload.
pub(super) fn plain(count: u64) -> impl Iterator<Item = RawEvent> {
    (0..count).map(|number| RawEvent::new("plain", number.to_string()))
}

/// An append of one event of type `plain`.
pub(super) fn one() -> Append {
    Append::events(plain(1))
}

pub(super) fn condition(fail_if: &str, after: impl Into<Position>) -> AppendCondition {
    AppendCondition { fail_if: parse(fail_if), after: after.into() }
}

/// A key for a request with this text.
pub(super) fn key(name: &str, request: &str) -> Key {
    Key::new(name, Digest::of(request.as_bytes()))
}

pub(super) fn caller_time() -> Setup {
    Setup { time: TimeSource::Caller, ..Setup::default() }
}

/// Limits that a case reaches with small requests.
pub(super) fn small() -> Setup {
    let limits = Limits {
        event_bytes: 200,
        type_bytes: 16,
        tag_bytes: 24,
        tags_per_event: 4,
        metadata_bytes: 32,
        commit_events: 8,
        commit_bytes: 600,
        commit_conditions: 3,
        key_bytes: 16,
        source_bytes: 16,
        tracking_sources: 3,
        filter_items: 3,
        filter_terms: 6,
        batch_events: 5,
        batch_bytes: 300,
    };
    Setup { limits, ..Setup::default() }
}
