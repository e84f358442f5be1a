//! The questions of an app about the past.

use std::fmt;

use diptych_store::{Position, ReadError, Timestamp};

use super::App;
use crate::{
    past::{self, Difference, Explain, History, Point, ScopeError},
    query::{Query, QueryError},
};

impl App {
    /// The last position that was recorded before this instant, or [`Position::START`] if there is
    /// none. The events recorded before an instant are always a prefix of the log.
    ///
    /// # Errors
    /// [`ReadError`] from the store. It is also an error if the store has ended and all events
    /// known here were recorded before the instant: the log may have later events that also were.
    pub async fn position_before(&self, instant: Timestamp) -> Result<Position, ReadError> {
        past::position_before(&self.right, instant).await
    }

    /// The answers of one query at two points. If both points are prefixes of the log in its order,
    /// the events up to the earlier one are folded once for both.
    ///
    /// # Errors
    /// [`QueryError`] as of the query at each of the points.
    pub async fn diff<Q: Query>(
        &self,
        query: Q,
        before: impl Into<Point>,
        after: impl Into<Point>,
    ) -> Result<Difference<Q::Answer>, QueryError> {
        past::diff(&self.right, query, before.into(), after.into()).await
    }

    /// The answer to this query as of `from`, and then each changed answer with the position of the
    /// event that changed it, up to and including `to`. Events of one commit are applied one by
    /// one, as in [`Ask::as_of`](crate::query::Ask::as_of).
    ///
    /// It computes an answer for every event in the query's [scope](Query::scope).
    /// [`History::collect`] gathers them all.
    pub fn history<Q>(&self, query: Q, from: Position, to: Position) -> History<Q>
    where
        Q: Query<Answer: Clone + PartialEq>,
    {
        History::new(self.right.clone(), query, from, to)
    }

    /// Asks which events made the answer to this query: the events in its [scope](Query::scope), or
    /// all events of its view if it has none.
    pub fn explain<Q: Query>(&self, query: Q) -> Explain<Q> {
        Explain::new(self.right.clone(), query)
    }

    /// Checks a query's [scope](Query::scope) against the events in the log: at this point the
    /// events in the scope must give the answer that all events of the view give. This is for
    /// tests; it folds the view from the start.
    ///
    /// # Errors
    /// [`ScopeError::TooNarrow`] if the answers are not equal.
    pub async fn check_scope<Q>(
        &self,
        query: &Q,
        point: impl Into<Point>,
    ) -> Result<(), ScopeError<Q::Answer>>
    where
        Q: Query<Answer: PartialEq + fmt::Debug>,
    {
        past::check_scope(&self.right, query, point.into()).await
    }
}
