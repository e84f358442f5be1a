//! The expected content of a log: every commit that it accepted, in order, and the state of each.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use compact_str::CompactString;
use diptych_log::{Log, disk::simulated::Random};
use diptych_store::{
    AcceptedCommit, Append, AppendError, CommitNumber, CommitSync, EventStore, KeyedCommit, Limits,
    LogIdentity, Memory, Position, RawEvent, ReadError, SyncError, SyncedCommit, TimeSource,
    Timestamp, Tracking, Unavailable,
};

use crate::check::{self, ScannedEvent};

/// The commits that may be lost when a log is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayLose {
    /// No accepted commit, because the log was closed.
    Nothing,
    /// Commits that were not acknowledged.
    Unacknowledged,
    /// Acknowledged commits too, as long as the remaining commits are a prefix: the power was lost,
    /// and the log had not promised to sync before it acknowledged.
    AnyTail,
}

/// A commit that was accepted, as far as its caller knows.
#[derive(Debug, Default)]
pub(crate) struct TakenCommit {
    pub(crate) positions: Option<(Position, Position)>,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) sync: Option<CommitSync>,
    pub(crate) acknowledged: bool,
}

impl From<AcceptedCommit> for TakenCommit {
    fn from(accepted: AcceptedCommit) -> TakenCommit {
        TakenCommit {
            positions: Some((accepted.first, accepted.last)),
            recorded_at: Some(accepted.recorded_at),
            sync: Some(accepted.sync),
            acknowledged: false,
        }
    }
}

impl From<SyncedCommit> for TakenCommit {
    fn from(committed: SyncedCommit) -> TakenCommit {
        let positions = Some((committed.first, committed.last));
        TakenCommit { positions, recorded_at: None, sync: None, acknowledged: true }
    }
}

pub(crate) struct Model {
    limits: Limits,
    commits: Vec<Commit>,
    /// A store with the same commits. It decides whether a commit is accepted.
    memory: Memory,
    /// Number of commits that are certainly durable, because a flush or a close synced them.
    flushed: usize,
    identity: Option<LogIdentity>,
    /// Commits that were accepted since the log was opened.
    accepted_since: u64,
    /// The keys and the sources of all appends so far, accepted or not.
    keys: BTreeSet<CompactString>,
    sources: BTreeSet<CompactString>,
}

