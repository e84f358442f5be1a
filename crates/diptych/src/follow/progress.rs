//! The position and the state of a follower, for waiting queries and for people.

use std::{
    future::Future,
    mem::discriminant,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use diptych_store::{
    CommitNumber, Head, HeadPublisher, HistoryChanged, Position, Timestamp, Unavailable,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    metrics::FollowerMetrics,
    poison::Quarantine,
    state::{FollowState, FollowerStop, Lag, Standstill},
    versions::VersionStatus,
};
use crate::wait;

/// A follower that works on one page for this time counts as stalled.
const STUCK: Duration = Duration::from_secs(5);

/// The progress of a follower, shared with queries.
pub(crate) struct Progress {
    name: String,
    metrics: FollowerMetrics,
    position: AtomicU64,
    events: AtomicU64,
    /// Whether it continues by itself.
    running: AtomicBool,
    /// Whether it has to end.
    ending: AtomicBool,
    /// Whether it applies no more events for now. Each query reads this without a lock.
    still: AtomicBool,
    doing: Mutex<Doing>,
    times: Mutex<Times>,
    /// The versions as its thread last saw them.
    versions: Mutex<Vec<VersionStatus>>,
    /// The poisoned keys of a projection.
    quarantine: Mutex<Quarantine>,
    /// Wakes the callers that wait for a position. It is replaced each time that the follower stops
    /// or starts over.
    arrivals: Mutex<HeadPublisher>,
}

struct Doing {
    state: FollowState,
    since: Timestamp,
}

impl Doing {
    fn change(&mut self, state: FollowState) {
        if discriminant(&self.state) != discriminant(&state) {
            self.since = Timestamp::now();
        }
        self.state = state;
    }
}

#[derive(Clone, Copy)]
struct Times {
    /// The last time at which the follower was known to have the whole log.
    complete_at: Option<Instant>,
    /// The time since which it is known to be behind.
    behind_since: Option<Instant>,
    /// The time since which it works on the current page.
    works_since: Option<Instant>,
}

/// The reason why a wait for this follower is pointless.
#[derive(Clone, Debug)]
pub(crate) enum HaltCause {
    Stopped(FollowerStop),
    Ended { reason: String },
    HistoryChanged(HistoryChanged),
    Closed,
}

impl Progress {
    /// `kind` names the kind of follower in metrics.
    pub(crate) fn new(kind: &'static str, name: String, position: Position) -> Progress {
        Progress {
            metrics: FollowerMetrics::new(kind, &name),
            name,
            position: AtomicU64::new(position.get()),
            events: AtomicU64::new(0),
            running: AtomicBool::new(true),
            ending: AtomicBool::new(false),
            still: AtomicBool::new(false),
            doing: Mutex::new(Doing { state: FollowState::CatchingUp, since: Timestamp::now() }),
            times: Mutex::new(Times {
                complete_at: None,
                behind_since: Some(Instant::now()),
                works_since: None,
            }),
            versions: Mutex::default(),
            quarantine: Mutex::default(),
            arrivals: Mutex::new(HeadPublisher::new(position)),
        }
    }

    /// Its versions.
    pub(crate) fn versions(&self) -> Vec<VersionStatus> {
        self.versions.lock().clone()
    }

    pub(crate) fn show_versions(&self, versions: Vec<VersionStatus>) {
        *self.versions.lock() = versions;
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    /// Number of events applied since it was started.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Shows the number of poisoned keys in the metrics.
    pub(crate) fn poisoned(&self, keys: usize) {
        self.metrics.poisoned(keys);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(crate) fn state(&self) -> FollowState {
        self.doing.lock().state.clone()
    }

    /// When it entered its state.
    pub(crate) fn since(&self) -> Timestamp {
        self.doing.lock().since
    }

    /// Why its state does not change for now, if it stands still.
    pub(crate) fn standstill(&self) -> Option<Box<Standstill>> {
        if !self.still.load(Ordering::Acquire) {
            return None;
        }
        let Doing { state, since } = &*self.doing.lock();
        let standstill = || Box::new(Standstill { state: state.clone(), since: *since });
        state.is_standstill().then(standstill)
    }

    pub(crate) fn lag(&self, head: Position) -> Lag {
        let positions = head.get().saturating_sub(self.position().get());
        let since = self.times.lock().behind_since;
        let time = match positions {
            0 => Duration::ZERO,
            _ => since.map_or(Duration::ZERO, |since| since.elapsed()),
        };
        Lag { positions, time }
    }

    /// Reports the lag to the metrics.
    pub(super) fn measure(&self, head: Position) {
        self.metrics.lag(self.lag(head));
    }

    /// Notes that it begins to read or apply a page.
    pub(super) fn begin_work(&self) {
        self.times.lock().works_since = Some(Instant::now());
    }

    /// Notes that the work on the page has ended, with or without success.
    pub(super) fn end_work(&self) {
        self.times.lock().works_since = None;
    }

    /// Updates lag and state from outside, because a stuck follower cannot report its own.
    pub(super) fn observe(&self, head: Position) {
        if self.position() < head {
            self.fell_behind();
            if self.position() >= head {
                // It caught up meanwhile.
                self.caught_up();
            }
        }
        self.measure(head);
        let mut doing = self.doing.lock();
        let works_since = self.times.lock().works_since;
        let busy = works_since.map(|since| since.elapsed()).filter(|busy| *busy >= STUCK);
        if let Some(busy) = busy
            && matches!(doing.state, FollowState::Live | FollowState::CatchingUp)
        {
            let (after, seconds) = (self.position(), busy.as_secs());
            let reason = format!(
                "at work for {seconds} s on the events after position {after}: the store, a fold \
                 or a database does not return"
            );
            tracing::warn!(follower = self.name, reason, "following the log");
            doing.change(FollowState::Stalled { reason });
            self.still.store(true, Ordering::Release);
        }
    }

    /// The last time at which the follower was known to have the whole log.
    pub(crate) fn complete_at(&self) -> Option<Instant> {
        self.times.lock().complete_at
    }

    /// The poisoned keys of a projection.
    pub(crate) fn quarantine(&self) -> Quarantine {
        self.quarantine.lock().clone()
    }

    /// Shows the poisoned keys of a projection, in its status and in the metrics.
    pub(crate) fn show_quarantine(&self, quarantine: &Quarantine) {
        self.poisoned(quarantine.poisoned_keys());
        *self.quarantine.lock() = quarantine.clone();
    }

    /// Whether it had the whole log at some time.
    pub(crate) fn was_at_the_head(&self) -> bool {
        self.complete_at().is_some() || self.state() == FollowState::Live
    }

    /// Notes that a caller saw the follower at the end of the log at this time.
    pub(crate) fn was_complete(&self, at: Instant) {
        let mut times = self.times.lock();
        times.complete_at = times.complete_at.max(Some(at));
    }

    /// Notes that the head moved ahead of the follower.
    pub(super) fn fell_behind(&self) {
        self.times.lock().behind_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn caught_up(&self) {
        self.times.lock().behind_since = None;
    }

    /// Notes that all events up to here are applied and visible.
    pub(crate) fn advance_to(&self, position: Position, events: usize) {
        self.count_events(events);
        let before = self.position.swap(position.get(), Ordering::AcqRel);
        let mut arrivals = self.arrivals.lock();
        if position.get() < before {
            // The follower started over, so waiting callers have to wait longer.
            *arrivals = HeadPublisher::new(position);
        }
        arrivals.publish(position, CommitNumber(0));
    }

    /// Counts `events` as folded; they may not be visible yet.
    pub(crate) fn count_events(&self, events: usize) {
        self.events.fetch_add(events as u64, Ordering::Relaxed);
        self.metrics.count_events(events);
    }

    pub(crate) fn set(&self, state: FollowState) {
        let runs = matches!(
            state,
            FollowState::CatchingUp
                | FollowState::Live
                | FollowState::Resting
                | FollowState::Beside { .. }
                | FollowState::Stalled { .. }
        );
        self.running.store(runs, Ordering::Relaxed);
        self.metrics.state(&state);
        let halted = {
            let mut doing = self.doing.lock();
            self.still.store(state.is_standstill(), Ordering::Release);
            doing.change(state);
            HaltCause::of(&doing.state).is_some()
        };
        if halted {
            // Waiting callers wake and find the reason in the state.
            *self.arrivals.lock() = HeadPublisher::new(self.position());
        }
    }

    /// Wakes waiting queries, so that they look again.
    pub(crate) fn wake(&self) {
        *self.arrivals.lock() = HeadPublisher::new(self.position());
    }

    /// The head that a query waits on, or the reason why waiting is pointless.
    pub(crate) fn arrivals(&self) -> Result<Head, HaltCause> {
        // The order matters: a halt that comes in between ends the head that is returned here.
        let head = self.arrivals.lock().head();
        match HaltCause::of(&self.doing.lock().state) {
            Some(halted) => Err(halted),
            None => Ok(head),
        }
    }

    /// Checks that `head` shows the current end of the log. It no longer does once the app is
    /// stopped or the store has ended, because the log may continue elsewhere. Call this after
    /// reading `head`.
    pub(crate) fn check_current(&self, head: &Head) -> Result<(), HaltCause> {
        if self.is_ending() {
            return Err(HaltCause::Closed);
        }
        match head.is_ended() {
            true => Err(HaltCause::ended(head)),
            false => Ok(()),
        }
    }

    /// Waits until all events up to here are applied.
    pub(crate) async fn until(&self, position: Position) -> Result<(), HaltCause> {
        while self.position() < position {
            // If this wait ends early, the loop checks the state again, because the follower may
            // have started over.
            let _ = self.arrivals()?.after(position.before()).await;
        }
        Ok(())
    }
}

impl HaltCause {
    /// The cause for a store that has ended.
    pub(crate) fn ended(head: &Head) -> HaltCause {
        match head.ended() {
            Some(Unavailable::HistoryChanged(changed)) => HaltCause::HistoryChanged(changed),
            why => HaltCause::Ended { reason: why.unwrap_or(Unavailable::Closed).to_string() },
        }
    }

    fn of(state: &FollowState) -> Option<HaltCause> {
        match state {
            FollowState::Stopped(stopped) => Some(HaltCause::Stopped(stopped.clone())),
            FollowState::Ended { reason } => Some(HaltCause::Ended { reason: reason.clone() }),
            FollowState::HistoryChanged(changed) => Some(HaltCause::HistoryChanged(*changed)),
            FollowState::Closed => Some(HaltCause::Closed),
            _ => None,
        }
    }
}

/// Waits for `what` on the thread of a follower, unless the follower has to end. So the end of the
/// app does not wait for a store that does not answer, or that needs the thread which waits for the
/// follower.
pub(crate) fn unless_ending<T>(who: &Progress, what: impl Future<Output = T>) -> Option<T> {
    wait::unless(|| who.is_ending(), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fold that never returned left the view in state live and its lag at 0 in every report.
    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_come_back_is_said_to_be_stalled() {
        let progress = Progress::new("view", "slow".to_owned(), Position::new(7));
        progress.caught_up();
        progress.set(FollowState::Live);
        progress.begin_work();
        tokio::time::advance(Duration::from_secs(4)).await;
        progress.observe(Position::new(9));
        assert_eq!(progress.state(), FollowState::Live);
        tokio::time::advance(Duration::from_secs(2)).await;
        progress.observe(Position::new(9));
        let FollowState::Stalled { reason } = progress.state() else { panic!("it is stalled") };
        assert!(reason.contains("6 s") && reason.contains("position 7"), "{reason}");
        let lag = progress.lag(Position::new(9));
        assert_eq!((lag.positions, lag.time), (2, Duration::from_secs(2)));
        assert!(progress.is_running());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_something_each_time_is_not() {
        let progress = Progress::new("view", "busy".to_owned(), Position::START);
        for position in 1..10 {
            progress.begin_work();
            tokio::time::advance(Duration::from_secs(4)).await;
            progress.end_work();
            progress.advance_to(Position::new(position), 1);
            progress.observe(Position::new(10));
            assert_eq!(progress.state(), FollowState::CatchingUp);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        progress.observe(Position::new(10));
        assert_eq!(progress.state(), FollowState::CatchingUp, "it is not at work");
    }
}
