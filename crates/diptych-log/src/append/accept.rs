//! Accepting commits: the calling thread checks its commit, assigns positions and queues the bytes,
//! under one lock and without touching the disk. Writing comes later and elsewhere.
//!
//! The subtle thing is how long the lock is held. Before it is taken, frames are encoded and
//! checksummed, and key and conditions are looked up among everything accepted up to that moment.
//! Under the lock only newer events are left to check, and those are in memory.

use std::{
    cmp::Reverse,
    task::{Poll, Waker},
};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, CommitNumber, CommitSync, InvalidRequest,
    KeyedCommit, Position, Refusal, Unavailable,
};

use crate::{
    append::encoded::EncodedCommit,
    catalog::Catalog,
    disk::Disk,
    error::check_failed,
    shared::{LogEnd, SharedState},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

mod clock;
pub(crate) mod pauses;
mod room;
mod state;
mod turn;

use state::AcceptState;

#[cfg(diptych_model)]
use crate::sync::Flaw;

/// Accepts commits, and keeps them until the writer takes them.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// Held for as long as it takes to check and queue one commit.
    state: Mutex<AcceptState>,
    /// Tells the writer thread that there is work.
    work: Condvar,
    /// Tells callers that wait for the index that a part of it was written, or that the log ended.
    indexed: Condvar,
    /// The last accepted position, for look-ups without the lock.
    accepted: AtomicU64,
    /// Whether commits are refused for now, to be seen without the lock.
    is_paused: AtomicBool,
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

/// The place of one append among those that wait for room. The append waits no longer when the
/// place is dropped.
#[derive(Debug)]
pub(crate) struct WaitPlace<'a> {
    acceptor: &'a Acceptor,
    number: Option<u64>,
    /// How many attempts had failed when the append met a pause.
    attempts: Option<u64>,
}

impl<'a> WaitPlace<'a> {
    pub(crate) fn new(acceptor: &'a Acceptor) -> WaitPlace<'a> {
        WaitPlace { acceptor, number: None, attempts: None }
    }
}

impl Drop for WaitPlace<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let waker = self.acceptor.state.lock().room.leave(number);
        // Without the lock, because dropping a waker runs code of others.
        drop(waker);
    }
}

/// The thread that writes an accepted commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Another than the caller: the writer thread, or a call that drives a log without threads.
    Other,
    /// The caller, if no other thread writes at the moment.
    Caller,
}

impl Acceptor {
    pub(crate) fn new(end: LogEnd, disk: &dyn Disk) -> Acceptor {
        let accepted = AtomicU64::new(end.position.get());
        let is_paused = AtomicBool::new(false);
        let state = Mutex::new(AcceptState::new(end, disk));
        let (work, indexed) = (Condvar::new(), Condvar::new());
        Acceptor { state, work, indexed, accepted, is_paused }
    }

