//! The caller's expectation of where the boundary ends, as a condition of the append.

use std::any::type_name;

use diptych_store::{AppendCondition, Filter, InvalidRequest, Position, RawEvent, Tag};

use super::{Command, Conflict, Folds, accepted::Above, error::CommandError, panel::LeftPanel};
use crate::{
    event::{AnyReading, BoundaryError, MarkedRead, Marks, Recorded, SchemaError, StoredEvent},
    fold::{FoldError, FoldFailure},
};

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
    let (filter, after, marked) = match expected {
        Expectation::Position(after) => match union::<C>(slots) {
            filter if filter.items().is_empty() => {
                return Err(BoundaryError::NoBoundary { since: after }.into());
            }
            filter => {
                let marked = retagged_after::<C>(panel, slots, after).await?;
                (filter, after, marked)
            }
        },
        Expectation::Revision(revision) => {
            let tag = stream::<C>(slots)?;
            let marked = marked::<C>(panel, &tag).await?;
            match at_revision(panel, &tag, &marked, revision).await? {
                Ok(after) => (Filter::tag(tag), after, marked),
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
    let last = panel.store.last(&filter, head).await?.max(marked.last().copied());
    match last.filter(|at| *at > after) {
        None => Ok(Ok(Some(AppendCondition { fail_if: filter, after: head }))),
        Some(at) => {
            let read = MarkedRead::new(filter, marked);
            let missed = missed(panel, &read, &boundary::<C>(slots), after, at).await?;
            let conflict = Conflict { at, after, attempts: 1, missed };
            Ok(Err(CommandError::Conflict(conflict)))
        }
    }
}

/// The events that a decision did not know.
pub(super) async fn missed(
    panel: &LeftPanel,
    read: &MarkedRead,
    boundary: &Filter,
    after: Position,
    at: Position,
) -> Result<Vec<Recorded<RawEvent>>, CommandError> {
    let mut missed = Vec::new();
    let mut from = after;
    while from < at && missed.len() < Conflict::MISSED_EVENTS {
        let limit = Conflict::MISSED_EVENTS - missed.len();
        let batch = read.page(&panel.store, from, at, limit).await?;
        from = batch.upto();
        missed.extend(batch.iter().flat_map(|event| panel.recorded(&event, boundary)));
    }
    // One stored event can be several today.
    missed.truncate(Conflict::MISSED_EVENTS);
    Ok(missed)
}

/// The events after this position that are in a boundary over retagged keys, as far as not every
/// event carries its tags. Later ones are found by the filter.
async fn retagged_after<C: Command>(
    panel: &LeftPanel,
    slots: &mut <C::State as Folds>::Slots,
    after: Position,
) -> Result<Vec<Position>, CommandError> {
    let mut found = Vec::new();
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        let retagged = slot.retagged().filter(|retagged| after < retagged.completed_at());
        let Some(retagged) = retagged else { continue };
        let upto = retagged.completed_at();
        let read = retagged.find(&panel.store).await?;
        let mut from = after;
        while from < upto {
            let batch = read.page(&panel.store, from, upto, usize::MAX).await?;
            for event in batch.iter() {
                if slot.sees(&StoredEvent::of(&event))? {
                    found.push(event.position());
                }
            }
            from = batch.upto();
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The positions of older events that got this tag later, and have it as they are read today. The
/// log keeps the marks of a tag that was spelt in another way when an earlier release retagged.
///
/// They can be events of any type, as those that carry the tag can.
async fn marked<C: Command>(panel: &LeftPanel, tag: &Tag) -> Result<Vec<Position>, CommandError> {
    let keys = panel.schema.retags().keys();
    if !keys.has_key(tag.key()) {
        return Ok(Vec::new());
    }
    let marks = Marks::read(&panel.store, Some(&keys), std::slice::from_ref(tag)).await?;
    let mut marked = Vec::new();
    for event_type in marks.types() {
        let positions = marks.positions_of(event_type);
        match panel.schema.reading_of(event_type) {
            Some(reading) => {
                marked.extend(tagged::<C>(panel, &*reading, event_type, tag, positions).await?);
            }
            // Without the type, its events cannot be read. With one run there is one spelling.
            None if !keys.is_repeated(event_type, tag.key()) => marked.extend(positions),
            None => return Err(unknown_type(event_type, tag).into()),
        }
    }
    marked.sort_unstable();
    marked.dedup();
    Ok(marked)
}

/// Those of these positions, which are in order, whose event of this type lacks the tag as it is
/// stored, and has it as it is read today.
async fn tagged<C: Command>(
    panel: &LeftPanel,
    reading: &dyn AnyReading,
    event_type: &str,
    tag: &Tag,
    positions: Vec<Position>,
) -> Result<Vec<Position>, CommandError> {
    let (mut tagged, mut at) = (Vec::new(), Position::START);
    let last = positions.last().copied().unwrap_or(at);
    let read = MarkedRead::new(Filter::nothing(), positions);
    while at < last {
        let page = read.page(&panel.store, at, last, usize::MAX).await?;
        for event in page.iter() {
            // The upcaster that made one of these events of it may be gone.
            if !reading.knows(event.event_type()) {
                continue;
            }
            let position = event.position();
            let lacking = reading.lacking(&StoredEvent::of(&event)).map_err(|error| {
                let (fold, cause) = (type_name::<C::State>(), FoldFailure::Schema(error));
                CommandError::Fold(FoldError { fold, position, cause })
            })?;
            if lacking.iter().any(|(of, lacks)| of.event_type == event_type && lacks == tag) {
                tagged.push(position);
            }
        }
        at = page.upto();
    }
    Ok(tagged)
}

fn unknown_type(event_type: &str, tag: &Tag) -> SchemaError {
    let key = tag.key();
    let problem = format!(
        "the revision of the stream {tag:?} counts events of the type {event_type}, which got the \
         tag {key} by retagging more than once, so their tags have to be read, and this program \
         does not know the type: declare it with `AppBuilder::events`"
    );
    SchemaError::Declaration { problem }
}

/// The lowest position at which the stream of this tag has `revision` events. `marked` are the
/// events that got the tag later.
async fn at_revision(
    panel: &LeftPanel,
    tag: &Tag,
    marked: &[Position],
    revision: u64,
) -> Result<Result<Position, Conflict>, CommandError> {
    let stream = Filter::tag(tag.clone());
    let head = published(panel, &stream).await?;
    if count(panel, tag, marked, head).await? < revision {
        // The caller saw more events than the stream has: in another log, or in another stream.
        let last = panel.store.last(&stream, head).await?.max(marked.last().copied());
        let at = last.unwrap_or(Position::START);
        return Ok(Err(Conflict { at, after: at, attempts: 1, missed: Vec::new() }));
    }
    // Bisection finds the position without reading the stream, which may be long.
    let (mut low, mut high) = (0, head.get());
    while low < high {
        let middle = low + (high - low) / 2;
        match count(panel, tag, marked, Position::new(middle)).await? < revision {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(Ok(Position::new(low)))
}

/// The number of events up to here that have this tag, written with it or got later.
async fn count(
    panel: &LeftPanel,
    tag: &Tag,
    marked: &[Position],
    upto: Position,
) -> Result<u64, CommandError> {
    let later = marked.partition_point(|at| *at <= upto) as u64;
    Ok(panel.store.count(tag, upto).await? + later)
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

/// The union of the boundaries of a decision's states, as the command gave them.
pub(super) fn boundary<C: Command>(slots: &mut <C::State as Folds>::Slots) -> Filter {
    let slots = <C::State as Folds>::slots(slots).into_iter().flatten();
    slots.fold(Filter::nothing(), |union, slot| union.or(slot.boundary().clone()))
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
