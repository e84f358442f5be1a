//! Finds the events of one index that match a filter. The search jumps along the lists of the tags
//! instead of looking at each event.

use std::borrow::Cow;

use diptych_store::{Direction, Filter, KeyedCommit, Tag};

use super::{
    columns::Columns,
    index_file::IndexFile,
    postings::{Cursor, Postings},
};

/// An index in memory or in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Index<'a> {
    Memory(&'a Columns),
    File(&'a IndexFile),
}

impl<'a> Index<'a> {
    pub(crate) fn len(self) -> u32 {
        match self {
            Index::Memory(columns) => columns.len(),
            Index::File(run) => run.len(),
        }
    }

    /// Where the frame of this event starts in its segment.
    pub(crate) fn offset(self, at: u32) -> Option<u32> {
        match self {
            Index::Memory(columns) => columns.offsets.get(at as usize).copied(),
            Index::File(run) => run.offset(at),
        }
    }

    /// Where the frames of the events `low..=high` start in their segment, in order.
    pub(crate) fn offsets(self, low: u32, high: u32) -> Option<Vec<u32>> {
        match self {
            Index::Memory(columns) => {
                let end = (high as usize).saturating_add(1).min(columns.offsets.len());
                columns.offsets.get((low as usize).min(end)..end).map(<[u32]>::to_vec)
            }
            Index::File(run) => run.offsets(low, high),
        }
    }

    fn type_at(self, at: u32) -> Option<u32> {
        match self {
            Index::Memory(columns) => columns.types.get(at as usize).copied(),
            Index::File(run) => run.type_at(at),
        }
    }

    fn type_id(self, name: &str) -> Option<u32> {
        match self {
            Index::Memory(columns) => columns.type_id(name),
            Index::File(run) => run.type_id(name),
        }
    }

    pub(crate) fn postings(self, tag: &str) -> Postings<'a> {
        match self {
            Index::Memory(columns) => {
                columns.tags.get(tag).map_or(Postings::EMPTY, |list| Postings::Plain(list))
            }
            Index::File(run) => run.postings(tag).unwrap_or(Postings::EMPTY),
        }
    }

    pub(crate) fn key(self, name: &str) -> Option<KeyedCommit> {
        match self {
            Index::Memory(columns) => columns.keys.get(name).copied(),
            Index::File(run) => run.key(name),
        }
    }

    /// The first `limit` matching events in `low..=high`, in the order of `direction`.
    pub(crate) fn find(
        self,
        filter: &Filter,
        (low, high): (u32, u32),
        direction: Direction,
        limit: usize,
    ) -> Vec<u32> {
        let mut found = Vec::new();
        let Some(high) = self.len().checked_sub(1).map(|last| last.min(high)) else {
            return found;
        };
        let walk = Walk { index: self, direction, low, high };
        let (types_only, others): (Vec<_>, Vec<_>) =
            filter.items().iter().partition(|item| item.tags.is_empty() && !item.types.is_empty());
        // One walk over the types of the events serves all these items.
        let types = Matches::new(walk, types_only.iter().flat_map(|item| &item.types), &[]);
        let others = others.iter().map(|item| Matches::new(walk, &item.types, &item.tags));
        let mut items: Vec<_> = others.flatten().collect();
        items.extend(types.filter(|_| !types_only.is_empty()));
        while found.len() < limit {
            let heads = items.iter().filter_map(|item| item.head);
            let next = match direction {
                Direction::Forwards => heads.min(),
                Direction::Backwards => heads.max(),
            };
            let Some(next) = next else { break };
            found.push(next);
            // All items that match this event advance together, so that it is found once.
            for item in items.iter_mut().filter(|item| item.head == Some(next)) {
                item.advance(walk);
            }
        }
        found
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    index: Index<'a>,
    direction: Direction,
    low: u32,
    high: u32,
}

impl Walk<'_> {
    fn start(self) -> u32 {
        match self.direction {
            Direction::Forwards => self.low,
            Direction::Backwards => self.high,
        }
    }

    fn beyond(self, at: u32) -> Option<u32> {
        let next = match self.direction {
            Direction::Forwards => at.checked_add(1),
            Direction::Backwards => at.checked_sub(1),
        };
        next.filter(|next| (self.low..=self.high).contains(next))
    }

    fn jump(self, cursor: &mut Cursor<'_>, to: u32) -> Option<u32> {
        let at = match self.direction {
            Direction::Forwards => cursor.at_or_after(to),
            Direction::Backwards => cursor.at_or_before(to),
        };
        at.filter(|at| (self.low..=self.high).contains(at))
    }
}

/// The matches of one item, one after another.
struct Matches<'a> {
    /// The numbers of its types in this index, ascending; `None` if every type matches.
    types: Option<Vec<u32>>,
    /// A cursor for each of its tags, the rarest tag first.
    tags: Vec<Cursor<'a>>,
    head: Option<u32>,
}

