use std::time::Duration;

use diptych_store::{Corruption, Invalid as NotTaken, Position, ReadError};

use crate::{
    BoundaryError, FoldError, NoSuchView, SchemaError, Stopped, TokenError, follow::Halted,
    lineage::ClaimError,
};

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A mistake in the program: the app keeps no such view.
    #[error(transparent)]
    NoSuchView(#[from] NoSuchView),
    /// What the caller carries along makes no sense here.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The view did not come that far in time.
    #[error(transparent)]
    NotYet(NotYet),
    /// The view stopped before it came that far.
    #[error("{follower} {stopped}")]
    Stopped {
        /// The Rust type of the view, or the name of the projection.
        follower: String,
        /// Where, and why.
        stopped: Stopped,
    },
    /// The log ended before the view came that far, or before the end of the log could be known.
    #[error(
        "the log ended, and what is durable beyond the view is not known: {reason}; open the log \
         again, then ask again"
    )]
    Ended {
        /// What the log says.
        reason: String,
    },
    /// A mistake in the program: the answer panicked.
    #[error(transparent)]
    Panicked(QueryPanicked),
    /// The app was stopped before the view was far enough, or before the end of the log could be
    /// known.
    #[error("the app was stopped: start it again, and ask again")]
    AppStopped,
    /// The log has not come that far.
    #[error(
        "position {position} was asked for, and the log ends at {head}: ask for that or less; if \
         this log gave the position, commits were lost"
    )]
    AboveHead {
        /// What was asked for.
        position: Position,
        /// The end of the log.
        head: Position,
    },
    /// A mistake in the program: the scope cannot match what it seems to ask for.
    #[error("the scope of {query} is wrong: {error}")]
    Scope {
        /// The Rust type of the query.
        query: &'static str,
        /// What is wrong with it.
        #[source]
        error: BoundaryError,
    },
    /// A mistake in the program: the view's events are declared so that they cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The events of the past could not be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Too many events to put them in order of when they occurred.
    #[error(
        "to fold events in order of when they occurred, more than {limit} would have to be kept \
         in memory: give the query a scope, ask for less of the log, or raise `past_events` of \
         the app"
    )]
    TooManyEvents {
        /// How many may be.
        limit: usize,
    },
    /// The past is asked about more often than the app folds it at once.
    #[error(
        "the past is folded for {folds} at once, and {waiting} more may wait for that: ask again \
         later, ask the view as it is now, or raise `past_folds` or `past_waiting` of the app"
    )]
    Busy {
        /// How many folds run at once: `past_folds` of the app.
        folds: usize,
        /// How many may wait for one of them to end: `past_waiting` of the app.
        waiting: usize,
    },
    /// The system gives no thread to fold the past on.
    #[error("the past has no thread to be folded on: {reason}; raise the limit of threads")]
    NoThread {
        /// What the system says.
        reason: String,
    },
    /// The store does not take the question: the scope is beyond a limit.
    #[error(transparent)]
    NotTaken(NotTaken),
    /// The log is damaged where it had to be read.
    #[error(transparent)]
    Corrupt(Corruption),
    /// The log cannot be read now.
    #[error("the log cannot be read: {reason}")]
    Unavailable {
        /// What the store says.
        reason: String,
    },
}

impl From<ClaimError> for QueryError {
    fn from(error: ClaimError) -> QueryError {
        match error {
            ClaimError::Token(error) => error.into(),
            ClaimError::Read(error) => error.into(),
        }
    }
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> QueryError {
        match error {
            ReadError::Invalid(NotTaken::AboveHead { position, head }) => {
                QueryError::AboveHead { position, head }
            }
            ReadError::Invalid(invalid) => QueryError::NotTaken(invalid),
            ReadError::Corrupt(corruption) => QueryError::Corrupt(corruption),
            other => QueryError::Unavailable { reason: other.to_string() },
        }
    }
}

/// A view or a projection was not far enough, and did not come so far in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is at position {have}, and {need} was asked for: it did not come that far within \
     {within:?}; ask again, for longer or for less"
)]
pub struct NotYet {
    /// The position that the answer had to be of, at least.
    pub need: Position,
    /// The position that it is at.
    pub have: Position,
    /// How long was waited.
    pub within: Duration,
}

/// An answer panicked. The view is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`answer` of {query} panicked: {message}; the view is not touched")]
pub struct QueryPanicked {
    /// The Rust type of the query.
    pub query: &'static str,
    /// What the panic said.
    pub message: String,
}

impl QueryError {
    pub(crate) fn halted(halted: Halted, follower: &str) -> QueryError {
        match halted {
            Halted::Stopped(stopped) => {
                QueryError::Stopped { follower: follower.to_owned(), stopped }
            }
            Halted::Ended { reason } => QueryError::Ended { reason },
            Halted::Closed => QueryError::AppStopped,
        }
    }
}
