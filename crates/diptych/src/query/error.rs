use std::time::Duration;

use diptych_store::Position;

use crate::{NoSuchView, Stopped, TokenError, follow::Halted};

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
    /// The log ended before the view came that far.
    #[error("the log ended before the view was far enough: {reason}")]
    Ended {
        /// What the log says.
        reason: String,
    },
    /// A mistake in the program: the answer panicked.
    #[error(transparent)]
    Panicked(QueryPanicked),
    /// The app was stopped before the view was far enough.
    #[error("the app was stopped: start it again, and ask again")]
    AppStopped,
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
