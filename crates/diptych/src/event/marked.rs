//! Reads a boundary over retagged keys: the events that its filter finds, and the older events that
//! marks point at, merged in order of position.
//!
//! The marks only find candidates. Whether an older event is in the boundary is decided by the tags
//! that it has today, when it is [read](super::Reading::read_in). So of several events that one
//! stored event became, each has its own tags.

use std::sync::Arc;

use diptych_store::{
    Batch, BatchBuilder, Corruption, EventRef, Filter, FilterItem, Position, Read, ReadError,
    Store, Tag,
};

use super::retags::{Marks, RetagFailure, RetaggedKeys};

/// Maximum number of marked events that are read for one page. It bounds the memory of a page.
const PAGE_MARKS: usize = 1_024;
/// Marked events at most this far from each other are read at once, together with the events of
/// their types in between.
const GAP: u64 = 32;

/// A boundary over keys that were retagged.
pub struct RetaggedBoundary {
    pub(super) items: Vec<RetaggedItem>,
    /// Events that are, or can become, events of the fold.
    pub(super) sources: Filter,
    pub(super) keys: Arc<RetaggedKeys>,
    /// The newest completion that the boundary depends on. Every event after it carries its tags.
    pub(super) completed_at: Position,
}

pub(super) struct RetaggedItem {
    /// Narrowed to the fold's events.
    pub(super) narrowed: FilterItem,
    /// The tags that older events may have only by marks.
    pub(super) retagged: Vec<Tag>,
}

/// The places of a boundary's events in a log.
pub(crate) struct MarkedRead {
    filter: Filter,
    sources: Filter,
    /// In order.
    marked: Vec<Position>,
}

impl RetaggedBoundary {
    /// Every event after this position carries all of its tags.
    pub(crate) fn completed_at(&self) -> Position {
        self.completed_at
    }

    /// Reads the marks.
    ///
    /// # Errors
    /// [`RetagFailure`] if they cannot be read.
    pub(crate) async fn find(self, store: &Store) -> Result<MarkedRead, RetagFailure> {
        let RetaggedBoundary { items, sources, keys, .. } = self;
        let mut tags: Vec<_> = items.iter().flat_map(|item| &item.retagged).cloned().collect();
        tags.sort_unstable();
        tags.dedup();
        let marks = Marks::read(store, Some(&keys), &tags).await?;
        let (mut filter, mut marked) = (Filter::nothing(), Vec::new());
        for item in items {
            let (found, positions) = item.find(store, &marks).await?;
            filter = filter.or(found);
            marked.extend(positions);
        }
        marked.sort_unstable();
        marked.dedup();
        Ok(MarkedRead { filter, sources, marked })
    }
}

impl RetaggedItem {
    /// A filter and positions that find all events of the item, and perhaps others.
    ///
    /// An event of the item has every tag, stored or by a mark. So it is enough to find the events
    /// with one of the tags: the tag that the fewest events have.
    async fn find(
        self,
        store: &Store,
        marks: &Marks,
    ) -> Result<(FilterItem, Vec<Position>), ReadError> {
        let RetaggedItem { narrowed, retagged } = self;
        let [first, more @ ..] = retagged.as_slice() else { return Ok((narrowed, Vec::new())) };
        let types = narrowed.types;
        let stored: Vec<_> =
            narrowed.tags.into_iter().filter(|tag| !retagged.contains(tag)).collect();
        let mut best = (first, marks.positions(first));
        if !(more.is_empty() && stored.is_empty()) {
            let head = store.head().position();
            let mut fewest = store.count(first, head).await? + best.1.len() as u64;
            for tag in more {
                let positions = marks.positions(tag);
                let events = store.count(tag, head).await? + positions.len() as u64;
                if events < fewest {
                    (fewest, best) = (events, (tag, positions));
                }
            }
            for tag in &stored {
                if store.count(tag, head).await? < fewest {
                    return Ok((FilterItem { types, tags: stored }, Vec::new()));
                }
            }
        }
        let (tag, positions) = best;
        let tags = stored.into_iter().chain([tag.clone()]).collect();
        Ok((FilterItem { types, tags }, positions))
    }
}

impl MarkedRead {
    /// Finds these events, too.
    pub(crate) fn or(mut self, filter: Filter) -> MarkedRead {
        self.filter = self.filter.or(filter);
        self
    }

    /// The events that the filter finds, and those at these positions, which are in order.
    pub(crate) fn new(filter: Filter, marked: Vec<Position>) -> MarkedRead {
        MarkedRead { filter, sources: Filter::everything(), marked }
    }

    /// The next events after a position, in order of position. Like a read of the store, it can
    /// end early, and the batch tells where.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(crate) async fn page(
        &self,
        store: &Store,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Batch, ReadError> {
        let next = self.marked.partition_point(|at| *at <= after);
        let marked = self.marked.get(next..).unwrap_or(&[]);
        let upto = marked.get(PAGE_MARKS).map_or(upto, |beyond| beyond.before().min(upto));
        let read = Read::after(after).upto(upto).limit(limit);
        let batch = store.read(&self.filter, read).await?;
        let end = marked.partition_point(|at| *at <= batch.upto());
        let mut wanted = marked.get(..end).unwrap_or(&[]).to_vec();
        let found: Vec<_> = batch.iter().map(|event| event.position()).collect();
        wanted.retain(|at| found.binary_search(at).is_err());
        if wanted.is_empty() {
            return Ok(batch);
        }
        let more = self.at(store, &wanted).await?;
        let more = more.iter().flat_map(Batch::iter);
        let more = more.filter(|event| wanted.binary_search(&event.position()).is_ok());
        let mut events: Vec<_> = batch.iter().chain(more).collect();
        events.sort_unstable_by_key(EventRef::position);
        copied(&events, &batch)
    }

    /// Batches that contain the events at these positions.
    async fn at(&self, store: &Store, wanted: &[Position]) -> Result<Vec<Batch>, ReadError> {
        let mut batches = Vec::new();
        for near in wanted.chunk_by(|one, next| next.get() - one.get() <= GAP) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            let mut at = first.before();
            while at < *last {
                let batch = store.read(&self.sources, Read::after(at).upto(*last)).await?;
                at = batch.upto();
                batches.push(batch);
            }
        }
        Ok(batches)
    }
}

/// A batch of its own with these events, which ends where `like` ends.
fn copied(events: &[EventRef<'_>], like: &Batch) -> Result<Batch, ReadError> {
    let mut builder = BatchBuilder::with_capacity(events.len());
    for event in events {
        let bytes = event.bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let chunk = builder.chunk(bytes.to_vec().into());
        let added = builder.push(event.position(), event.recorded_at(), chunk, 0, length);
        added.map_err(|error| Corruption {
            place: format!("position {}", event.position()),
            what: format!("the event cannot be decoded a second time: {error}"),
            advice: "this is a mistake of the store: report it to its authors".to_owned(),
        })?;
    }
    Ok(builder.finish(like.upto(), like.commit_end()))
}
