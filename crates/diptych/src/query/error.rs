use diptych_store::{Corruption, HistoryChanged, InvalidRequest, Position, ReadError, Unavailable};

use crate::{
    event::{BoundaryError, RetagFailure, SchemaError},
    fold::FoldError,
    follow::{FollowerStop, HaltCause, NotYet, PoisonedKey, WaitError},
    pool::{PoolError, PoolLimits},
    token::{ClaimError, TokenError},
    view::NoSuchView,
};

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A mistake in the program: the app keeps no such view.
    #[error(transparent)]
    NoSuchView(#[from] NoSuchView),
    /// A token of the caller does not belong to this log or its history.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The view did not reach the position in time.
    #[error(transparent)]
    NotYet(NotYet),
    /// The view stopped before it reached the position.
    #[error("{follower} {stopped}")]
    Stopped {
        /// The Rust type of the view, or the name of the projection.
        follower: String,
        /// The event before which it stopped, and the reason.
        stopped: FollowerStop,
    },
    /// The query is about a key that is poisoned in the view: one of its events cannot be applied,
    /// so its rows are those before that event.
    #[error(
        "{} is poisoned in {view}: the event at position {} cannot be applied: {}; correct the \
         fold or add an upcaster, retry the key or skip the event, or take the rows before the \
         event with `or_poisoned`", .poisoned.key, .poisoned.failed, .poisoned.reason
    )]
    Poisoned {
        /// The Rust type of the view.
        view: &'static str,
        /// The key, with the event and the failure.
        poisoned: Box<PoisonedKey>,
    },
    /// The log ended before the view reached the position, or before the end of the log was known.
    #[error(
        "the log ended, and it may have durable events that the view lacks: {reason}; open the log \
         again, then ask again"
    )]
    Ended {
        /// The error of the log.
        reason: String,
    },
    /// The store has another history than at the start of the app, so the view may hold events that
    /// the log lacks. Start the app again.
    #[error(transparent)]
    HistoryChanged(HistoryChanged),
    /// A mistake in the program: the answer panicked.
    #[error(transparent)]
    Panicked(QueryPanic),
    /// The app was stopped before the view reached the position, or before the end of the log was
    /// known.
    #[error("the app was stopped: start it again, and ask again")]
    AppStopped,
    /// The position is above the end of the log.
    #[error(
        "position {position} was asked for, and the log ends at {head}: ask for that or less; if \
         this log gave the position, commits were lost"
    )]
    AboveHead {
        /// The requested position.
        position: Position,
        /// The end of the log.
        head: Position,
    },
    /// A mistake in the program: the scope cannot match the events that it seems to ask for.
    #[error("the scope of {query} is wrong: {error}")]
    Scope {
        /// The Rust type of the query.
        query: &'static str,
        /// The fault in the scope.
        #[source]
        error: BoundaryError,
    },
    /// A mistake in the program: the view's events are declared so that they cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The events of the past could not be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// There are too many events to sort them by the time when they occurred.
    #[error(
        "to fold events in order of when they occurred, more than {limit} would have to be kept \
         in memory: give the query a scope, ask for less of the log, or raise `past_events` of \
         the app"
    )]
    TooManyEvents {
        /// The limit: `past_events` of the app.
        limit: usize,
    },
    /// An explanation of what occurred before an instant was asked for, and the view puts its
    /// events in order of when they occurred by itself. Their stored times do not tell which of
    /// them made the answer.
    #[error(
        "{view} puts its events in order of when they occurred by itself, so their stored times \
         do not tell which of them made the answer about that time: explain the answer without \
         `occurred_before` and `occurred_upto`, which lists all events and corrections; for the \
         state before an instant, ask the query with `occurred_before`, or the view with \
         `before(instant)`"
    )]
    OwnOrder {
        /// The Rust type of the view.
        view: &'static str,
    },
    /// The answer needs more events of the log than its caller allows it to read.
    #[error(
        "the answer needs more than {limit} events of the log, and its caller allows no more: ask \
         about an earlier point, give the query a scope, or raise `read_at_most`"
    )]
    OverBudget {
        /// The limit: [`read_at_most`](crate::past::Past::read_at_most) of the question.
        limit: u64,
    },
    /// A history has more answers than its caller collects.
    #[error(
        "the history has more than {limit} answers, and the next one is that of position {at}: ask \
         for a smaller range, raise the limit, or take the answers one by one with `next`"
    )]
    TooManyAnswers {
        /// The limit: that of [`collect`](crate::past::History::collect).
        limit: usize,
        /// The position of the first answer beyond the limit.
        at: Position,
    },
    /// An explanation cannot begin after this position, because no listed event has it.
    #[error(
        "the explanation lists no event at position {position}, after which it should begin: give \
         the position that the list before ends with"
    )]
    NotListed {
        /// The position.
        position: Position,
    },
    /// Too many questions about the past run or wait already.
    #[error(
        "{folds} folds of the past run at once and {waiting} may wait, and every place is taken: \
         ask again later, ask the view as it is now, or raise `past_folds` or `past_waiting` of \
         the app"
    )]
    Busy {
        /// How many folds run at once: `past_folds` of the app.
        folds: usize,
        /// How many more may wait: `past_waiting` of the app.
        waiting: usize,
    },
    /// The system gives no thread for a fold of the past.
    #[error("a fold of the past got no thread: {reason}; raise the limit of threads")]
    NoThread {
        /// The error of the operating system.
        reason: String,
    },
    /// The store refuses the query: its scope is beyond a limit.
    #[error(transparent)]
    InvalidRequest(InvalidRequest),
    /// The log is damaged where it had to be read.
    #[error(transparent)]
    Corrupt(Corruption),
    /// The log cannot be read now.
    #[error("the log cannot be read: {reason}")]
    Unavailable {
        /// The error of the store.
        reason: String,
    },
}

