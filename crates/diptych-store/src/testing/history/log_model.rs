//! The content of a log, as it was read at the end, and simple answers of questions about it.

use std::{collections::HashMap, ops::RangeInclusive};

use super::answer::CommitRecord;
use crate::{
    checksum::{ContentChecksum, EventChecksum},
    filter::{Filter, FilterItem},
    position::Position,
    time::Timestamp,
};

/// The log. Positions are those of its events, from 1 on.
#[derive(Debug)]
pub(super) struct LogModel<'h> {
    /// The commits with events, in order.
    pub(super) commits: Vec<&'h CommitRecord>,
    /// The commits without events, in order.
    pub(super) alone: Vec<&'h CommitRecord>,
    events: Vec<ModelEvent<'h>>,
    tags: HashMap<&'h str, Vec<u64>>,
    types: HashMap<&'h str, Vec<u64>>,
}

#[derive(Debug)]
struct ModelEvent<'h> {
    commit: usize,
    index: usize,
    record: &'h CommitRecord,
}

impl<'h> LogModel<'h> {
    /// The log of these commits, or what is wrong with their positions.
    pub(super) fn new(commits: &[&'h CommitRecord]) -> Result<LogModel<'h>, String> {
        let mut model = LogModel {
            commits: Vec::new(),
            alone: Vec::new(),
            events: Vec::new(),
            tags: HashMap::new(),
            types: HashMap::new(),
        };
        let mut commits = commits.to_vec();
        // The order of commits without events is kept.
        commits.sort_by_key(|commit| (commit.last, commit.first > commit.last));
        for record in commits {
            model.push(record)?;
        }
        Ok(model)
    }

    fn push(&mut self, record: &'h CommitRecord) -> Result<(), String> {
        let (head, count) = (self.head(), record.events.len() as u64);
        let CommitRecord { first, last, .. } = *record;
        if count == 0 {
            self.alone.push(record);
            return Ok(());
        }
        if first != head + 1 || last != head + count || record.checksums.len() as u64 != count {
            return Err(format!(
                "a commit of {count} events is at {first} to {last}, after a commit that ends at \
                 {head}"
            ));
        }
        for (index, event) in record.events.iter().enumerate() {
            let position = first + index as u64;
            for tag in &event.tags {
                let positions = self.tags.entry(tag).or_default();
                if positions.last() != Some(&position) {
                    positions.push(position);
                }
            }
            self.types.entry(&event.event_type).or_default().push(position);
            self.events.push(ModelEvent { commit: self.commits.len(), index, record });
        }
        self.commits.push(record);
        Ok(())
    }

    pub(super) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn event(&self, position: u64) -> Option<&ModelEvent<'h>> {
        self.events.get(usize::try_from(position.checked_sub(1)?).ok()?)
    }

    /// The index of the commit with the event at this position.
    pub(super) fn commit_at(&self, position: u64) -> Option<usize> {
        self.event(position).map(|event| event.commit)
    }

    /// The checksum of the event at this position, as it was read.
    pub(super) fn checksum(&self, position: u64) -> Option<u64> {
        self.event(position).and_then(|event| event.record.checksums.get(event.index).copied())
    }

    /// The checksum that the event at this position should have.
    pub(super) fn computed_checksum(&self, position: u64) -> Option<u64> {
        let event = self.event(position)?;
        let raw = event.record.events.get(event.index)?.to_raw();
        let recorded_at = Timestamp::from_micros(event.record.recorded_at);
        let checksum: EventChecksum =
            ContentChecksum::of(&raw).at(Position::new(position), recorded_at);
        Some(checksum.to_u64())
    }

    fn matches(&self, filter: &Filter, position: u64) -> bool {
        self.event(position).is_some_and(|event| {
            let record = &event.record.events[event.index];
            filter.matches_parts(&record.event_type, || record.tags.iter().map(String::as_str))
        })
    }

    /// The positions of the shortest list that has all matches of the item, within these
    /// positions. There is no list for an item without tags and types.
    fn candidates(&self, item: &FilterItem, within: &RangeInclusive<u64>) -> Option<Vec<u64>> {
        let cut = |positions: &[u64]| {
            let low = positions.partition_point(|position| position < within.start());
            let high = positions.partition_point(|position| position <= within.end());
            positions.get(low..high).unwrap_or(&[]).to_vec()
        };
        let of = |list: Option<&Vec<u64>>| list.map_or_else(Vec::new, |list| cut(list));
        let tags = item.tags.iter().map(|tag| of(self.tags.get(tag.as_str())));
        let types = item.types.iter().flat_map(|name| of(self.types.get(&**name)));
        let types = (!item.types.is_empty()).then(|| types.collect::<Vec<_>>());
        tags.chain(types).min_by_key(Vec::len)
    }

    /// The matching positions in this range, in order.
    pub(super) fn matching(&self, filter: &Filter, within: RangeInclusive<u64>) -> Vec<u64> {
        let within = (*within.start()).max(1)..=(*within.end()).min(self.head());
        let mut positions: Vec<u64> = Vec::new();
        for item in filter.items() {
            match self.candidates(item, &within) {
                Some(candidates) => positions.extend(candidates),
                None => {
                    positions = within.clone().collect();
                    break;
                }
            }
        }
        positions.retain(|position| self.matches(filter, *position));
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// The last matching position in this range.
    pub(super) fn last(&self, filter: &Filter, within: RangeInclusive<u64>) -> Option<u64> {
        let (low, mut high) = ((*within.start()).max(1), (*within.end()).min(self.head()));
        // Most matches are near the end, so the range is searched in growing parts.
        let mut part = 64;
        while high >= low {
            let from = low.max(high.saturating_sub(part));
            if let Some(last) = self.matching(filter, from..=high).last() {
                return Some(*last);
            }
            high = from - 1;
            part *= 4;
        }
        None
    }

    /// The number of events at or below this position with this tag.
    pub(super) fn count(&self, tag: &str, upto: u64) -> u64 {
        let positions = self.tags.get(tag).map_or(&[][..], Vec::as_slice);
        positions.partition_point(|position| *position <= upto) as u64
    }
}
