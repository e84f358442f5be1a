//! Reads the log again for answers of the past, a bounded page at a time. It yields after each
//! page, so that the thread of the pool can check whether the caller still waits. It holds nothing
//! that commands or views wait for.

use std::{
    any::type_name,
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_store::{Batch, EventRef, Filter, Position, Read, Store, Timestamp};
use tokio::task::yield_now;

use crate::{
    event::{Event, MarkedRead, Reading, Recorded, RetaggedKeys, SchemaError, StoredEvent},
    fold::{Fold, FoldError, FoldFailure},
    panics::{caught, panic_text},
    query::{Query, QueryError, RightPanel},
};

/// Number of events that are read at once, and applied between two checks whether the caller still
/// waits.
pub(super) const PAGE_EVENTS: usize = 1_024;

/// The budget of a question without a limit of events.
pub(super) const NO_BUDGET: u64 = u64::MAX;

pub(super) type EventOf<Q> = <<Q as Query>::View as Fold>::Event;

/// A consumer of events, one after another.
pub(super) trait Taker<E>: Send {
    fn take(&mut self, event: Recorded<E>);

    /// Whether more events make no difference.
    fn is_full(&self) -> bool {
        false
    }
}

impl<V: Fold> Taker<V::Event> for V {
    fn take(&mut self, event: Recorded<V::Event>) {
        self.apply(&event);
    }
}

/// The events of the log that a replay reads, and how they are read.
pub(super) struct Selection<E> {
    store: Store,
    /// The Rust type of the view.
    view: &'static str,
    /// The scope as it was asked for.
    pub(super) scope: Filter,
    /// The scope, narrowed to the view's events.
    filter: Filter,
    reading: Arc<Reading<E>>,
    /// If older events got tags of the scope later: where they are, and the retagged keys.
    marked: Option<(MarkedRead, Arc<RetaggedKeys>)>,
    /// Maximum number of events that are kept in memory to sort them.
    past_events: usize,
    /// Maximum number of events that are read for one answer.
    pub(super) budget: u64,
}

impl<E: Event> Selection<E> {
    /// The events in this scope.
    ///
    /// # Errors
    /// [`QueryError`] if the scope is wrong, or if older events lack a tag that it asks for.
    pub(super) async fn new<Q: Query>(
        panel: &RightPanel,
        scope: Filter,
    ) -> Result<Selection<E>, QueryError>
    where
        Q::View: Fold<Event = E>,
    {
        let wrong = |error| QueryError::Scope { query: type_name::<Q>(), error };
        let schema = &panel.schema;
        schema.check_tags(&scope).map_err(wrong)?;
        let reading = schema.reading::<E>()?;
        reading.check_current()?;
        let filter = reading.narrow(&scope).map_err(wrong)?;
        let marked = marked(panel, &reading, &scope).await?;
        let (store, view) = (panel.store().clone(), type_name::<Q::View>());
        let past_events = panel.past_events;
        let budget = NO_BUDGET;
        Ok(Selection { store, view, scope, filter, reading, marked, past_events, budget })
    }

    /// Whether it has all of the view's events.
    pub(super) fn is_whole(&self) -> bool {
        self.scope.is_everything()
    }

    /// The last of the view's events up to here, in the scope or not.
    pub(super) async fn last(&self, upto: Position) -> Result<Position, QueryError> {
        let last = self.store.last(&self.reading.everything(), upto).await?;
        Ok(last.unwrap_or(Position::START))
    }

    /// The pages with the events above `after`, up to `upto`.
    pub(super) fn pages(&self, after: Position, upto: Position) -> Pages<'_, E> {
        Pages { selection: self, cursor: Cursor { at: after, upto, events: 0 } }
    }

    /// The next page, if there is one.
    ///
    /// # Errors
    /// [`QueryError`] if the log cannot be read, or if the budget is spent and there are more
    /// events.
    pub(super) async fn page(&self, cursor: &mut Cursor) -> Result<Option<Batch>, QueryError> {
        while cursor.at < cursor.upto {
            let left = self.budget.saturating_sub(cursor.events);
            // With nothing left, one event shows that the budget does not suffice.
            let limit = usize::try_from(left).unwrap_or(PAGE_EVENTS).clamp(1, PAGE_EVENTS);
            let batch = match &self.marked {
                Some((marked, _)) => {
                    marked.page(&self.store, cursor.at, cursor.upto, limit).await?
                }
                None => {
                    let read = Read::after(cursor.at).upto(cursor.upto).limit(limit);
                    self.store.read(&self.filter, read.takes_replica()).await?
                }
            };
            cursor.at = batch.upto();
            cursor.events += batch.len() as u64;
            if cursor.events > self.budget {
                return Err(QueryError::OverBudget { limit: self.budget });
            }
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
            yield_now().await;
        }
        Ok(None)
    }

    /// Applies these events. After a failure the taker is incomplete.
    pub(super) fn take<'e, T: Taker<E>>(
        &self,
        taker: &mut T,
        events: impl IntoIterator<Item = EventRef<'e>>,
    ) -> Result<(), FoldError> {
        let at = Cell::new(Position::START);
        let run = || -> Result<(), SchemaError> {
            for event in events {
                at.set(event.position());
                let stored = StoredEvent::of(&event);
                // The filter selected the event by its stored type. The scope may not contain its
                // type of today.
                let keys = self.marked.as_ref().map(|(_, keys)| &**keys);
                self.reading.read_in(&stored, &self.scope, keys, |event| {
                    taker.take(self.reading.recorded(&stored, event));
                })?;
            }
            Ok(())
        };
        let cause = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => FoldFailure::Schema(error),
            Err(panic) => FoldFailure::Panicked(panic_text(&*panic)),
        };
        Err(FoldError { fold: self.view, position: at.get(), cause })
    }

    /// Applies the events above `after`, up to `upto`, in log order. Returns the number of events
    /// read.
    pub(super) async fn in_log_order<T: Taker<E>>(
        &self,
        taker: &mut T,
        after: Position,
        upto: Position,
    ) -> Result<u64, QueryError> {
        let mut pages = self.pages(after, upto);
        while let Some(page) = pages.next().await? {
            self.take(taker, page.iter())?;
            if taker.is_full() {
                break;
            }
            yield_now().await;
        }
        Ok(pages.cursor.events)
    }

    /// Applies the events up to `upto` that occurred before an instant, in order of when they
    /// occurred. Returns the number of events read.
    pub(super) async fn as_occurred<T: Taker<E>>(
        &self,
        upto: Position,
        before: Timestamp,
        begin: impl Fn() -> Result<T, QueryError> + Send,
    ) -> Result<(T, u64), QueryError> {
        let mut pages = self.pages(Position::START, upto);
        if let Some(taker) = self.as_it_comes(&mut pages, before, begin()?).await? {
            return Ok((taker, pages.cursor.events));
        }
        pages.cursor.at = Position::START;
        let sheets = self.sheets(&mut pages, before).await?;
        let mut events = InOrder::of(&sheets);
        let mut taker = begin()?;
        while !events.is_done() && !taker.is_full() {
            self.take(&mut taker, events.by_ref().take(PAGE_EVENTS))?;
            yield_now().await;
        }
        Ok((taker, pages.cursor.events))
    }

    /// Like [`as_occurred`](Selection::as_occurred), but keeps no events. This works if the events
    /// occurred in log order, which is so if no writer gave an instant. Otherwise returns `None`.
    async fn as_it_comes<T: Taker<E>>(
        &self,
        pages: &mut Pages<'_, E>,
        before: Timestamp,
        mut taker: T,
    ) -> Result<Option<T>, QueryError> {
        let mut last = Timestamp::NEVER;
        while let Some(page) = pages.next().await? {
            let mut events = Vec::with_capacity(page.len());
            for event in page.iter().filter(|event| event.occurred_at() < before) {
                if event.occurred_at() < last {
                    return Ok(None);
                }
                last = event.occurred_at();
                events.push(event);
            }
            // A wrong order may be the cause of the failure: an event that belongs before may still
            // follow.
            if self.take(&mut taker, events).is_err() {
                let _ = caught(|| drop(taker));
                return Ok(None);
            }
            yield_now().await;
        }
        Ok(Some(taker))
    }

    /// The events that occurred before the instant, kept in memory, with each page sorted.
    async fn sheets(
        &self,
        pages: &mut Pages<'_, E>,
        before: Timestamp,
    ) -> Result<Vec<Sheet>, QueryError> {
        let (mut sheets, mut events) = (Vec::new(), 0);
        while let Some(batch) = pages.next().await? {
            let times = batch.iter().map(|event| event.occurred_at()).zip(0..);
            let mut order: Vec<_> = times.filter(|(at, _)| *at < before).collect();
            if !order.is_empty() {
                events += batch.len();
                if events > self.past_events {
                    return Err(QueryError::TooManyEvents { limit: self.past_events });
                }
                order.sort_unstable();
                sheets.push(Sheet { batch, order });
            }
            yield_now().await;
        }
        Ok(sheets)
    }
}

