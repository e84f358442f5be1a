//! Errors of waiting for a follower.

use std::time::Duration;

use diptych_store::{HistoryChanged, Position};

use super::{progress::HaltCause, state::FollowerStop};
use crate::token::{ClaimError, TokenError};

/// A view or a projection did not reach the needed position in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is at position {have}, and did not reach the required position {need} within {within:?}: \
     ask again with more time, or require less"
)]
pub struct NotYet {
    /// The lowest position that was acceptable.
    pub need: Position,
    /// The position of the view or projection.
    pub have: Position,
    /// How long the caller waited.
    pub within: Duration,
}

/// Why a view or a projection did not reach a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The token of the caller does not belong to this log or its history.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It did not reach the position in time.
    #[error(transparent)]
    NotYet(NotYet),
    /// It stopped before it reached the position.
    #[error("{follower} {stopped}")]
    Stopped {
        /// The Rust type of the view, or the name of the projection.
        follower: String,
        /// The event before which it stopped, and the reason.
        stopped: FollowerStop,
    },
    /// The log ended before the view or projection reached the position, or before the end of the
    /// log was known.
    #[error(
        "the log ended, and it may have durable events that the view lacks: {reason}; open the log \
         again, then ask again"
    )]
    Ended {
        /// The error of the log.
        reason: String,
    },
    /// The store has another history than at the start of the app.
    #[error(transparent)]
    HistoryChanged(HistoryChanged),
    /// The app was stopped before it reached the position.
    #[error("the app was stopped: start it again, and ask again")]
    AppStopped,
    /// The log cannot be read now, so the token cannot be compared with it.
    #[error("the log cannot be read: {reason}")]
    Unavailable {
        /// The error of the store.
        reason: String,
    },
}

impl WaitError {
    pub(crate) fn halted(halted: HaltCause, follower: &str) -> WaitError {
        match halted {
            HaltCause::Stopped(stopped) => {
                WaitError::Stopped { follower: follower.to_owned(), stopped }
            }
            HaltCause::Ended { reason } => WaitError::Ended { reason },
            HaltCause::HistoryChanged(changed) => WaitError::HistoryChanged(changed),
            HaltCause::Closed => WaitError::AppStopped,
        }
    }
}

impl From<ClaimError> for WaitError {
    fn from(error: ClaimError) -> WaitError {
        match error {
            ClaimError::Token(error) => error.into(),
            ClaimError::Behind { need, have, within } => {
                WaitError::NotYet(NotYet { need, have, within })
            }
            ClaimError::Read(error) => WaitError::Unavailable { reason: error.to_string() },
            late @ ClaimError::Late { .. } => WaitError::Unavailable { reason: late.to_string() },
        }
    }
}
