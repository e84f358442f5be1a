//! All parts of the index of an open log, in order, each with the segment that it is about.
//!
//! Readers take a snapshot of the list and never wait for the writer. The list changes when a
//! part in memory is written out, when files are merged, and when a segment begins.

use std::sync::Arc;

use diptych_store::{Direction, Filter, KeyedCommit, Position, ReadError, Tag};

#[cfg(diptych_model)]
use crate::sync::Flaw;
use crate::{
    disk::Disk,
    index::{Name, NameQuery},
    sync::RwLock,
};

pub(crate) mod filter_file;
pub(crate) mod maps;
pub(crate) mod part;
pub(crate) mod rebuild;
pub(crate) mod segment;
mod within;

use filter_file::{FilterSpan, SegmentFilterFile};
use part::IndexPart;
use within::Within;

/// The catalog as it is now. Its lock is held only to take a snapshot, or to put another catalog in
/// the place of the last one.
#[derive(Debug)]
pub(crate) struct LiveCatalog(RwLock<Arc<Catalog>>);

impl LiveCatalog {
    pub(crate) fn new(catalog: Catalog) -> LiveCatalog {
        LiveCatalog(RwLock::new(Arc::new(catalog)))
    }

    pub(crate) fn snapshot(&self) -> Arc<Catalog> {
        self.0.read().clone()
    }

    /// Puts another catalog in the place of this one.
    pub(crate) fn replace(&self, catalog: Catalog) {
        *self.0.write() = Arc::new(catalog);
    }

    /// Adds a part in memory, for the next events. A part that never got an event is left out.
    pub(crate) fn begin_part(&self, tail: &Arc<IndexPart>) {
        self.change(|catalog| {
            let start = catalog.parts.partition_point(|part| part.first < tail.first);
            catalog.parts.truncate(start);
            catalog.parts.push(tail.clone());
            catalog.find_spans(start);
        });
    }

    /// Puts a part in the place of the consecutive parts `old`.
    pub(crate) fn replace_parts(&self, old: &[Arc<IndexPart>], new: IndexPart) {
        let is_old = |part: &Arc<IndexPart>| old.iter().any(|old| Arc::ptr_eq(old, part));
        #[cfg(diptych_model)]
        if Flaw::CatalogGap.is_set() {
            let whole = self.snapshot();
            let mut with_gap = Catalog::clone(&whole);
            with_gap.parts.retain(|part| !is_old(part));
            with_gap.find_spans(0);
            self.replace(with_gap);
            self.replace(Catalog::clone(&whole));
        }
        self.change(|catalog| {
            // Most changes are near the end.
            let Some(last) = catalog.parts.iter().rposition(is_old) else { return };
            let before = catalog.parts.get(..last).unwrap_or(&[]);
            let start = before.iter().rposition(|part| !is_old(part)).map_or(0, |kept| kept + 1);
            catalog.parts.splice(start..=last, [Arc::new(new)]);
            catalog.find_spans(start);
        });
    }

    /// Changes the catalog. It is copied only if somebody has a snapshot of it: to copy a catalog
    /// of many segments for each new one would take time that grows with the square of the log.
    fn change(&self, change: impl FnOnce(&mut Catalog)) {
        change(Arc::make_mut(&mut self.0.write()));
    }

    /// Adds a segment filter in the place of those that lie within it; answers these.
    pub(crate) fn place_filter(&self, file: SegmentFilterFile) -> Vec<Arc<SegmentFilterFile>> {
        let mut catalog = self.0.write();
        let filters = catalog.filters.iter().map(|span| span.file.clone());
        let (mut filters, replaced): (Vec<_>, Vec<_>) =
            filters.partition(|other| other.last < file.first || other.first > file.last);
        filters.push(Arc::new(file));
        filters.sort_by_key(|filter| filter.first);
        *catalog = Arc::new(Catalog::new(catalog.parts.clone(), filters));
        replaced
    }
}

