//! Whether a query's scope is wide enough.

use std::{any::type_name, fmt};

use diptych_store::{Filter, Position};

use super::{
    Point,
    job::start,
    point::Prefix,
    refold::{Refold, RefoldedView},
};
use crate::query::{Query, QueryError, RightPanel};

/// Why a scope is not known to be wide enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError<T: fmt::Debug> {
    /// The scope is too narrow.
    #[error(transparent)]
    TooNarrow(NarrowScope<T>),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// An answer depends on events that are not in the query's scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the scope of {query} is too narrow: as of position {upto} the events in it ({scope}) answer \
     {scoped:?}, and all events of the view answer {whole:?}; widen the scope to all events that \
     the answer depends on"
)]
pub struct NarrowScope<T: fmt::Debug> {
    /// The Rust type of the query.
    pub query: &'static str,
    /// Its scope.
    pub scope: Filter,
    /// The position up to which the log was read.
    pub upto: Position,
    /// The answer from the events in the scope.
    pub scoped: T,
    /// The answer from all events of the view.
    pub whole: T,
}

/// Checks that at this point the events in a query's scope answer as all events of its view do.
///
/// # Errors
/// [`ScopeError::TooNarrow`] if the answers are not equal.
pub(crate) async fn check_scope<Q>(
    panel: &RightPanel,
    query: &Q,
    point: Point,
) -> Result<(), ScopeError<Q::Answer>>
where
    Q: Query<Answer: PartialEq + fmt::Debug>,
{
    let prefix = Prefix::resolve(panel, point).await?;
    let scope = query.scope();
    let (narrow, wide) = (scope.clone(), Filter::everything());
    let scoped = refolded::<Q>(panel, narrow, prefix).await?.answer(query)?.value;
    let whole = refolded::<Q>(panel, wide, prefix).await?.answer(query)?.value;
    if scoped == whole {
        return Ok(());
    }
    let (query, upto) = (type_name::<Q>(), prefix.upto);
    Err(ScopeError::TooNarrow(NarrowScope { query, scope, upto, scoped, whole }))
}

/// The query's view at a point, from the events in this scope.
async fn refolded<Q: Query>(
    panel: &RightPanel,
    scope: Filter,
    prefix: Prefix,
) -> Result<RefoldedView<Q::View>, QueryError> {
    let refold = Refold::new::<Q>(panel, scope).await?;
    start::<Q, _, _>(panel, || async move { refold.folded(prefix).await })?.await
}