    /// Accepts a commit or refuses it. Pending means that there is no room now: `waker` is woken
    /// when the caller can offer it again, unless `place` was dropped.
    pub(crate) fn offer(
        &self,
        shared: &SharedState,
        commit: &mut EncodedCommit,
        writes: Writes,
        place: &mut WaitPlace<'_>,
        waker: &Waker,
    ) -> Poll<Result<Outcome, AppendError>> {
        let lookup = match self.look_up(shared, &commit.append) {
            Ok(lookup) => lookup,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut state = self.state.lock();
        if let Some(why) = &state.ended {
            return Poll::Ready(Err(why.clone().into()));
        }
        let mut must_wait = !state.has_room(shared);
        if let Some(why) = state.pauses.why() {
            let attempts = state.pauses.attempts();
            if *place.attempts.get_or_insert(attempts) != attempts {
                return Poll::Ready(Err(why.clone().into()));
            }
            must_wait = true;
            if state.pauses.is_writer_paused() {
                // The writer thread makes an attempt for this append.
                state.handed_over = true;
                self.work.notify_one();
            }
        }
        if must_wait {
            let replaced = state.room.wait(&mut place.number, waker);
            if state.next_append().is_some() {
                // The writer thread wakes this append in time.
                self.work.notify_one();
            }
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        Poll::Ready(self.accept(&mut state, shared, commit, lookup, writes))
    }

    fn look_up(&self, shared: &SharedState, append: &Append) -> Result<Lookup, AppendError> {
        let upto = Position::new(self.accepted.load(Ordering::Acquire));
        let mut lookup = Lookup { upto, ..Lookup::default() };
        if append.key.is_none() && append.conditions.is_empty() {
            return Ok(lookup);
        }
        let catalog = shared.catalog();
        if let Some(key) = &append.key {
            let found = catalog.key(shared.disk(), &key.name, Position::new(1));
            lookup.key = found.map_err(check_failed)?;
        }
        lookup.conflict = conflict(shared, &catalog, append, (Position::new(1), upto))?;
        Ok(lookup)
    }

    fn accept(
        &self,
        state: &mut AcceptState,
        shared: &SharedState,
        commit: &mut EncodedCommit,
        lookup: Lookup,
        writes: Writes,
    ) -> Result<Outcome, AppendError> {
        let head = shared.head();
        match check(state, shared, &commit.append, lookup) {
            Err(error @ AppendError::Refused(_)) => {
                let rests_on = CommitSync::new(CommitNumber(state.commits), head);
                return Ok(Outcome::Refused(error, rests_on));
            }
            checked => checked?,
        }
        let first = state.accepted.plus(1);
        if commit.frames.is_empty() {
            let sync = CommitSync::new(CommitNumber(state.commits), head);
            let (last, recorded_at) = (state.accepted, state.time);
            let accepted = AcceptedCommit { first, last, recorded_at, sync };
            return Ok(Outcome::Accepted { accepted, batch: 0, write: false });
        }
        state.accept(shared, commit)?;
        self.accepted.store(state.accepted.get(), Ordering::Release);
        state.limit_part(shared);
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

    /// The last accepted commit.
    pub(crate) fn commits(&self) -> CommitNumber {
        CommitNumber(self.state.lock().commits)
    }

    /// Why commits are refused, if they are.
    pub(crate) fn ended(&self) -> Option<Unavailable> {
        self.state.lock().ended.clone()
    }

    /// Whether a write or sync failed: nothing may be written any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().has_failed()
    }

    /// Stops accepting commits after a failure, and drops those that are queued. Returns the wakers
    /// of the callers that wait for room.
    pub(crate) fn fail(&self, why: Unavailable) -> Vec<Waker> {
        let mut state = self.state.lock();
        state.stop_taking(why);
        self.indexed.notify_all();
        self.is_paused.store(false, Ordering::Relaxed);
        state.room.take()
    }

    /// Stops accepting commits and tells the writer thread to end; returns `false` if
    /// the log was closed before. Commits that are queued are still written. Reads are refused from
    /// the same moment.
    pub(crate) fn close(&self, shared: &SharedState) -> bool {
        let mut state = self.state.lock();
        if matches!(state.ended, Some(Unavailable::Closed)) {
            return false;
        }
        state.ended.get_or_insert(Unavailable::Closed);
        shared.close();
        state.stop = true;
        let woken = state.room.take();
        self.work.notify_all();
        self.indexed.notify_all();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        true
    }

    /// Queues the record of a log that is closed here, with the last part of the index; answers
    /// whether it may be written, which it may not after a failure.
    pub(crate) fn mark_closed(&self) -> bool {
        let mut state = self.state.lock();
        if state.has_failed() {
            return false;
        }
        state.mark_closed();
        true
    }

    /// Queues a new segment, in which the log continues.
    pub(crate) fn begin_anew(&self, shared: &SharedState) {
        self.state.lock().begin_anew(shared);
    }
}

/// The conflict among the events `low..=high`, if one violates a condition.
fn conflict(
    shared: &SharedState,
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
        let found = catalog.last(shared.disk(), fail_if, low, high).map_err(check_failed)?;
        conflict = conflict.max(found.map(|at| (at, Reverse(after))));
    }
    Ok(conflict)
}

/// Checks tracking, key and conditions, in this order, against everything accepted.
fn check(
    state: &AcceptState,
    shared: &SharedState,
    append: &Append,
    lookup: Lookup,
) -> Result<(), AppendError> {
    append.check_positions(state.accepted)?;
    if let Some(tracking) = &append.tracking {
        if let Some((stored, at)) = state.tracking.get(&tracking.source) {
            tracking.check_against(stored, *at)?;
        } else {
            let limit = shared.options().limits.tracking_sources;
            let sources = state.tracking.len() + 1;
            if sources > limit {
                let (what, name) = ("tracking sources", "tracking_sources");
                return Err(InvalidRequest::too_many(what, sources, limit, name).into());
            }
        }
    }
    if append.key.is_none() && append.conditions.is_empty() {
        return Ok(());
    }
    let since = lookup.upto.plus(1);
    #[cfg(diptych_model)]
    let since = if Flaw::StaleCheck.is_set() { Position::MAX } else { since };
    let newer = (state.accepted >= since).then(|| shared.catalog());
    if let Some(key) = &append.key {
        let found = match (lookup.key, &newer) {
            (None, Some(catalog)) => {
                catalog.key(shared.disk(), &key.name, since).map_err(check_failed)?
            }
            (found, _) => found,
        };
        if let Some(commit) = found {
            return Err(commit.refuse(key).into());
        }
    }
    let newest = match &newer {
        Some(catalog) => conflict(shared, catalog, append, (since, state.accepted))?,
        None => None,
    };
    // Newer events are above all positions that were looked up before the lock.
    match newest.or(lookup.conflict) {
        Some((at, Reverse(after))) => Err(Refusal::Conflict { at, after }.into()),
        None => Ok(()),
    }
}