struct Commit {
    append: Append,
    last: Position,
    recorded_at: Timestamp,
    waiting: Option<CommitSync>,
    acknowledged: bool,
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Model {
        Model {
            memory: memory_of(&limits),
            limits,
            commits: Vec::new(),
            flushed: 0,
            identity: None,
            accepted_since: 0,
            keys: BTreeSet::new(),
            sources: BTreeSet::new(),
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The last accepted position.
    pub(crate) fn accepted(&self) -> Position {
        EventStore::head(&self.memory).position()
    }

    /// The last position that was acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        let acknowledged = self.commits.iter().filter(|commit| commit.acknowledged);
        acknowledged.map(|commit| commit.last.get()).max().unwrap_or(0)
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.commits.iter().filter(|commit| !commit.acknowledged).count()
    }

    /// A random commit that was accepted.
    pub(crate) fn some_append(&self, random: &mut Random) -> Option<&Append> {
        random.pick(&self.commits).map(|commit| &commit.append)
    }

    /// Called before each append. From then on the checks look up the key and the source of the
    /// commit.
    pub(crate) fn offered(&mut self, append: &Append) {
        self.keys.extend(append.key.iter().map(|key| key.name.clone()));
        let source = append.tracking.iter();
        self.sources.extend(source.map(|tracking| tracking.source.clone()));
    }

    /// Compares the decision of the log about a commit with the decision of the model, which must
    /// be equal. A commit whose outcome is unknown counts as accepted.
    pub(crate) fn decided(&mut self, append: Append, decided: Result<TakenCommit, AppendError>) {
        let expected = pollster::block_on(self.memory.append(append.clone()));
        let taken = match (decided, expected) {
            (Ok(taken), Ok(expected)) => {
                let recorded_at = expected.recorded_at;
                let expected = (expected.first, expected.last);
                let found = taken.positions.unwrap_or(expected);
                assert_eq!(found, expected, "accepted at other positions");
                let said = taken.recorded_at.unwrap_or(recorded_at);
                assert_eq!(said, recorded_at, "accepted at another time");
                TakenCommit { positions: Some(found), recorded_at: Some(said), ..taken }
            }
            (Err(AppendError::Refused(found)), Err(AppendError::Refused(expected))) => {
                return assert_eq!(found, expected, "refused for another reason");
            }
            (Err(AppendError::Invalid(found)), Err(AppendError::Invalid(expected))) => {
                return assert_eq!(found, expected, "wrong in another way");
            }
            (found, expected) => {
                panic!("the log answers {found:?}, where {expected:?} is right, to {append:?}")
            }
        };
        if append.events.is_empty() && append.tracking.is_none() {
            return;
        }
        self.accepted_since += 1;
        self.commits.push(Commit {
            append,
            last: taken.positions.unwrap().1,
            recorded_at: taken.recorded_at.unwrap(),
            waiting: taken.sync,
            acknowledged: taken.acknowledged,
        });
    }

    /// Notes that all commits accepted so far were synced by a flush or a close.
    pub(crate) fn flushed(&mut self) {
        self.flushed = self.commits.len();
    }

    /// The number of the next commit that the log accepts.
    pub(crate) fn next_commit(&self) -> CommitNumber {
        CommitNumber(self.accepted_since + 1)
    }

    /// Notes which commits were acknowledged meanwhile. An error if some commits never will be, or
    /// are not for now.
    pub(crate) fn settle(&mut self) -> Result<(), SyncError> {
        let mut outcome = Ok(());
        for commit in &mut self.commits {
            let Some(synced) = commit.waiting.take() else {
                continue;
            };
            let mut wait = synced.clone().wait();
            match Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => commit.waiting = Some(synced),
                Poll::Ready(Ok(())) => {
                    assert!(outcome.is_ok(), "acknowledged after a commit that never will be");
                    commit.acknowledged = true;
                }
                Poll::Ready(Err(error)) => {
                    // The log keeps it while there is no space.
                    if matches!(error.cause, Unavailable::Storage { .. }) {
                        commit.waiting = Some(synced);
                    }
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Checks that readers see the acknowledged commits and no others.
    pub(crate) fn check_published(&self, log: &Log, random: &mut Random) -> Result<(), ReadError> {
        let acknowledged = self.commits.iter().rfind(|commit| commit.acknowledged);
        let head = acknowledged.map_or(Position::START, |commit| commit.last);
        assert_eq!(EventStore::head(log).position(), head, "the head");
        let scan = check::scan(log)?;
        self.prefix(&scan);
        check::indexes(log, &scan, random)
    }

    /// Called after the log was opened again. Checks that its commits are a prefix of the accepted
    /// commits, and that only those commits are lost that may be. From then on this prefix is all
    /// that the model expects.
    pub(crate) fn recover(&mut self, log: &Log, may_lose: MayLose, random: &mut Random) -> usize {
        self.accepted_since = 0;
        let scan = check::scan(log).unwrap();
        let kept = self.kept(log, &scan);
        let lost = &self.commits[kept..];
        let lost_acknowledged = lost.iter().any(|commit| commit.acknowledged);
        match may_lose {
            MayLose::Nothing => assert_eq!(lost.len(), 0, "a closed log lost commits"),
            MayLose::Unacknowledged => assert!(
                !lost_acknowledged,
                "acknowledged commits are lost: {kept} of {} are left",
                self.commits.len()
            ),
            MayLose::AnyTail => assert!(kept >= self.flushed, "flushed commits are lost"),
        }
        let lost = lost.len();
        self.check_identity(EventStore::identity(log), may_lose, lost_acknowledged);
        self.forget_after(kept);
        self.check_keys(log);
        check::indexes(log, &scan, random).unwrap();
        lost
    }

    /// The number of whole commits, from the first on, that these events are.
    fn prefix(&self, scan: &[ScannedEvent]) -> usize {
        let (mut rest, mut whole) = (scan, 0);
        for commit in &self.commits {
            let events = &commit.append.events;
            let Some((found, after)) = rest.split_at_checked(events.len()) else {
                break;
            };
            for (scanned, event) in found.iter().zip(events) {
                check_event(scanned, event, commit);
            }
            (rest, whole) = (after, whole + 1);
        }
        assert_eq!(
            rest.len(),
            0,
            "events of an incomplete commit, or of a commit that was not accepted"
        );
        whole
    }

    /// The number of whole commits in the log. A commit without events shows only in its tracking.
    fn kept(&self, log: &Log, scan: &[ScannedEvent]) -> usize {
        let most = self.prefix(scan);
        let stored = |source: &CompactString| log.blocking().tracked(source).unwrap();
        let stored: Vec<_> = self.sources.iter().map(stored).collect();
        let without_events =
            self.commits[..most].iter().rev().take_while(|commit| commit.append.events.is_empty());
        let fewest = most - without_events.count();
        let fits = |kept: &usize| {
            let expected = self.sources.iter().map(|source| self.tracked(source, *kept));
            expected.eq(stored.iter().cloned())
        };
        let kept = (fewest..=most).rev().find(fits);
        kept.unwrap_or_else(|| panic!("no prefix of the commits has this tracking: {stored:?}"))
    }

    fn tracked(&self, source: &str, kept: usize) -> Option<Tracking> {
        let mut stored =
            self.commits[..kept].iter().rev().filter_map(|commit| commit.append.tracking.as_ref());
        stored.find(|tracking| tracking.source == source).cloned()
    }

    fn check_identity(&mut self, found: LogIdentity, may_lose: MayLose, lost: bool) {
        if let Some(before) = self.identity.replace(found) {
            assert_eq!(found.id, before.id, "it became another log");
            match may_lose {
                MayLose::AnyTail if lost => {
                    assert!(found.epoch.number() > before.epoch.number(), "the same epoch");
                }
                MayLose::AnyTail => {}
                _ => assert_eq!(found.epoch, before.epoch, "another epoch for no reason"),
            }
        }
    }

    /// Forgets the lost commits. The remaining commits count as synced, because an open has found
    /// them.
    fn forget_after(&mut self, kept: usize) {
        self.commits.truncate(kept);
        self.flushed = self.flushed.min(kept);
        self.memory = memory_of(&self.limits);
        for commit in &mut self.commits {
            commit.acknowledged = true;
            commit.waiting = None;
            // All commits before this one are there again, so the memory store accepts it again.
            let _ = pollster::block_on(self.memory.append(commit.append.clone())).unwrap();
        }
    }

    fn check_keys(&self, log: &Log) {
        for name in &self.keys {
            let found: Option<KeyedCommit> = log.blocking().keyed(name).unwrap();
            let expected = pollster::block_on(self.memory.keyed(name)).unwrap();
            assert_eq!(found, expected, "key {name}");
        }
    }
}

fn check_event(scanned: &ScannedEvent, event: &RawEvent, commit: &Commit) {
    assert_eq!(&scanned.event, event, "an event is not what was appended");
    assert_eq!(scanned.recorded_at, commit.recorded_at, "recorded at another time");
}

fn memory_of(limits: &Limits) -> Memory {
    Memory::new().limits(limits.clone()).time(TimeSource::Caller)
}
