//! Iterating over the parts of the index that may have a match, and over no others.

use std::sync::Arc;

use diptych_store::{Direction, Position, ReadError};

use super::{Catalog, filter_file::FilterSpan, part::IndexPart};
use crate::{disk::Disk, index::NameQuery};

/// The parts that may have a match in a range, in order. Each comes with its share of that range,
/// relative to the first position of the part.
pub(crate) struct Within<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) disk: &'a dyn Disk,
    pub(super) wanted: NameQuery<'a>,
    pub(super) range: (Position, Position),
    pub(super) direction: Direction,
    /// Indices of the parts that are left.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The answer of the segment filter that was queried last.
    pub(super) answer: Option<FilterAnswer<'a>>,
}

/// An answer of a segment filter.
#[derive(Clone, Copy)]
pub(super) struct FilterAnswer<'a> {
    span: &'a FilterSpan,
    /// The segments that may have what is wanted.
    set: u64,
}

impl<'a> Iterator for Within<'a> {
    type Item = Result<(&'a Arc<IndexPart>, (u32, u32)), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = match self.step() {
                Ok(at) => at?,
                Err(error) => {
                    // Leaving out a part would make the answer wrong, so the iteration ends.
                    self.start = self.end;
                    return Some(Err(error));
                }
            };
            let parts = &self.catalog.parts;
            let part = parts.get(at)?;
            let next = parts.get(at + 1).map_or(Position::MAX, |next| next.first);
            let (low, high) = self.range;
            let from = low.max(part.first).get() - part.first.get();
            let Some(to) = high.min(next.before()).get().checked_sub(part.first.get()) else {
                continue;
            };
            if let Ok(from) = u32::try_from(from)
                && u64::from(from) <= to
            {
                return Some(Ok((part, (from, to.min(u32::MAX.into()) as u32))));
            }
        }
    }
}

impl<'a> Within<'a> {
    /// The index of the next part that may have a match.
    fn step(&mut self) -> Result<Option<usize>, ReadError> {
        while self.start < self.end {
            let backwards = self.direction == Direction::Backwards;
            let at = if backwards { self.end - 1 } else { self.start };
            let asked = self.ask(at)?;
            if let Some(FilterAnswer { span, set: 0 }) = asked {
                match backwards {
                    true => self.end = span.parts.start.max(self.start),
                    false => self.start = span.parts.end.min(self.end),
                }
                continue;
            }
            match backwards {
                true => self.end -= 1,
                false => self.start += 1,
            }
            let Some(FilterAnswer { span, set }) = asked else { return Ok(Some(at)) };
            let Some(part) = self.catalog.parts.get(at) else { return Ok(None) };
            let bit = part.segment.sequence.wrapping_sub(span.file.first);
            if set.checked_shr(bit).is_none_or(|set| set & 1 == 1) {
                let segment = (&*part.segment, self.wanted);
                span.file.compare(self.disk, self.catalog.of(span), segment)?;
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The answer of the group of this part, if it is in one.
    fn ask(&mut self, at: usize) -> Result<Option<FilterAnswer<'a>>, ReadError> {
        if let Some(asked) = self.answer.filter(|asked| asked.span.parts.contains(&at)) {
            return Ok(Some(asked));
        }
        let filters = &self.catalog.filters;
        let after = filters.partition_point(|span| span.parts.start <= at);
        let span = after.checked_sub(1).and_then(|before| filters.get(before));
        let Some(span) = span.filter(|span| span.parts.contains(&at)) else {
            return Ok(None);
        };
        let set = match self.wanted {
            NameQuery::Any => u64::MAX,
            wanted => span.file.having(self.disk, self.catalog.of(span), wanted)?,
        };
        self.answer = Some(FilterAnswer { span, set });
        Ok(self.answer)
    }
}
