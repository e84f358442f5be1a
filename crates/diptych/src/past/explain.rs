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
    fold::Fold,
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
    start_after: Option<Position>,
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
    /// Whether the list ends with the last event: there are not more than the limit allows.
    pub is_whole: bool,
    /// The place for [`Explain::start_after`] at which the next list begins, if the limit cut this
    /// one off.
    pub next: Option<Position>,
    /// The cost of the explanation.
    pub cost: Cost,
}

impl<Q: Query> Explain<Q> {
    pub(crate) fn new(panel: Arc<RightPanel>, query: Q) -> Explain<Q> {
        let (point, start_after, resolved, budget) = (Point::now(), None, None, NO_BUDGET);
        let limit = Explain::<Q>::EVENTS;
        let parts = ExplainParts { panel, query, point, resolved, budget, start_after, limit };
        Explain(Request::Building(parts))
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

    /// Lists only the events that follow the event at this position. With
    /// [`Explanation::next`] of one list as the position, the next list continues where that one
    /// was cut off.
    ///
    /// In log order, new events come only to the end, so lists of different times fit together. In
    /// order of when the events [occurred](Point::occurred_before), a new event can belong before
    /// this position: give all lists the same [`as_of`](Explain::as_of), so that none is missed.
    pub fn start_after(self, position: Position) -> Self {
        Explain(self.0.with(|parts| parts.start_after = Some(position)))
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
    ///
    /// A view that puts its events in order of when they occurred by itself, such as an
    /// [`OccurrenceOrder`](crate::fold::OccurrenceOrder), cannot be explained so:
    /// [`QueryError::OwnOrder`].
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
        let ExplainParts { panel, query, point, resolved, budget, start_after, limit } = self;
        let mut selection = Selection::new::<Q>(&panel, query.scope()).await?;
        selection.budget = budget;
        let prefix = match resolved {
            Some(prefix) => prefix,
            None => Prefix::resolve(&panel, point).await?,
        };
        if !prefix.is_in_log_order() && Q::View::RETAIN_BEFORE.is_some() {
            return Err(QueryError::OwnOrder { view: type_name::<Q::View>() });
        }
        let fold = async move { explained(&selection, prefix, start_after, limit).await };
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

/// The events of this selection after a place, up to a limit.
async fn explained<E: Event>(
    selection: &Selection<E>,
    prefix: Prefix,
    start_after: Option<Position>,
    limit: usize,
) -> Result<Explanation<E>, QueryError> {
    let from = start_after.unwrap_or(Position::START);
    let (listed, events, from) = match prefix.occurred_before {
        Some(before) => {
            let begin = || Ok(EventList::new(limit, start_after));
            let (listed, events) = selection.as_occurred(prefix.upto, before, begin).await?;
            (listed, events, Position::START)
        }
        None => {
            let mut listed = EventList::new(limit, None);
            let events = selection.in_log_order(&mut listed, from, prefix.upto).await?;
            (listed, events, from)
        }
    };
    let EventList { events: list, first_left_out, begin, .. } = listed;
    if let Begin::After(position) = begin {
        return Err(QueryError::NotListed { position });
    }
    let upto = match first_left_out {
        Some(position) if prefix.is_in_log_order() => position.before(),
        _ => prefix.upto,
    };
    let last = list.last().map(|event| event.position);
    Ok(Explanation {
        events: list,
        upto,
        is_whole: first_left_out.is_none(),
        next: first_left_out.and(last),
        cost: Cost { events, from },
    })
}

impl<Q: Query> fmt::Debug for Explain<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut explain = f.debug_struct("Explain");
        explain.field("query", &type_name::<Q>());
        if let Some(parts) = self.0.parts() {
            explain.field("point", &parts.point).field("limit", &parts.limit);
            explain.field("start_after", &parts.start_after);
        }
        explain.finish_non_exhaustive()
    }
}

/// Events after a place, up to a limit.
struct EventList<E> {
    begin: Begin,
    events: Vec<Recorded<E>>,
    limit: usize,
    first_left_out: Option<Position>,
}

/// How far the events before the list were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// The event at this position was not seen yet.
    After(Position),
    /// The last event seen is the one at this position. It may have become several events.
    At(Position),
    Listing,
}

impl<E> EventList<E> {
    fn new(limit: usize, start_after: Option<Position>) -> EventList<E> {
        let begin = start_after.map_or(Begin::Listing, Begin::After);
        EventList { begin, events: Vec::new(), limit, first_left_out: None }
    }

    /// Whether an event at this position is in the list.
    fn begins_before(&mut self, position: Position) -> bool {
        self.begin = match self.begin {
            Begin::After(place) if place == position => Begin::At(place),
            Begin::At(place) if place != position => Begin::Listing,
            unchanged => unchanged,
        };
        self.begin == Begin::Listing
    }
}

impl<E: Send> Taker<E> for EventList<E> {
    fn take(&mut self, event: Recorded<E>) {
        if self.is_full() || !self.begins_before(event.position) {
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