/// Where the events of this scope are, if older events got some of its tags later.
///
/// # Errors
/// [`SchemaError::MissingTag`] if older events lack a tag that the scope asks for.
async fn marked<E: Event>(
    panel: &RightPanel,
    reading: &Arc<Reading<E>>,
    scope: &Filter,
) -> Result<Option<(MarkedRead, Arc<RetaggedKeys>)>, QueryError> {
    if scope.items().iter().all(|item| item.tags.is_empty()) {
        return Ok(None);
    }
    let store = panel.store();
    let keys = panel.schema.keys_over(store, &**reading, scope).await?;
    let wrong = |error| QueryError::Scope { query: type_name::<E>(), error };
    let Some(retagged) = reading.retagged(scope, &keys).map_err(wrong)? else { return Ok(None) };
    Ok(Some((retagged.find(store).await?, keys)))
}

/// The position of a walk through the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) at: Position,
    pub(super) upto: Position,
    /// Events that were read.
    pub(super) events: u64,
}

pub(super) struct Pages<'a, E> {
    selection: &'a Selection<E>,
    cursor: Cursor,
}

impl<E: Event> Pages<'_, E> {
    async fn next(&mut self) -> Result<Option<Batch>, QueryError> {
        self.selection.page(&mut self.cursor).await
    }
}

