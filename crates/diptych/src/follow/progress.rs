//! How far a follower is, and why it does not go on: for queries that wait, and for people.

use std::{
    fmt,
    mem::discriminant,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use diptych_store::{CommitNumber, Head, HeadPublisher, Position, Timestamp, Unavailable};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::meters::FollowerMeters;

/// What a view or a projection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowState {
    /// It has not reached the end of the log since it was started.
    CatchingUp,
    /// It reached the end of the log, and takes in what comes.
    Live,
    /// It is as it was at its last [refresh](crate::Refresh), and waits for the next.
    Resting,
    /// It was told to wait.
    Paused,
    /// It cannot go on for now, and tries again.
    Stalled {
        /// What it waits for.
        reason: String,
    },
    /// It stands before an event that it cannot take in.
    Stopped(Stopped),
    /// The log gives nothing more.
    Ended {
        /// What the log says.
        reason: String,
    },
    /// The app was stopped.
    Closed,
}

impl FollowState {
    /// Whether it takes in nothing more for now, although the log may go on.
    fn is_standstill(&self) -> bool {
        !matches!(self, FollowState::CatchingUp | FollowState::Live | FollowState::Resting)
    }
}

/// A view takes in nothing more for now, although the log may go on: its answers stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standstill {
    /// Why: paused, stalled, stopped, ended or closed.
    pub state: FollowState,
    /// Since when it has been in that state, by the clock of this machine.
    pub since: Timestamp,
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "since {}: {}", self.since, self.state)
    }
}

/// Why a view or a projection stopped, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped before position {at}: {reason}; mend it, then resume or rebuild")]
pub struct Stopped {
    /// The event that it could not take in. Everything before it is in.
    pub at: Position,
    /// What went wrong.
    pub reason: String,
}

/// How far behind the log something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Positions between it and the head, matching or not.
    pub positions: u64,
    /// For how long it has not been at the head.
    pub time: Duration,
}

impl fmt::Display for FollowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FollowState::CatchingUp => f.write_str("catching up"),
            FollowState::Live => f.write_str("live"),
            FollowState::Resting => f.write_str("resting until the next refresh"),
            FollowState::Paused => f.write_str("paused"),
            FollowState::Stalled { reason } => write!(f, "stalled: {reason}"),
            FollowState::Stopped(stopped) => stopped.fmt(f),
            FollowState::Ended { reason } => write!(f, "the log ended: {reason}"),
            FollowState::Closed => f.write_str("closed"),
        }
    }
}

/// After this time with one page it is said that a follower does not go on.
const STUCK: Duration = Duration::from_secs(5);

/// Where a follower is.
pub(crate) struct Progress {
    name: String,
    meters: FollowerMeters,
    position: AtomicU64,
    events: AtomicU64,
    /// Whether it goes on by itself.
    running: AtomicBool,
    /// Whether it is to end.
    ending: AtomicBool,
    /// Whether it takes in nothing more for now: read by each query, which takes no lock.
    still: AtomicBool,
    doing: Mutex<Doing>,
    times: Mutex<Times>,
    /// Wakes whoever waits for a position; another one each time that the follower stops.
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
    /// When everything in the log was known to be taken in.
    complete_at: Option<Instant>,
    /// Since when it is known not to be.
    behind_since: Option<Instant>,
    /// Since when it reads or takes in one and the same page.
    works_since: Option<Instant>,
}

/// Nobody should wait for this follower.
#[derive(Clone, Debug)]
pub(crate) enum Halted {
    Stopped(Stopped),
    Ended { reason: String },
    Closed,
}

