//! Queries about the past. The events up to a point are folded again, and the resulting view
//! answers the query.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use diptych_store::{Position, Timestamp};
use tokio::{runtime::Handle, time::timeout};

use super::{Point, ResolvedPoint, job::start, point::Prefix, refold::Refold, replay::NO_BUDGET};
use crate::{
    query::{Answer, Ask, Cost, Query, QueryError, RightPanel, answer},
    request::Request,
    token::{Claims, settled},
    view::Version,
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
pub struct Past<Q: Query>(Request<PastParts<Q>, PastAnswer<Q>>);

type PastAnswer<Q> = Result<Answer<<Q as Query>::Answer>, QueryError>;

struct PastParts<Q> {
    panel: Arc<RightPanel>,
    query: Q,
    point: Point,
    /// The part of the log that the point stands for, if that is known already.
    resolved: Option<Prefix>,
    /// The maximum number of events that may be read.
    budget: u64,
    claims: Claims,
    within: Duration,
}

impl<Q: Query> Ask<Q> {
    /// The answer as it was when the log ended at this position.
    ///
    /// Requirements on the freshness of the answer no longer apply, because the log itself is read.
    /// A position above the head is [`QueryError::AboveHead`]. A position does not say to which
    /// history of the log it belongs: if an older copy of the log may have been put back, also pass
    /// the [`token`](Ask::token) that the position came with.
    pub fn as_of(self, position: Position) -> Past<Q> {
        self.at(Point::at(position))
    }

    /// The answer from the events recorded before this instant: the knowledge of that time.
    pub fn recorded_before(self, instant: Timestamp) -> Past<Q> {
        self.at(Point::now().recorded_before(instant))
    }

    /// The answer from the events that occurred before this instant, as far as they are known now,
    /// in order of when they occurred. A view that knows corrections of these times counts them:
    /// see [`OccurrenceOrder`](crate::fold::OccurrenceOrder).
    pub fn occurred_before(self, instant: Timestamp) -> Past<Q> {
        self.at(Point::now().occurred_before(instant))
    }

    /// The answer from the events recorded up to and including this instant.
    pub fn recorded_upto(self, instant: Timestamp) -> Past<Q> {
        self.at(Point::now().recorded_upto(instant))
    }

    /// The answer from the events that occurred up to and including this instant, as far as they
    /// are known now, in order of when they occurred.
    pub fn occurred_upto(self, instant: Timestamp) -> Past<Q> {
        self.at(Point::now().occurred_upto(instant))
    }

    /// The answer at this point.
    pub fn at(self, point: impl Into<Point>) -> Past<Q> {
        let (panel, query, claims, within) = self.into_parts();
        let (point, resolved, budget) = (point.into(), None, NO_BUDGET);
        let parts = PastParts { panel, query, point, resolved, budget, claims, within };
        Past(Request::Building(parts))
    }
}

impl<Q: Query> Past<Q> {
    /// Reads at most this many events of the log; an answer that needs more fails with
    /// [`QueryError::OverBudget`]. Without it there is no limit.
    pub fn read_at_most(self, events: u64) -> Self {
        Past(self.0.with(|parts| parts.budget = events))
    }

    /// Compares the tokens of the caller with the log, and finds the part of the log that the
    /// answer is about. The answer is then about exactly this part. A program that keeps answers
    /// looks for one under the query and this part, before it awaits the new one.
    ///
    /// # Errors
    /// [`QueryError`] as of the query.
    ///
    /// # Panics
    /// If it was polled before.
    pub async fn resolve(self) -> Result<(Past<Q>, ResolvedPoint), QueryError> {
        let mut parts = self.0.into_parts();
        let claims = std::mem::take(&mut parts.claims);
        settled(claims, parts.panel.lineage.clone(), parts.within).await?;
        let (prefix, part) = Prefix::resolve(&parts.panel, parts.point).await?.closed();
        parts.resolved = Some(prefix);
        Ok((Past(Request::Building(parts)), part))
    }

    /// Leaves out the events after this position.
    pub fn as_of(self, position: Position) -> Self {
        self.change(|point| point.as_of(position))
    }

    /// Leaves out the events recorded at this instant or later.
    pub fn recorded_before(self, instant: Timestamp) -> Self {
        self.change(|point| point.recorded_before(instant))
    }

    /// Leaves out the events that occurred at this instant or later, and puts the others in order
    /// of when they occurred.
    pub fn occurred_before(self, instant: Timestamp) -> Self {
        self.change(|point| point.occurred_before(instant))
    }

    /// Leaves out the events recorded after this instant.
    pub fn recorded_upto(self, instant: Timestamp) -> Self {
        self.change(|point| point.recorded_upto(instant))
    }

    /// Leaves out the events that occurred after this instant, and puts the others in order of when
    /// they occurred.
    pub fn occurred_upto(self, instant: Timestamp) -> Self {
        self.change(|point| point.occurred_upto(instant))
    }

    fn change(self, change: impl FnOnce(Point) -> Point) -> Self {
        Past(self.0.with(|parts| {
            parts.point = change(parts.point);
            parts.resolved = None;
        }))
    }
}

impl<Q: Query> PastParts<Q> {
    async fn answered(self) -> PastAnswer<Q> {
        let PastParts { panel, query, point, resolved, budget, claims, within } = self;
        settled(claims, panel.lineage.clone(), within).await?;
        let replay = Replay::new(&panel, query).await?.within(budget);
        let prefix = match resolved {
            Some(prefix) => prefix,
            None => Prefix::resolve(&panel, point).await?,
        };
        replay.answer(&panel, prefix).await
    }
}

// No field is pinned.
impl<Q: Query> Unpin for Past<Q> {}

impl<Q: Query> Future for Past<Q> {
    type Output = PastAnswer<Q>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context, |parts| Box::pin(parts.answered()))
    }
}

