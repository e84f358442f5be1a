//! The state of a follower, for people and for waiting queries.

use std::{fmt, time::Duration};

use diptych_store::{HistoryChanged, Position, Timestamp};

/// The state of a view or a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowState {
    /// It has not reached the end of the log since it was started.
    CatchingUp,
    /// It reached the end of the log, and applies new events as they come.
    Live,
    /// It applies nothing until its next [refresh](crate::follow::Refresh).
    Resting,
    /// It is a version beside the served one, and waits at the position of that one.
    Beside {
        /// The version and the position that it waits at.
        reason: String,
    },
    /// It was paused.
    Paused,
    /// It cannot continue for now, and retries.
    Stalled {
        /// The obstacle.
        reason: String,
    },
    /// It stopped before an event that it cannot apply.
    Stopped(FollowerStop),
    /// The log has ended.
    Ended {
        /// The error of the log.
        reason: String,
    },
    /// The store has another history than at the start of the app.
    HistoryChanged(HistoryChanged),
    /// The app was stopped.
    Closed,
}

impl FollowState {
    /// Whether it applies no more events for now, although the log may go on.
    pub(super) fn is_standstill(&self) -> bool {
        !matches!(
            self,
            FollowState::CatchingUp
                | FollowState::Live
                | FollowState::Resting
                | FollowState::Beside { .. }
        )
    }
}

/// A view that applies no more events for now, although the log may go on. Its answers do not
/// change until it continues.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standstill {
    /// The reason: paused, stalled, stopped, ended, closed, or another history.
    pub state: FollowState,
    /// When it entered that state, by the clock of this machine.
    pub since: Timestamp,
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "since {}: {}", self.since, self.state)
    }
}

/// The position at which a view or a projection stopped, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped before position {at}: {reason}; fix it, then resume or rebuild")]
pub struct FollowerStop {
    /// The event that it could not apply. All events before it are applied.
    pub at: Position,
    /// The error.
    pub reason: String,
}

/// How far a follower is behind the log.
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
            FollowState::Beside { reason } => f.write_str(reason),
            FollowState::Paused => f.write_str("paused"),
            FollowState::Stalled { reason } => write!(f, "stalled: {reason}"),
            FollowState::Stopped(stopped) => stopped.fmt(f),
            FollowState::Ended { reason } => write!(f, "the log ended: {reason}"),
            FollowState::HistoryChanged(changed) => changed.fmt(f),
            FollowState::Closed => f.write_str("closed"),
        }
    }
}
