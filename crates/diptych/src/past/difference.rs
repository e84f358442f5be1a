//! One query at two points.

use super::{Point, as_of::Replay, point::Prefix};
use crate::query::{Answer, Query, QueryError, RightPanel};

/// One query's answers at two points: see [`App::diff`](crate::App::diff).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference<T> {
    /// The answer at the first of the two points.
    pub before: Answer<T>,
    /// The answer at the second.
    pub after: Answer<T>,
}

impl<T: PartialEq> Difference<T> {
    /// Whether the two answers differ.
    pub fn is_changed(&self) -> bool {
        self.before.value != self.after.value
    }
}

/// The answers of one query at two points. If both points are prefixes of the log in its order, the
/// events up to the earlier one are folded once for both.
pub(crate) async fn diff<Q: Query>(
    panel: &RightPanel,
    query: Q,
    before: Point,
    after: Point,
) -> Result<Difference<Q::Answer>, QueryError> {
    let replay = Replay::new(panel, query).await?;
    let before = Prefix::resolve(panel, before).await?;
    let after = Prefix::resolve(panel, after).await?;
    let is_in_log_order = before.is_in_log_order() && after.is_in_log_order();
    if is_in_log_order && after.upto < before.upto {
        let (after, before) = replay.answers(panel, after, before).await?;
        return Ok(Difference { before, after });
    }
    let (before, after) = replay.answers(panel, before, after).await?;
    Ok(Difference { before, after })
}
