//! Iterating over the parts of the index that may have a match, and over no others.

use std::sync::Arc;

use diptych_store::{Direction, Position, ReadError};

use super::{Catalog, Part};
use crate::{disk::Disk, index::Wanted};

/// The parts that may have a match in a range, in order. Each comes with its share of that range,
/// relative to the first position of the part.
pub(crate) struct Within<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) disk: &'a dyn Disk,
    pub(super) wanted: Wanted<'a>,
    pub(super) range: (Position, Position),
    pub(super) direction: Direction,
    /// Indices of the parts that are left.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The answer of the group that was queried last.
    pub(super) group: Option<Asked>,
}

/// An answer of a group.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// Indices of its parts.
    from: usize,
    to: usize,
    /// Sequence of its first segment.
    first: u32,
    /// The segments that may have what is wanted.
    set: u64,
}

impl<'a> Iterator for Within<'a> {
    type Item = Result<(&'a Arc<Part>, (u32, u32)), ReadError>;

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

impl Within<'_> {
    /// The index of the next part that may have a match.
    fn step(&mut self) -> Result<Option<usize>, ReadError> {
        while self.start < self.end {
            let backwards = self.direction == Direction::Backwards;
            let at = if backwards { self.end - 1 } else { self.start };
            let asked = self.ask(at)?;
            if let Some(Asked { from, to, set: 0, .. }) = asked {
                match backwards {
                    true => self.end = from.max(self.start),
                    false => self.start = to.min(self.end),
                }
                continue;
            }
            match backwards {
                true => self.end -= 1,
                false => self.start += 1,
            }
            let may_have = asked.is_none_or(|Asked { first, set, .. }| {
                let sequence = self.catalog.parts.get(at).map_or(0, |part| part.segment.sequence);
                sequence.checked_sub(first).is_none_or(|bit| set >> bit & 1 == 1)
            });
            if may_have {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The answer of the group of this part, if it is in one.
    fn ask(&mut self, at: usize) -> Result<Option<Asked>, ReadError> {
        if matches!(self.wanted, Wanted::Any) {
            return Ok(None);
        }
        if let Some(asked) = self.group.filter(|asked| (asked.from..asked.to).contains(&at)) {
            return Ok(Some(asked));
        }
        let groups = &self.catalog.groups;
        let after = groups.partition_point(|group| group.parts.start <= at);
        let group = after.checked_sub(1).and_then(|before| groups.get(before));
        let Some(group) = group.filter(|group| group.parts.contains(&at)) else {
            return Ok(None);
        };
        let parts = self.catalog.parts.get(group.parts.clone()).unwrap_or(&[]);
        let set = group.file.having(self.disk, parts, self.wanted)?;
        let (from, to) = (group.parts.start, group.parts.end);
        self.group = Some(Asked { from, to, first: group.file.first, set });
        Ok(self.group)
    }
}
