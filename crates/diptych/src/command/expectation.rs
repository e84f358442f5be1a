//! The caller's expectation of where the boundary ends, as a condition of the append.

use diptych_store::{AppendCondition, Filter, InvalidRequest, Position, RawEvent, Read, Tag};

use super::{Command, Conflict, Folds, accepted::Above, error::CommandError, panel::LeftPanel};
use crate::event::{BoundaryError, Recorded};

/// The end of the boundary as the caller of a command knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expectation {
    Position(Position),
    Revision(u64),
}

/// The caller's expectation as a condition of the append, or the error if it is already violated.
///
/// An expectation that no event could violate is a mistake: a caller who states one believes
/// that it protects a decision, and would get a receipt for a lost update.
pub(super) async fn expected<C: Command>(
    panel: &LeftPanel,
    slots: &mut <C::State as Folds>::Slots,
    expected: Expectation,
) -> Result<Result<Option<AppendCondition>, CommandError>, CommandError> {
    let (filter, after) = match expected {
        Expectation::Position(after) => match union::<C>(slots) {
            filter if filter.items().is_empty() => {
                return Err(BoundaryError::NoBoundary { since: after }.into());
            }
            filter => (filter, after),
        },
        Expectation::Revision(revision) => {
            let tag = stream::<C>(slots)?;
            match at_revision(panel, &tag, revision).await? {
                Ok(after) => (Filter::tag(tag), after),
                Err(conflict) => return Ok(Err(CommandError::Conflict(conflict))),
            }
        }
    };
    let head = published(panel, &filter).await?;
    if after > head {
        // The store would refuse it in an append, but a rejection and an empty outcome are not
        // appended.
        let above = InvalidRequest::AboveHead { position: after, head };
        return Ok(Err(CommandError::InvalidRequest(above)));
    }
    let last = panel.store.last(&filter, head).await?;
    match last.filter(|at| *at > after) {
        None => Ok(Ok(Some(AppendCondition { fail_if: filter, after: head }))),
        Some(at) => {
            let missed = missed(panel, &filter, after, at).await?;
            let conflict = Conflict { at, after, attempts: 1, missed };
            Ok(Err(CommandError::Conflict(conflict)))
        }
    }
}

/// The events that a decision did not know.
pub(super) async fn missed(
    panel: &LeftPanel,
    filter: &Filter,
    after: Position,
    at: Position,
) -> Result<Vec<Recorded<RawEvent>>, CommandError> {
    let mut missed = Vec::new();
    let mut from = after;
    while from < at && missed.len() < Conflict::MISSED_EVENTS {
        let limit = Conflict::MISSED_EVENTS - missed.len();
        let batch = panel.store.read(filter, Read::after(from).upto(at).limit(limit)).await?;
        from = batch.upto();
        missed.extend(batch.iter().map(|event| panel.recorded(&event)));
    }
    Ok(missed)
}

/// The lowest position at which the stream of this tag has `revision` events.
async fn at_revision(
    panel: &LeftPanel,
    tag: &Tag,
    revision: u64,
) -> Result<Result<Position, Conflict>, CommandError> {
    let stream = Filter::tag(tag.clone());
    let head = published(panel, &stream).await?;
    let events = panel.store.count(tag, head).await?;
    if events < revision {
        // The caller saw more events than the stream has: in another log, or in another stream.
        let at = panel.store.last(&stream, head).await?.unwrap_or(Position::START);
        return Ok(Err(Conflict { at, after: at, attempts: 1, missed: Vec::new() }));
    }
    // Bisection finds the position without reading the stream, which may be long.
    let (mut low, mut high) = (0, head.get());
    while low < high {
        let middle = low + (high - low) / 2;
        match panel.store.count(tag, Position::new(middle)).await? < revision {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(Ok(Position::new(low)))
}

/// Waits until all matching events that this process accepted are published. Returns the end of the
/// log.
async fn published(panel: &LeftPanel, filter: &Filter) -> Result<Position, CommandError> {
    panel.store.fresh_head().await?;
    loop {
        let head = panel.head.position();
        match panel.accepted_window.above(filter, head, head) {
            Above::Nothing => return Ok(head),
            Above::Known { upto: until, .. } | Above::Unknown { until } => {
                panel.head.upto(until).await?;
            }
        }
    }
}

/// The union of the filters of a decision's states.
pub(super) fn union<C: Command>(slots: &mut <C::State as Folds>::Slots) -> Filter {
    let slots = <C::State as Folds>::slots(slots).into_iter().flatten();
    slots.fold(Filter::nothing(), |union, slot| union.or(slot.filter().clone()))
}

/// The tag of a boundary that is a single stream.
fn stream<C: Command>(slots: &mut <C::State as Folds>::Slots) -> Result<Tag, CommandError> {
    let mut tags: Vec<Tag> = Vec::new();
    let mut one_each = true;
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        for item in slot.boundary().items() {
            one_each &= item.tags.len() == 1;
            tags.extend(item.tags.iter().cloned());
        }
    }
    tags.dedup();
    match tags.pop() {
        Some(tag) if one_each && tags.is_empty() => Ok(tag),
        _ => Err(CommandError::Boundary(BoundaryError::NotOneStream)),
    }
}
