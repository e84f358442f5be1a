//! Stores that are deliberately wrong. They prove that each case of the suite can fail.
//!
//! A [`WrongStore`] is a simple store with vectors and linear scans, and at most one [`Flaw`].
//! Without a flaw it passes every case. With a flaw it fails the cases about that flaw.

mod flaw;
mod search;
mod write;

use std::{
    future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use bytes::Bytes;
pub use flaw::Flaw;
use parking_lot::Mutex;
use write::CommitAnswer;

use super::{Setup, TestStore};
use crate::{
    append::{AcceptedCommit, Append, CommitSync, Key, KeyedCommit, Tracking},
    batch::{Batch, Read},
    error::{AppendError, Corruption, ReadError, Unavailable},
    event::RawEvent,
    filter::Filter,
    head::{CommitNumber, Head, HeadPublisher},
    identity::{Epoch, LogId, LogIdentity},
    limits::Limits,
    position::Position,
    store::{EventStore, Store},
    tag::Tag,
    time::{TimeSource, Timestamp},
};

/// A store with at most one flaw. Clones are handles on one store.
#[derive(Clone, Debug)]
pub struct WrongStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    flaw: Option<Flaw>,
    identity: LogIdentity,
    limits: Limits,
    time: TimeSource,
    publisher: HeadPublisher,
    ended: AtomicBool,
    /// Number of calls that a flaw answers in turns, sometimes right and sometimes wrong.
    asked: AtomicU64,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    /// The events, in the order of their positions.
    events: Vec<EventRow>,
    /// The position that the next event gets.
    next: u64,
    commits: u64,
    /// The last position of the last commit.
    last: u64,
    recorded_at: Timestamp,
    keys: Vec<(Key, Position, Position)>,
    /// In the order of the commits.
    tracking: Vec<TrackingRow>,
    /// The highest position that was read already.
    taken: Position,
}

#[derive(Clone, Debug)]
struct EventRow {
    position: Position,
    recorded_at: Timestamp,
    commit: u64,
    /// The event that filters are compared with.
    event: RawEvent,
    tags_as_given: Vec<Tag>,
    bytes: Bytes,
}

#[derive(Clone, Debug)]
struct TrackingRow {
    tracking: Tracking,
    /// The head when the tracking was stored.
    at: Position,
    alone: bool,
}

/// A store for the suite with this flaw, or without one. It can be reopened and ended.
pub fn test_store(flaw: Option<Flaw>, setup: &Setup) -> TestStore {
    let wrong = WrongStore::new(flaw, setup);
    // Each reopened store replaces the one before it.
    let (mut open, ending) = (wrong.clone(), wrong.clone());
    TestStore::new(wrong).end(move || ending.end()).reopen(move || {
        open = open.reopened();
        Store::new(open.clone())
    })
}

impl WrongStore {
    /// An empty log with this flaw, or without one.
    pub fn new(flaw: Option<Flaw>, setup: &Setup) -> WrongStore {
        static SHARED: OnceLock<WrongStore> = OnceLock::new();
        let state = State {
            events: Vec::new(),
            next: 1,
            commits: 0,
            last: 0,
            recorded_at: Timestamp::NEVER,
            keys: Vec::new(),
            tracking: Vec::new(),
            taken: Position::START,
        };
        let identity = match flaw {
            Some(Flaw::IdentityIsTheSameEverywhere) => constant_identity(),
            _ => LogIdentity::random(),
        };
        let fresh = || WrongStore::with(flaw, identity, setup.limits.clone(), setup.time, state);
        let wrong = match flaw {
            Some(Flaw::SharesOneLog) => SHARED.get_or_init(fresh).clone(),
            _ => fresh(),
        };
        if wrong.is(Flaw::StartsWithAnEvent) {
            let created = Append::event(RawEvent::new("log-created", []));
            let _ = wrong.commit(created);
        }
        wrong
    }

    fn with(
        flaw: Option<Flaw>,
        identity: LogIdentity,
        limits: Limits,
        time: TimeSource,
        state: State,
    ) -> WrongStore {
        let head = match flaw {
            Some(Flaw::ReopeningForgetsTheHead) => 0,
            _ => state.last,
        };
        let publisher = HeadPublisher::new(head.into());
        publisher.publish(head.into(), CommitNumber(state.commits));
        WrongStore(Arc::new(Inner {
            flaw,
            identity,
            limits,
            time,
            publisher,
            ended: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            state: Mutex::new(state),
        }))
    }

