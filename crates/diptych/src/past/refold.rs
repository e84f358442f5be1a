//! Folding a view again, up to a point.

use std::{
    any::type_name,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_store::{Filter, Position};

use super::{point::Prefix, replay::Selection};
use crate::{
    fold::{FoldError, FoldFailure},
    panics::panic_text,
    query::{Answer, Cost, Query, QueryError, RightPanel, answer},
    snapshot::{SavedState, ViewSnapshotStore},
    view::View,
};

/// The means to fold a view again.
pub(super) struct Refold<V: View> {
    pub(super) selection: Selection<V::Event>,
    /// The snapshots of the view, if any are kept.
    snapshots: Option<Arc<ViewSnapshotStore<V>>>,
}

/// A view at a point in the past.
pub(super) struct RefoldedView<V> {
    pub(super) view: V,
    /// It contains all events up to here.
    pub(super) upto: Position,
    pub(super) cost: Cost,
}

impl<V: View> Refold<V> {
    /// Uses the events in this scope of the query.
    pub(super) async fn new<Q: Query<View = V>>(
        panel: &RightPanel,
        scope: Filter,
    ) -> Result<Refold<V>, QueryError> {
        let selection = Selection::new::<Q>(panel, scope).await?;
        Ok(Refold { selection, snapshots: panel.views.snapshots::<V>() })
    }

    /// The view at this point, folded from the log.
    pub(super) async fn folded(&self, prefix: Prefix) -> Result<RefoldedView<V>, QueryError> {
        let upto = prefix.upto;
        if let Some(before) = prefix.occurred_before
            && V::RETAIN_BEFORE.is_none()
        {
            let (view, events) = self.selection.as_occurred(upto, before, fresh::<V>).await?;
            return Ok(RefoldedView { view, upto, cost: Cost { events, from: Position::START } });
        }
        let (view, from) = match self.selection.is_whole() {
            true => self.begin(upto)?,
            false => (fresh::<V>()?, Position::START),
        };
        let mut folded = RefoldedView { view, upto: from, cost: Cost { events: 0, from } };
        self.fold_on(&mut folded, upto).await?;
        if let (Some(before), Some(retain_before)) = (prefix.occurred_before, V::RETAIN_BEFORE) {
            guarded::<V, _>(upto, || retain_before(&mut folded.view, before))?;
        }
        Ok(folded)
    }

    /// The state from which to fold all of the view's events in log order, at `upto` or an earlier
    /// position. Reads a snapshot on this thread.
    fn begin(&self, upto: Position) -> Result<(V, Position), QueryError> {
        // With this head, `newest` removes no snapshot for being above the end of the log. The log
        // grows meanwhile, and other queries use the snapshots above `upto`.
        let newest =
            |snapshots: &Arc<ViewSnapshotStore<V>>| snapshots.newest(upto, Position::new(u64::MAX));
        match self.snapshots.as_ref().and_then(newest) {
            Some(SavedState { fold, position, .. }) => Ok((fold, position)),
            None => Ok((fresh::<V>()?, Position::START)),
        }
    }

    /// Continues the fold to a later position. The cost becomes the cost of this step.
    pub(super) async fn fold_on(
        &self,
        folded: &mut RefoldedView<V>,
        upto: Position,
    ) -> Result<(), QueryError> {
        let from = folded.upto;
        let events = self.selection.in_log_order(&mut folded.view, from, upto).await?;
        folded.upto = upto;
        folded.cost = Cost { events, from };
        Ok(())
    }
}

impl<V: View> RefoldedView<V> {
    pub(super) fn answer<Q: Query<View = V>>(
        &self,
        query: &Q,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let RefoldedView { view, upto, cost } = self;
        let value = answer(query, view)?;
        Ok(Answer::past(value, *upto, *cost))
    }
}

/// A view without any events.
pub(super) fn fresh<V: View>() -> Result<V, QueryError> {
    guarded::<V, _>(Position::START, V::default)
}

/// Runs code of a view that may panic. The caller drops a view that panicked.
fn guarded<V: View, T>(position: Position, run: impl FnOnce() -> T) -> Result<T, QueryError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let fold = type_name::<V>();
        let cause = FoldFailure::Panicked(panic_text(&*panic));
        QueryError::Fold(FoldError { fold, position, cause })
    })
}
