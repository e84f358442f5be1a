//! The events that made an answer.

use std::{
    any::type_name,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use diptych_store::{Position, Timestamp};

use super::{
    Point, ResolvedPoint,
    job::start,
    point::Prefix,
    replay::{EventOf, NO_BUDGET, Selection, Taker},
};
use crate::{
    event::{Event, Recorded},
    query::{Cost, Query, QueryError, RightPanel},
    request::Request,
};

/// A question for the events that made an answer: see [`App::explain`](crate::App::explain).
#[must_use = "nothing is explained until it is awaited"]
pub struct Explain<Q: Query>(Request<ExplainParts<Q>, ExplainAnswer<Q>>);

type ExplainAnswer<Q> = Result<Explanation<EventOf<Q>>, QueryError>;

struct ExplainParts<Q> {
    panel: Arc<RightPanel>,
    query: Q,
    point: Point,
    /// The part of the log that the point stands for, if that is known already.
    resolved: Option<Prefix>,
    /// The maximum number of events that may be read.
    budget: u64,
    limit: usize,
}

/// The events that made an answer: a view that applies exactly these, in this order, gives the same
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation<E> {
    /// The events in the query's scope, in the order in which they are folded.
    pub events: Vec<Recorded<E>>,
    /// All events up to here were considered. If the limit cut the list off, this is the position
    /// of the last listed event, and the list explains the answer as of this position.
    ///
    /// If the list is in order of when the events [occurred](Point::occurred_before), this is the
    /// position up to which the log was considered, even if the list was cut off.
    pub upto: Position,
    /// Whether the list is complete: there are not more events than the limit allows.
    pub is_whole: bool,
    /// The cost of the explanation.
    pub cost: Cost,
}

impl<Q: Query> Explain<Q> {
    pub(crate) fn new(panel: Arc<RightPanel>, query: Q) -> Explain<Q> {
        let (point, resolved, budget) = (Point::now(), None, NO_BUDGET);
        let limit = Explain::<Q>::EVENTS;
        Explain(Request::Building(ExplainParts { panel, query, point, resolved, budget, limit }))
    }

    /// Default for the maximum number of events in an explanation.
    pub const EVENTS: usize = 10_000;

    /// Lists at most this many events, beginning with the first.
    pub fn limit(self, events: usize) -> Self {
        Explain(self.0.with(|parts| parts.limit = events))
    }

    /// Reads at most this many events of the log; an explanation that needs more fails with
    /// [`QueryError::OverBudget`]. Without it there is no limit.
    pub fn read_at_most(self, events: u64) -> Self {
        Explain(self.0.with(|parts| parts.budget = events))
    }

    /// Finds the part of the log that the explanation is about. It is then about exactly this part:
    /// see [`Past::resolve`](super::Past::resolve).
    ///
    /// # Errors
    /// [`QueryError`] as of the query.
    ///
    /// # Panics
    /// If it was polled before.
    pub async fn resolve(self) -> Result<(Explain<Q>, ResolvedPoint), QueryError> {
        let mut parts = self.0.into_parts();
        let (prefix, part) = Prefix::resolve(&parts.panel, parts.point).await?.closed();
        parts.resolved = Some(prefix);
        Ok((Explain(Request::Building(parts)), part))
    }

    /// Explains the answer at this point.
    pub fn at(self, point: impl Into<Point>) -> Self {
        self.change(|_| point.into())
    }

    /// Explains the answer as of this position.
    pub fn as_of(self, position: Position) -> Self {
        self.change(|point| point.as_of(position))
    }

    /// Explains the answer from the events recorded before this instant.
    pub fn recorded_before(self, instant: Timestamp) -> Self {
        self.change(|point| point.recorded_before(instant))
    }

    /// Explains the answer from the events that occurred before this instant, in order of when they
    /// occurred.
    pub fn occurred_before(self, instant: Timestamp) -> Self {
        self.change(|point| point.occurred_before(instant))
    }

    /// Explains the answer from the events recorded up to and including this instant.
    pub fn recorded_upto(self, instant: Timestamp) -> Self {
        self.change(|point| point.recorded_upto(instant))
    }

    /// Explains the answer from the events that occurred up to and including this instant, in order
    /// of when they occurred.
    pub fn occurred_upto(self, instant: Timestamp) -> Self {
        self.change(|point| point.occurred_upto(instant))
    }

    fn change(self, change: impl FnOnce(Point) -> Point) -> Self {
        Explain(self.0.with(|parts| {
            parts.point = change(parts.point);
            parts.resolved = None;
        }))
    }
}

impl<Q: Query> ExplainParts<Q> {
    async fn explained(self) -> ExplainAnswer<Q> {
        let ExplainParts { panel, query, point, resolved, budget, limit } = self;
        let mut selection = Selection::new::<Q>(&panel, query.scope()).await?;
        selection.budget = budget;
        let prefix = match resolved {
            Some(prefix) => prefix,
            None => Prefix::resolve(&panel, point).await?,
        };
        let fold = async move { explained(&selection, prefix, limit).await };
        start::<Q, _, _>(&panel, || fold)?.await
    }
}

// No field is pinned.
impl<Q: Query> Unpin for Explain<Q> {}

impl<Q: Query> Future for Explain<Q> {
    type Output = ExplainAnswer<Q>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context, |parts| Box::pin(parts.explained()))
    }
}

/// The events of this selection up to a limit.
async fn explained<E: Event>(
    selection: &Selection<E>,
    prefix: Prefix,
    limit: usize,
) -> Result<Explanation<E>, QueryError> {
    let begin = || EventList { events: Vec::new(), limit, first_left_out: None };
    let (listed, events) = match prefix.occurred_before {
        Some(before) => selection.as_occurred(prefix.upto, before, || Ok(begin())).await?,
        None => {
            let (mut listed, start) = (begin(), Position::START);
            let events = selection.in_log_order(&mut listed, start, prefix.upto).await?;
            (listed, events)
        }
    };
    let EventList { events: list, first_left_out, .. } = listed;
    let upto = match first_left_out {
        Some(position) if prefix.is_in_log_order() => position.before(),
        _ => prefix.upto,
    };
    Ok(Explanation {
        events: list,
        upto,
        is_whole: first_left_out.is_none(),
        cost: Cost { events, from: Position::START },
    })
}

impl<Q: Query> fmt::Debug for Explain<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut explain = f.debug_struct("Explain");
        explain.field("query", &type_name::<Q>());
        if let Some(parts) = self.0.parts() {
            explain.field("point", &parts.point).field("limit", &parts.limit);
        }
        explain.finish_non_exhaustive()
    }
}

/// Events, up to a limit.
struct EventList<E> {
    events: Vec<Recorded<E>>,
    limit: usize,
    first_left_out: Option<Position>,
}

impl<E: Send> Taker<E> for EventList<E> {
    fn take(&mut self, event: Recorded<E>) {
        if self.is_full() {
            return;
        }
        if self.events.len() < self.limit {
            self.events.push(event);
            return;
        }
        // All events that one stored event became are listed, or none.
        self.events.retain(|other| other.position != event.position);
        self.first_left_out = Some(event.position);
    }

    fn is_full(&self) -> bool {
        self.first_left_out.is_some()
    }
}