/// The parts, in order, which cover every accepted position; and the groups of their segments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) parts: Vec<Arc<IndexPart>>,
    pub(crate) filters: Vec<FilterSpan>,
}

impl Catalog {
    /// A catalog of these parts and groups, both in order.
    pub(crate) fn new(parts: Vec<Arc<IndexPart>>, filters: Vec<Arc<SegmentFilterFile>>) -> Catalog {
        let filters = filters.into_iter().map(|file| FilterSpan::new(file, &parts)).collect();
        Catalog { parts, filters }
    }

    /// Finds the parts of each group again after a change of the parts from index `start` on.
    fn find_spans(&mut self, start: usize) {
        let kept = self.filters.partition_point(|span| span.parts.end <= start);
        for span in self.filters.iter_mut().skip(kept) {
            *span = FilterSpan::new(span.file.clone(), &self.parts);
        }
    }

    /// The parts of the segments of a filter.
    pub(crate) fn of(&self, span: &FilterSpan) -> &[Arc<IndexPart>] {
        self.parts.get(span.parts.clone()).unwrap_or(&[])
    }

    /// The parts of the segment with this sequence.
    pub(crate) fn of_segment(&self, sequence: u32) -> &[Arc<IndexPart>] {
        let start = self.parts.partition_point(|part| part.segment.sequence < sequence);
        let end = self.parts.partition_point(|part| part.segment.sequence <= sequence);
        self.parts.get(start..end).unwrap_or(&[])
    }

    /// The parts that may have a match for `wanted` in `low..=high`.
    pub(crate) fn within<'a>(
        &'a self,
        disk: &'a dyn Disk,
        wanted: NameQuery<'a>,
        (low, high): (Position, Position),
        direction: Direction,
    ) -> Within<'a> {
        let start = self.parts.partition_point(|part| part.first <= low).saturating_sub(1);
        let end = self.parts.partition_point(|part| part.first <= high);
        let range = (low, high);
        Within { catalog: self, disk, wanted, range, direction, start, end, answer: None }
    }

    /// The last event in `low..=high` that matches.
    pub(crate) fn last(
        &self,
        disk: &dyn Disk,
        filter: &Filter,
        low: Position,
        high: Position,
    ) -> Result<Option<Position>, ReadError> {
        let wanted = NameQuery::of(filter);
        for within in self.within(disk, wanted, (low, high), Direction::Backwards) {
            let (part, range) = within?;
            let found =
                part.ask(disk, |index| index.find(filter, range, Direction::Backwards, 1))?;
            if let Some(at) = found.first() {
                return Ok(Some(part.first.plus(u64::from(*at))));
            }
        }
        Ok(None)
    }

    /// Number of events at or below `upto` that carry the tag.
    pub(crate) fn count(
        &self,
        disk: &dyn Disk,
        tag: &Tag,
        upto: Position,
    ) -> Result<u64, ReadError> {
        let mut count = 0;
        let wanted = NameQuery::One(Name::Tag(tag.as_str()));
        let range = (Position::new(1), upto);
        for within in self.within(disk, wanted, range, Direction::Forwards) {
            let (part, (_, high)) = within?;
            let rank =
                part.ask(disk, |index| index.postings(tag.as_str()).rank(high.saturating_add(1)))?;
            count += rank as u64;
        }
        Ok(count)
    }

    /// The commit with this key. Searches from the newest part down to the part that holds
    /// `down_to`.
    pub(crate) fn key(
        &self,
        disk: &dyn Disk,
        name: &str,
        down_to: Position,
    ) -> Result<Option<KeyedCommit>, ReadError> {
        let (wanted, range) = (NameQuery::One(Name::Key(name)), (down_to, Position::MAX));
        for within in self.within(disk, wanted, range, Direction::Backwards) {
            let (part, _) = within?;
            if let Some(commit) = part.ask(disk, |index| index.key(name))? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }
}