    /// Ends the store: it accepts no more commits, and waits for its head are errors.
    pub fn end(&self) {
        if !self.is(Flaw::TakesCommitsAfterTheEnd) {
            self.0.ended.store(true, Ordering::Release);
        }
        if !self.is(Flaw::EndsInSilence) {
            self.0.publisher.end(Unavailable::Closed);
        }
    }

    /// Opens the log again.
    fn reopened(&self) -> WrongStore {
        let mut identity = self.0.identity;
        let Inner { flaw, limits, time, state, .. } = &*self.0;
        let mut state = state.lock().clone();
        match flaw {
            Some(Flaw::ReopeningStampsAgain) => state.events.iter_mut().for_each(|stored| {
                stored.recorded_at = Timestamp::from_micros(stored.recorded_at.as_micros() + 1);
            }),
            Some(Flaw::ReopeningStartsAtOne) => state.next = 1,
            Some(Flaw::ReopeningForgetsKeys) => state.keys.clear(),
            Some(Flaw::ReopeningForgetsTracking) => state.tracking.clear(),
            Some(Flaw::ReopeningForgetsTrackingAlone) => {
                state.tracking.retain(|tracked| !tracked.alone);
            }
            Some(Flaw::ReopeningForgetsTags) => {
                state.events.iter_mut().for_each(|stored| stored.event.tags.clear());
            }
            Some(Flaw::ReopeningChangesTheIdentity) => identity.epoch = identity.epoch.next(),
            Some(Flaw::ReopeningLosesTheLastCommit) => {
                let last = state.commits;
                state.events.retain(|stored| stored.commit != last);
                state.last = state.events.last().map_or(0, |stored| stored.position.get());
                state.next = state.last + 1;
            }
            Some(Flaw::ReopeningForgetsTheTime) => {
                state.recorded_at = Timestamp::NEVER;
            }
            _ => {}
        }
        WrongStore::with(*flaw, identity, limits.clone(), *time, state)
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.0.flaw == Some(flaw)
    }

    /// The number of earlier calls.
    fn asked(&self) -> u64 {
        self.0.asked.fetch_add(1, Ordering::Relaxed)
    }

    /// The last position that readers may see.
    fn published(&self) -> Position {
        self.0.publisher.head().position()
    }
}

fn constant_identity() -> LogIdentity {
    LogIdentity { id: LogId::from_bytes([1; 16]), epoch: Epoch::from_u64(1) }
}

/// Sleeps long enough for other threads to run in between.
fn dawdle() {
    thread::sleep(Duration::from_micros(500));
}

/// Returns pending once, so that the caller can drop the future half-way.
async fn yield_once() {
    let mut yielded = false;
    future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The error of a wrong store, with this reason.
fn broken(what: &str) -> Corruption {
    Corruption {
        place: "a wrong store".to_owned(),
        what: what.to_owned(),
        advice: "use another".to_owned(),
    }
}

impl EventStore for WrongStore {
    fn identity(&self) -> LogIdentity {
        match self.is(Flaw::IdentityChanges) {
            true => LogIdentity::random(),
            false => self.0.identity,
        }
    }

    fn limits(&self) -> Limits {
        match self.is(Flaw::SaysOtherLimits) {
            true => Limits::default(),
            false => self.0.limits.clone(),
        }
    }

    fn head(&self) -> Head {
        let copy = |position: Position| HeadPublisher::new(position).head();
        match self.0.flaw {
            Some(Flaw::HeadIsACopy) => copy(self.published()),
            Some(Flaw::HeadGoesBack) if self.asked() % 2 == 1 => copy(self.published().before()),
            _ => self.0.publisher.head(),
        }
    }

    async fn append(&self, mut append: Append) -> Result<AcceptedCommit, AppendError> {
        if self.is(Flaw::WritesInTwoSteps) && !append.events.is_empty() {
            self.commit(Append::event(append.events.remove(0)))?;
            yield_once().await;
        }
        let CommitAnswer { first, last, recorded_at, commit } = self.commit(append)?;
        let commit = match self.0.flaw {
            Some(Flaw::NeverSyncs) => commit + 1_000_000,
            Some(Flaw::PublishesOneCommitLate) => 0,
            _ => commit,
        };
        let sync = CommitSync::new(CommitNumber(commit), self.0.publisher.head());
        Ok(AcceptedCommit { first, last, recorded_at, sync })
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.search(filter, read)
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.search_last(filter, upto)
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.search_count(tag, upto)
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        Ok(self.key_in(&self.0.state.lock(), key))
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        let state = self.0.state.lock();
        Ok(self.tracking_in(&state, source).map(|tracked| tracked.tracking.clone()))
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.search_types()
    }
}
