//! Queries about the past. The events up to a point are folded again, and the resulting view
//! answers the query.

use std::{
    any::type_name, fmt, future::Future, panic::catch_unwind, pin::Pin, sync::Arc, time::Duration,
};

use diptych_store::{Filter, Position, Timestamp};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Answer, Ask, Cost, Point, Query, QueryError, ask::answer, point::Prefix, replay::Selection,
};
use crate::{
    app::App,
    fold::{FoldError, FoldFailure, panic_text},
    lineage::{Claims, settled},
    snapshot::{Ages, Kept},
    view::{View, copies::Image},
};

/// How often a query checks whether the view in memory has the answer, while the view moves on.
const LOOKS: usize = 3;

/// A query about the past being built: see [`Ask::as_of`].
///
/// The events are read from the log and folded on a separate thread, so the app need not keep the
/// view. [`AppBuilder::past_folds`](crate::AppBuilder::past_folds) bounds how many such folds run
/// at once; dropping the future ends the fold within a page of events. With a [scope](Query::scope)
/// only the events in it are read. If the view in memory equals the view at the point, it answers
/// instead. The [cost](Answer::cost) tells which way was taken.
#[must_use = "a query does nothing until it is awaited"]
pub struct Past<'a, Q> {
    app: &'a App,
    query: Q,
    point: Point,
    claims: Claims,
    within: Duration,
}

impl<'a, Q: Query> Ask<'a, Q> {
    /// The answer as it was when the log ended at this position.
    ///
    /// Requirements on the freshness of the answer no longer apply, because the log itself is read.
    /// A position above the head is [`QueryError::AboveHead`]. A position does not say to which
    /// history of the log it belongs: if an older copy of the log may have been put back, also pass
    /// the [`token`](Ask::token) that the position came with.
    pub fn as_of(self, position: Position) -> Past<'a, Q> {
        self.at(Point::at(position))
    }

    /// The answer from the events recorded before this instant: the knowledge of that time.
    pub fn recorded_before(self, instant: Timestamp) -> Past<'a, Q> {
        self.at(Point::now().recorded_before(instant))
    }

    /// The answer from the events that occurred before this instant, as far as they are known now,
    /// in order of when they occurred.
    pub fn occurred_before(self, instant: Timestamp) -> Past<'a, Q> {
        self.at(Point::now().occurred_before(instant))
    }

    /// The answer at this point.
    pub fn at(self, point: impl Into<Point>) -> Past<'a, Q> {
        let within = self.longest_wait();
        let Ask { app, query, claims, .. } = self;
        Past { app, query, point: point.into(), claims, within }
    }
}

impl<Q: Query> Past<'_, Q> {
    /// Leaves out the events after this position.
    pub fn as_of(mut self, position: Position) -> Self {
        self.point = self.point.as_of(position);
        self
    }

    /// Leaves out the events recorded at this instant or later.
    pub fn recorded_before(mut self, instant: Timestamp) -> Self {
        self.point = self.point.recorded_before(instant);
        self
    }

    /// Leaves out the events that occurred at this instant or later, and puts the others in order
    /// of when they occurred.
    pub fn occurred_before(mut self, instant: Timestamp) -> Self {
        self.point = self.point.occurred_before(instant);
        self
    }
}

impl<'a, Q: Query> IntoFuture for Past<'a, Q> {
    type Output = Result<Answer<Q::Answer>, QueryError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Past { app, query, point, claims, within } = self;
            settled(claims, app.lineage().clone(), within).await?;
            let replay = Replay::new(app, query)?;
            let prefix = app.prefix(point).await?;
            replay.answer(app, prefix).await
        })
    }
}

impl<Q> fmt::Debug for Past<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").field("point", &self.point).finish_non_exhaustive()
    }
}

/// One query's answers at two points: see [`App::diff`].
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