impl Progress {
    /// `kind` is what it is called where it is measured.
    pub(crate) fn new(kind: &'static str, name: String, position: Position) -> Progress {
        Progress {
            meters: FollowerMeters::new(kind, &name),
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
            arrivals: Mutex::new(HeadPublisher::new(position)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    /// Events taken in since it was started.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
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

    /// Since when it has been in its state.
    pub(crate) fn since(&self) -> Timestamp {
        self.doing.lock().since
    }

    /// Why what it shows stays as it is for now, if so.
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

    /// Lets whoever measures know how far behind it is.
    pub(super) fn measure(&self, head: Position) {
        self.meters.lag(self.lag(head));
    }

    /// It begins to read, or to take in.
    pub(super) fn works(&self) {
        self.times.lock().works_since = Some(Instant::now());
    }

    /// It is done with that, one way or another.
    pub(super) fn worked(&self) {
        self.times.lock().works_since = None;
    }

    /// Somebody looks at it from outside: it may not come to saying how it is.
    pub(super) fn look(&self, head: Position) {
        if self.position() < head {
            self.fell_behind();
            if self.position() >= head {
                // It came there meanwhile.
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
                "at work for {seconds} s with what comes after position {after}: the store, a \
                 fold or a database does not come back"
            );
            tracing::warn!(follower = self.name, reason, "following the log");
            doing.change(FollowState::Stalled { reason });
            self.still.store(true, Ordering::Release);
        }
    }

    /// When it was last known that nothing in the log was missing.
    pub(crate) fn complete_at(&self) -> Option<Instant> {
        self.times.lock().complete_at
    }

    /// Somebody saw at that moment that nothing in the log was missing.
    pub(crate) fn was_complete(&self, at: Instant) {
        let mut times = self.times.lock();
        times.complete_at = times.complete_at.max(Some(at));
    }

    /// The head moved, and what came is not taken in yet.
    pub(super) fn fell_behind(&self) {
        self.times.lock().behind_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn caught_up(&self) {
        self.times.lock().behind_since = None;
    }

    /// Everything up to here is taken in, and can be seen.
    pub(crate) fn reached(&self, position: Position, events: usize) {
        self.took_in(events);
        let before = self.position.swap(position.get(), Ordering::AcqRel);
        let mut arrivals = self.arrivals.lock();
        if position.get() < before {
            // Begun again: those who wait have to wait longer.
            *arrivals = HeadPublisher::new(position);
        }
        arrivals.publish(position, CommitNumber(0));
    }

    /// So many events were folded, and can perhaps not be seen yet.
    pub(crate) fn took_in(&self, events: usize) {
        self.events.fetch_add(events as u64, Ordering::Relaxed);
        self.meters.took_in(events);
    }

    pub(crate) fn set(&self, state: FollowState) {
        let runs = matches!(
            state,
            FollowState::CatchingUp
                | FollowState::Live
                | FollowState::Resting
                | FollowState::Stalled { .. }
        );
        self.running.store(runs, Ordering::Relaxed);
        self.meters.state(&state);
        let halted = {
            let mut doing = self.doing.lock();
            self.still.store(state.is_standstill(), Ordering::Release);
            doing.change(state);
            Halted::of(&doing.state).is_some()
        };
        if halted {
            // Those who wait find out why.
            *self.arrivals.lock() = HeadPublisher::new(self.position());
        }
    }

    /// What a query waits on, or why it need not.
    pub(crate) fn arrivals(&self) -> Result<Head, Halted> {
        // In this order: a halt that comes in between ends the head that is given here.
        let head = self.arrivals.lock().head();
        match Halted::of(&self.doing.lock().state) {
            Some(halted) => Err(halted),
            None => Ok(head),
        }
    }

    /// Whether the end of the log that `head` shows is its end: not once the app is stopped or the
    /// store has ended, because the log may go on elsewhere. Asked after `head` was read.
    pub(crate) fn check_current(&self, head: &Head) -> Result<(), Halted> {
        if self.is_ending() {
            return Err(Halted::Closed);
        }
        match head.is_ended() {
            true => Err(Halted::ended(head)),
            false => Ok(()),
        }
    }

    /// Waits until everything up to here is taken in.
    pub(crate) async fn until(&self, position: Position) -> Result<(), Halted> {
        while self.position() < position {
            // An end is looked at again: it may have been a restart.
            let _ = self.arrivals()?.after(position.before()).await;
        }
        Ok(())
    }
}

impl Halted {
    /// The store gives nothing more.
    pub(crate) fn ended(head: &Head) -> Halted {
        let why = head.ended().unwrap_or(Unavailable::Closed);
        Halted::Ended { reason: why.to_string() }
    }

    fn of(state: &FollowState) -> Option<Halted> {
        match state {
            FollowState::Stopped(stopped) => Some(Halted::Stopped(stopped.clone())),
            FollowState::Ended { reason } => Some(Halted::Ended { reason: reason.clone() }),
            FollowState::Closed => Some(Halted::Closed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fold that never returned left the view live, and its lag at 0, for whoever looked.
    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_come_back_is_said_to_be_stalled() {
        let progress = Progress::new("view", "slow".to_owned(), Position::new(7));
        progress.caught_up();
        progress.set(FollowState::Live);
        progress.works();
        tokio::time::advance(Duration::from_secs(4)).await;
        progress.look(Position::new(9));
        assert_eq!(progress.state(), FollowState::Live);
        tokio::time::advance(Duration::from_secs(2)).await;
        progress.look(Position::new(9));
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
            progress.works();
            tokio::time::advance(Duration::from_secs(4)).await;
            progress.worked();
            progress.reached(Position::new(position), 1);
            progress.look(Position::new(10));
            assert_eq!(progress.state(), FollowState::CatchingUp);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        progress.look(Position::new(10));
        assert_eq!(progress.state(), FollowState::CatchingUp, "it is not at work");
    }
}