/// A page, and its relevant events in order of when they occurred: the instant, and the place in
/// the page.
struct Sheet {
    batch: Batch,
    order: Vec<(Timestamp, usize)>,
}

/// The events of all sheets in order of when they occurred, those of one instant in order of the
/// log.
struct InOrder<'s> {
    sheets: &'s [Sheet],
    /// The next event of each sheet.
    next: BinaryHeap<Reverse<Next>>,
}

/// The instant, the sheet, the place in its order, the place in its page. Sheets and pages are in
/// log order, so events of one instant compare in log order.
type Next = (Timestamp, usize, usize, usize);

impl<'s> InOrder<'s> {
    fn of(sheets: &'s [Sheet]) -> InOrder<'s> {
        let first = (0..sheets.len()).filter_map(|sheet| next(sheets, sheet, 0));
        InOrder { sheets, next: first.map(Reverse).collect() }
    }

    fn is_done(&self) -> bool {
        self.next.is_empty()
    }
}

impl<'s> Iterator for InOrder<'s> {
    type Item = EventRef<'s>;

    fn next(&mut self) -> Option<EventRef<'s>> {
        let mut top = self.next.peek_mut()?;
        let Reverse((_, sheet, rank, index)) = *top;
        match next(self.sheets, sheet, rank + 1) {
            Some(next) => *top = Reverse(next),
            None => drop(PeekMut::pop(top)),
        }
        self.sheets.get(sheet)?.batch.get(index)
    }
}

fn next(sheets: &[Sheet], sheet: usize, rank: usize) -> Option<Next> {
    let (at, index) = *sheets.get(sheet)?.order.get(rank)?;
    Some((at, sheet, rank, index))
}