impl From<ClaimError> for QueryError {
    fn from(error: ClaimError) -> QueryError {
        match error {
            ClaimError::Token(error) => error.into(),
            ClaimError::Behind { need, have, within } => {
                QueryError::NotYet(NotYet { need, have, within })
            }
            ClaimError::Read(error) => error.into(),
            late @ ClaimError::Late { .. } => QueryError::Unavailable { reason: late.to_string() },
        }
    }
}

impl From<RetagFailure> for QueryError {
    fn from(failure: RetagFailure) -> QueryError {
        match failure {
            RetagFailure::Read(error) => error.into(),
            RetagFailure::Schema(error) => error.into(),
        }
    }
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> QueryError {
        match error {
            ReadError::Invalid(InvalidRequest::AboveHead { position, head }) => {
                QueryError::AboveHead { position, head }
            }
            ReadError::Invalid(invalid) => QueryError::InvalidRequest(invalid),
            ReadError::Corrupt(corruption) => QueryError::Corrupt(corruption),
            ReadError::Unavailable(Unavailable::HistoryChanged(changed)) => {
                QueryError::HistoryChanged(changed)
            }
            other => QueryError::Unavailable { reason: other.to_string() },
        }
    }
}

/// An answer panicked. The view is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`answer` of {query} panicked: {message}; the view is not touched")]
pub struct QueryPanic {
    /// The Rust type of the query.
    pub query: &'static str,
    /// The message of the panic.
    pub message: String,
}

impl QueryError {
    pub(crate) fn halted(halted: HaltCause, follower: &str) -> QueryError {
        WaitError::halted(halted, follower).into()
    }
}

impl From<WaitError> for QueryError {
    fn from(error: WaitError) -> QueryError {
        match error {
            WaitError::Token(error) => error.into(),
            WaitError::NotYet(not_yet) => QueryError::NotYet(not_yet),
            WaitError::Stopped { follower, stopped } => QueryError::Stopped { follower, stopped },
            WaitError::Ended { reason } => QueryError::Ended { reason },
            WaitError::HistoryChanged(changed) => QueryError::HistoryChanged(changed),
            WaitError::AppStopped => QueryError::AppStopped,
            WaitError::Unavailable { reason } => QueryError::Unavailable { reason },
        }
    }
}

impl From<PoolError> for QueryError {
    fn from(error: PoolError) -> QueryError {
        match error {
            PoolError::Full(PoolLimits { running, waiting }) => {
                QueryError::Busy { folds: running.get(), waiting }
            }
            PoolError::Stopped => QueryError::AppStopped,
            PoolError::NoThread(error) => QueryError::NoThread { reason: error.to_string() },
        }
    }
}