impl<'a> Matches<'a> {
    /// The events with one of these types and all of these tags. Without types, every type matches.
    /// `None` if the index has none of the types.
    fn new<'t>(
        walk: Walk<'a>,
        types: impl IntoIterator<Item = &'t Cow<'static, str>>,
        tags: &[Tag],
    ) -> Option<Matches<'a>> {
        let mut types = types.into_iter().peekable();
        let any_type = types.peek().is_none();
        let mut ids: Vec<_> = types.filter_map(|name| walk.index.type_id(name)).collect();
        if ids.is_empty() && !any_type {
            return None;
        }
        ids.sort_unstable();
        let types = (!any_type).then_some(ids);
        let tags = tags.iter().map(|tag| walk.index.postings(tag.as_str()));
        let mut tags: Vec<_> = tags.collect();
        tags.sort_by_key(Postings::len);
        let tags = tags.into_iter().map(Cursor::new).collect();
        let mut matches = Matches { types, tags, head: None };
        if walk.low <= walk.high {
            matches.head = matches.seek(walk, walk.start());
        }
        Some(matches)
    }

    fn advance(&mut self, walk: Walk<'a>) {
        self.head = self.head.and_then(|at| walk.beyond(at)).and_then(|at| self.seek(walk, at));
    }

    /// The first match from `at` on.
    fn seek(&mut self, walk: Walk<'a>, mut at: u32) -> Option<u32> {
        loop {
            at = self.seek_tags(walk, at)?;
            let fits = match &self.types {
                None => true,
                Some(types) => walk
                    .index
                    .type_at(at)
                    .is_some_and(|number| types.binary_search(&number).is_ok()),
            };
            if fits {
                return Some(at);
            }
            at = walk.beyond(at)?;
        }
    }

    /// The first event from `at` on that has all tags. Cursors that are behind jump until all
    /// cursors are at one event.
    fn seek_tags(&mut self, walk: Walk<'a>, mut at: u32) -> Option<u32> {
        'all: loop {
            for cursor in &mut self.tags {
                let there = walk.jump(cursor, at)?;
                if there != at {
                    at = there;
                    continue 'all;
                }
            }
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use diptych_store::{FilterItem, Position};
    use proptest::prelude::*;

    use super::*;
    use crate::index::{
        Seed,
        index_file::{Coverage, encode},
    };

    type Event = (u8, Vec<u8>);

    fn filter() -> impl Strategy<Value = Filter> {
        let item =
            (proptest::collection::vec(0u8..5, 0..3), proptest::collection::vec(0u8..6, 0..3));
        let item = item.prop_map(|(types, tags)| FilterItem {
            types: types.iter().map(|number| format!("t{number}").into()).collect(),
            tags: tags.iter().map(|number| Tag::new("k", number)).collect(),
        });
        proptest::collection::vec(item, 0..4).prop_map(Filter::from_iter)
    }

    proptest! {
        #[test]
        fn jumps_and_a_scan_find_the_same_events(
            events in proptest::collection::vec(
                (0u8..4, proptest::collection::vec(0u8..5, 0..4)), 0..400),
            filter in filter(),
            (low, high) in (0u32..410, 0u32..410),
            limit in 1usize..500,
        ) {
            let tags = |event: &Event| -> Vec<String> {
                event.1.iter().map(|number| format!("k:{number}")).collect()
            };
            let mut columns = Columns::new(Position::new(1));
            for (at, event) in events.iter().enumerate() {
                let tags = tags(event);
                let tags = tags.iter().map(String::as_str);
                columns.push(at as u32, &format!("t{}", event.0), tags);
            }
            let file = Bytes::from(encode(&columns, &Coverage::default(), Seed::random()));
            let (run, _) = IndexFile::parse(file).unwrap();
            let matches = |(at, event): (usize, &Event)| {
                let tags = tags(event);
                let fits = filter.matches_parts(&format!("t{}", event.0),
                    || tags.iter().map(String::as_str));
                let at = at as u32;
                (fits && (low..=high).contains(&at)).then_some(at)
            };
            let scan: Vec<u32> = events.iter().enumerate().filter_map(matches).collect();
            for index in [Index::Memory(&columns), Index::File(&run)] {
                let forwards = index.find(&filter, (low, high), Direction::Forwards, limit);
                let expected: Vec<u32> = scan.iter().copied().take(limit).collect();
                prop_assert_eq!(forwards, expected);
                let backwards = index.find(&filter, (low, high), Direction::Backwards, limit);
                let expected: Vec<u32> = scan.iter().rev().copied().take(limit).collect();
                prop_assert_eq!(backwards, expected);
            }
        }
    }
}