impl<Q: Query> fmt::Debug for Past<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = self.0.parts().map(|parts| &parts.point);
        f.debug_struct("Past").field("point", &point).finish_non_exhaustive()
    }
}

/// A query with the means to fold its view again. It moves to the folding thread, so it owns its
/// parts and does not keep the app alive.
pub(super) struct Replay<Q: Query> {
    query: Q,
    refold: Refold<Q::View>,
}

impl<Q: Query> Replay<Q> {
    /// Uses the events in the query's scope.
    pub(super) async fn new(panel: &RightPanel, query: Q) -> Result<Replay<Q>, QueryError> {
        let refold = Refold::new::<Q>(panel, query.scope()).await?;
        Ok(Replay { query, refold })
    }

    /// Reads at most this many events.
    fn within(mut self, budget: u64) -> Self {
        self.refold.selection.budget = budget;
        self
    }

    async fn answer(
        self,
        panel: &RightPanel,
        prefix: Prefix,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        if let Some(answer) = self.live(panel, prefix).await? {
            return Ok(answer);
        }
        let fold = async move { self.refold.folded(prefix).await?.answer(&self.query) };
        start::<Q, _, _>(panel, || fold)?.await
    }

    /// The answers at two points. If both are in log order, `first` has to be the earlier one, and
    /// the fold continues from it to `last`.
    pub(super) async fn answers(
        self,
        panel: &RightPanel,
        first: Prefix,
        last: Prefix,
    ) -> Result<(Answer<Q::Answer>, Answer<Q::Answer>), QueryError> {
        let live = (self.live(panel, first).await?, self.live(panel, last).await?);
        if let (Some(first), Some(last)) = live {
            return Ok((first, last));
        }
        let fold = async move { self.fold_both((first, live.0), (last, live.1)).await };
        start::<Q, _, _>(panel, || fold)?.await
    }

    /// Folds the answers at two points. A point whose answer is already known is not folded.
    async fn fold_both(
        &self,
        (first, at_first): PointAnswer<Q::Answer>,
        (last, at_last): PointAnswer<Q::Answer>,
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
        panel: &RightPanel,
        prefix: Prefix,
    ) -> Result<Option<Answer<Q::Answer>>, QueryError> {
        let Ok(live) = panel.views.live::<Q::View>() else { return Ok(None) };
        if live.is_dropped() || !prefix.is_in_log_order() {
            return Ok(None);
        }
        let selection = &self.refold.selection;
        // Reading a few events in a scope is faster than waiting for the view; reading a whole log
        // is not.
        if !live.now().quarantine().is_empty() {
            // The view lacks events of the log.
            return Ok(None);
        }
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
            // Up to the bound, no matching event is in only one of the view and the point.
            let image = live.held();
            if !image.quarantine().is_empty() {
                return Ok(None);
            }
            if image.position() <= bound {
                return self.answer_of_live(&image, prefix).map(Some);
            }
            bound = panel.durable();
        }
        Ok(None)
    }

    fn answer_of_live(
        &self,
        image: &Version<Q::View>,
        prefix: Prefix,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let (at, upto) = (image.position(), prefix.upto);
        let value = answer(&self.query, &image.state)?;
        let position = if prefix.is_open { at.max(upto) } else { upto };
        Ok(Answer::past(value, position, Cost::memory(at)))
    }
}

/// A point, and its answer if that is known already.
type PointAnswer<T> = (Prefix, Option<Answer<T>>);
