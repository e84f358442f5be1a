//! Conditions between the commits of one batch. The server knows none of its events while it checks
//! the conditions, so it is told which earlier commits a condition forbids. Whether these are
//! accepted, it decides.

use std::collections::{BTreeMap, HashMap};

use diptych_store::{Filter, FilterItem, RawEvent};

/// An event of an earlier commit that a condition forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// The index of the earlier commit in the batch.
    pub(crate) on: usize,
    /// The index of its last matching event.
    pub(crate) event: usize,
}

/// Type and tags of an event, as a filter sees them.
#[derive(Debug)]
pub(crate) struct EventNames {
    event_type: String,
    tags: Vec<String>,
}

impl EventNames {
    pub(crate) fn of(event: &RawEvent) -> EventNames {
        EventNames {
            event_type: event.event_type.clone().into_owned(),
            tags: event.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        }
    }
}

/// The events of a batch by their types and tags.
#[derive(Debug, Default)]
pub(crate) struct BatchIndex {
    events: Vec<IndexEntry>,
    by_type: HashMap<String, Vec<usize>>,
    by_tag: HashMap<String, Vec<usize>>,
}

#[derive(Debug)]
struct IndexEntry {
    commit: usize,
    event: usize,
    names: EventNames,
}

impl BatchIndex {
    /// Adds the events of the commit at this index.
    pub(crate) fn add(&mut self, commit: usize, events: Vec<EventNames>) {
        for (event, names) in events.into_iter().enumerate() {
            let at = self.events.len();
            self.by_type.entry(names.event_type.clone()).or_default().push(at);
            for tag in &names.tags {
                let positions = self.by_tag.entry(tag.clone()).or_default();
                if positions.last() != Some(&at) {
                    positions.push(at);
                }
            }
            self.events.push(IndexEntry { commit, event, names });
        }
    }

    /// The earlier commits with an event that matches, in order.
    pub(crate) fn overlaps(&self, filter: &Filter) -> Vec<Overlap> {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for item in filter.items() {
            for candidates in self.candidates(item) {
                for entry in candidates.iter().filter_map(|at| self.events.get(*at)) {
                    let EventNames { event_type, tags } = &entry.names;
                    if item.matches_parts(event_type, || tags.iter().map(String::as_str)) {
                        let event = last.entry(entry.commit).or_default();
                        *event = (*event).max(entry.event);
                    }
                }
            }
            if item.is_everything() {
                for entry in &self.events {
                    let event = last.entry(entry.commit).or_default();
                    *event = (*event).max(entry.event);
                }
            }
        }
        last.into_iter().map(|(on, event)| Overlap { on, event }).collect()
    }

    /// Lists that together have every match of an item that has types or tags.
    fn candidates(&self, item: &FilterItem) -> Vec<&[usize]> {
        let mut by_tag: Vec<&[usize]> = Vec::with_capacity(item.tags.len());
        for tag in &item.tags {
            match self.by_tag.get(tag.as_str()) {
                Some(positions) => by_tag.push(positions),
                // No event carries all the tags.
                None => return Vec::new(),
            }
        }
        if let Some(rarest) = by_tag.into_iter().min_by_key(|positions| positions.len()) {
            return vec![rarest];
        }
        let types = item.types.iter();
        types.filter_map(|name| self.by_type.get(name.as_ref()).map(Vec::as_slice)).collect()
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::Tag;

    use super::*;

    fn names(event_type: &str, tags: &[&str]) -> EventNames {
        let event = RawEvent::new(event_type.to_owned(), "");
        let tag = |text: &&str| Tag::parse(text).unwrap();
        EventNames::of(&tags.iter().map(tag).fold(event, RawEvent::tag))
    }

    #[test]
    fn an_overlap_names_the_last_match_of_each_earlier_commit() {
        let mut index = BatchIndex::default();
        index.add(0, vec![names("a", &["k:1"]), names("b", &["k:1", "l:1"]), names("c", &[])]);
        index.add(1, vec![]);
        index.add(2, vec![names("a", &["l:1"])]);
        let found = |filter: &str| {
            let overlaps = index.overlaps(&filter.parse().unwrap());
            overlaps.iter().map(|overlap| (overlap.on, overlap.event)).collect::<Vec<_>>()
        };
        assert_eq!(found("tag=k:1"), [(0, 1)]);
        assert_eq!(found("type=a tag=k:1"), [(0, 0)]);
        assert_eq!(found("type=a,c"), [(0, 2), (2, 0)]);
        assert_eq!(found("tag=k:1 tag=l:1 or type=c"), [(0, 2)]);
        assert_eq!(found("*"), [(0, 2), (2, 0)]);
        assert_eq!(found("tag=k:2 or type=d"), []);
        assert_eq!(found("nothing"), []);
    }
}