impl App {
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
        let (before, after) = (before.into(), after.into());
        let replay = Replay::new(self, query)?;
        let (before, after) = (self.prefix(before).await?, self.prefix(after).await?);
        let is_in_log_order = before.is_in_log_order() && after.is_in_log_order();
        if is_in_log_order && after.upto < before.upto {
            let (after, before) = replay.answers(self, after, before).await?;
            return Ok(Difference { before, after });
        }
        let (before, after) = replay.answers(self, before, after).await?;
        Ok(Difference { before, after })
    }
}

/// A query with the means to fold its view again. It moves to the folding thread, so it owns its
/// parts and does not keep the app alive.
struct Replay<Q: Query> {
    query: Q,
    refold: Refold<Q::View>,
}

/// The means to fold a view again.
pub(super) struct Refold<V: View> {
    pub(super) selection: Selection<V::Event>,
    /// The snapshots of the view, if any are kept.
    ages: Option<Arc<Ages<V>>>,
}

/// A view at a point in the past.
pub(super) struct Folded<V> {
    pub(super) view: V,
    /// It contains all events up to here.
    pub(super) upto: Position,
    pub(super) cost: Cost,
}

impl<Q: Query> Replay<Q> {
    /// Uses the events in the query's scope.
    fn new(app: &App, query: Q) -> Result<Replay<Q>, QueryError> {
        let refold = Refold::new::<Q>(app, query.scope())?;
        Ok(Replay { query, refold })
    }

    async fn answer(self, app: &App, prefix: Prefix) -> Result<Answer<Q::Answer>, QueryError> {
        if let Some(answer) = self.live(app, prefix).await? {
            return Ok(answer);
        }
        let fold = async move { self.refold.folded(prefix).await?.answer(&self.query) };
        app.past.start(type_name::<Q>(), || fold)?.await
    }

    /// The answers at two points. If both are in log order, the earlier one comes first, and the
    /// later one is folded on from it.
    async fn answers(
        self,
        app: &App,
        first: Prefix,
        last: Prefix,
    ) -> Result<(Answer<Q::Answer>, Answer<Q::Answer>), QueryError> {
        let live = (self.live(app, first).await?, self.live(app, last).await?);
        if let (Some(first), Some(last)) = live {
            return Ok((first, last));
        }
        let fold = async move { self.fold_both((first, live.0), (last, live.1)).await };
        app.past.start(type_name::<Q>(), || fold)?.await
    }

    /// Folds the answers at two points. A point whose answer is already known is not folded.
    async fn fold_both(
        &self,
        (first, at_first): At<Q::Answer>,
        (last, at_last): At<Q::Answer>,
    ) -> Result<(Answer<Q::Answer>, Answer<Q::Answer>), QueryError> {
        let Replay { query, refold } = self;
        let is_in_log_order = first.is_in_log_order() && last.is_in_log_order();
        let mut folded = None;
        let at_first = match at_first {
            Some(answer) => answer,
            None => folded.insert(refold.folded(first).await?).answer(query)?,
        };
        let at_last = match (at_last, folded) {
            (Some(answer), _) => answer,
            (None, Some(mut folded)) if is_in_log_order => {
                refold.fold_on(&mut folded, last.upto).await?;
                folded.answer(query)?
            }
            (None, folded) => {
                drop(folded);
                refold.folded(last).await?.answer(query)?
            }
        };
        Ok((at_first, at_last))
    }

    /// The answer of the view in memory, if the view and the point contain exactly the same
    /// matching events.
    async fn live(
        &self,
        app: &App,
        prefix: Prefix,
    ) -> Result<Option<Answer<Q::Answer>>, QueryError> {
        let Ok(live) = app.panel.live::<Q::View>() else { return Ok(None) };
        if !prefix.is_in_log_order() {
            return Ok(None);
        }
        let selection = &self.refold.selection;
        // Reading a few events in a scope is faster than waiting for the view; reading a whole log
        // is not.
        let is_late = live.now().position() < prefix.upto && live.progress.is_running();
        if is_late && selection.is_whole() && Handle::try_current().is_ok() {
            // If the view does not get there in time, the events are read from the log.
            let _ = timeout(Ask::<Q>::WITHIN, live.progress.until(prefix.upto)).await;
        }
        let upto = prefix.upto;
        let image = live.held();
        let at = image.position();
        if at == upto || prefix.is_open && at >= upto {
            return self.answer_of_live(&image, prefix).map(Some);
        }
        // Release the copy of the view before reading the log, because folding may need the copy.
        drop(image);
        let mut bound = at.max(upto);
        for _ in 0..LOOKS {
            if selection.last(bound).await? > at.min(upto) {
                return Ok(None);
            }
            // Up to the bound no event matches that only one of the view and the point contains.
            let image = live.held();
            if image.position() <= bound {
                return self.answer_of_live(&image, prefix).map(Some);
            }
            bound = app.head();
        }
        Ok(None)
    }

    fn answer_of_live(
        &self,
        image: &Image<Q::View>,
        prefix: Prefix,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let (at, upto) = (image.position(), prefix.upto);
        let value = answer(&self.query, &image.state)?;
        let position = if prefix.is_open { at.max(upto) } else { upto };
        Ok(Answer::past(value, position, Cost::memory(at)))
    }
}

/// A point, and its answer if that is known already.
type At<T> = (Prefix, Option<Answer<T>>);

impl<V: View> Refold<V> {
    /// Uses the events in this scope of the query.
    pub(super) fn new<Q: Query<View = V>>(
        app: &App,
        scope: Filter,
    ) -> Result<Refold<V>, QueryError> {
        let selection = Selection::new::<Q>(app, scope)?;
        Ok(Refold { selection, ages: app.panel.ages::<V>() })
    }

    /// The view at this point, folded from the log.
    pub(super) async fn folded(&self, prefix: Prefix) -> Result<Folded<V>, QueryError> {
        let upto = prefix.upto;
        if let Some(before) = prefix.occurred_before {
            let (view, events) = self.selection.as_occurred(upto, before, fresh::<V>).await?;
            return Ok(Folded { view, upto, cost: Cost { events, from: Position::START } });
        }
        let (view, from) = match self.selection.is_whole() {
            true => self.begin(upto)?,
            false => (fresh::<V>()?, Position::START),
        };
        let mut folded = Folded { view, upto: from, cost: Cost { events: 0, from } };
        self.fold_on(&mut folded, upto).await?;
        Ok(folded)
    }

    /// The state from which to fold all of the view's events in log order, at `upto` or an earlier
    /// position. Reads a snapshot on this thread.
    fn begin(&self, upto: Position) -> Result<(V, Position), QueryError> {
        // Snapshots above `upto` are kept for other queries, because the log grows meanwhile.
        let newest = |ages: &Arc<Ages<V>>| ages.newest(upto, Position::new(u64::MAX));
        match self.ages.as_ref().and_then(newest) {
            Some(Kept { fold, position, .. }) => Ok((fold, position)),
            None => Ok((fresh::<V>()?, Position::START)),
        }
    }

    /// Continues the fold to a later position. The cost becomes the cost of this step.
    async fn fold_on(&self, folded: &mut Folded<V>, upto: Position) -> Result<(), QueryError> {
        let from = folded.upto;
        let events = self.selection.in_log_order(&mut folded.view, from, upto).await?;
        folded.upto = upto;
        folded.cost = Cost { events, from };
        Ok(())
    }
}

impl<V: View> Folded<V> {
    pub(super) fn answer<Q: Query<View = V>>(
        &self,
        query: &Q,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let Folded { view, upto, cost } = self;
        let value = answer(query, view)?;
        Ok(Answer::past(value, *upto, *cost))
    }
}

/// A view without any events.
pub(super) fn fresh<V: View>() -> Result<V, QueryError> {
    catch_unwind(V::default).map_err(|panic| {
        let (fold, position) = (type_name::<V>(), Position::START);
        let cause = FoldFailure::Panicked(panic_text(&*panic));
        QueryError::Fold(FoldError { fold, position, cause })
    })
}
