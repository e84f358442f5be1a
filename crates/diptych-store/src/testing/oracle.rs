//! The model for generated operations: the simplest store, with vectors and linear scans.

use super::probe::SeenEvent;
use crate::{
    append::{Append, AppendCondition, Key, KeyedCommit, Tracking},
    batch::{Direction, Read},
    error::{InvalidRequest, Refusal},
    event::RawEvent,
    filter::Filter,
    position::Position,
    tag::Tag,
};

#[derive(Debug, Default)]
pub(super) struct Oracle {
    events: Vec<RawEvent>,
    keys: Vec<(Key, Position, Position)>,
    /// In the order of the commits, each with the head after it.
    tracking: Vec<(Tracking, Position)>,
}

/// The reason why an append gets no positions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denial {
    Invalid(InvalidRequest),
    Refused(Refusal),
}

impl Oracle {
    pub(super) fn head(&self) -> Position {
        Position::new(self.events.len() as u64)
    }

    pub(super) fn append(&mut self, append: &Append) -> Result<(Position, Position), Denial> {
        self.check(append)?;
        let first = self.head().plus(1);
        self.events.extend(append.events.iter().cloned());
        let last = self.head();
        if let Some(key) = &append.key {
            self.keys.push((key.clone(), first, last));
        }
        if let Some(tracking) = &append.tracking {
            self.tracking.push((tracking.clone(), last));
        }
        Ok((first, last))
    }

    fn check(&self, append: &Append) -> Result<(), Denial> {
        if append.key.is_some() && append.events.is_empty() {
            return Err(Denial::Invalid(InvalidRequest::KeyWithoutEvents));
        }
        let head = self.head();
        let above = append.conditions.iter().map(|condition| condition.after);
        if let Some(position) = above.filter(|after| *after > head).max() {
            return Err(Denial::Invalid(InvalidRequest::AboveHead { position, head }));
        }
        if let Some(tracking) = &append.tracking {
            self.check_tracking(tracking).map_err(Denial::Refused)?;
        }
        if let Some(key) = &append.key
            && let Some(&(ref used, first, last)) =
                self.keys.iter().find(|(used, ..)| used.name == key.name)
        {
            return Err(Denial::Refused(match used.digest == key.digest {
                true => Refusal::KeyTaken { first, last },
                false => Refusal::KeyReused { first, last },
            }));
        }
        self.check_conditions(&append.conditions).map_err(Denial::Refused)
    }

    fn check_conditions(&self, conditions: &[AppendCondition]) -> Result<(), Refusal> {
        let mut conflict: Option<(Position, Position)> = None;
        for &AppendCondition { ref fail_if, after } in conditions {
            let Some(at) = self.last(fail_if, self.head()).filter(|at| *at > after) else {
                continue;
            };
            let (highest, lowest) = conflict.unwrap_or((at, after));
            if at > highest || at == highest && after <= lowest {
                conflict = Some((at, after));
            }
        }
        conflict.map_or(Ok(()), |(at, after)| Err(Refusal::Conflict { at, after }))
    }

    fn check_tracking(&self, given: &Tracking) -> Result<(), Refusal> {
        let mut newest_first = self.tracking.iter().rev();
        let Some((stored, at)) = newest_first.find(|(stored, _)| stored.source == given.source)
        else {
            return Ok(());
        };
        let (source_name, tracked, at) = (given.source.to_string(), stored.position, *at);
        if stored.origin != given.origin {
            return Err(Refusal::OriginChanged {
                source_name,
                stored: stored.origin,
                given: given.origin,
                tracked,
                at,
            });
        }
        if given.position <= tracked {
            return Err(Refusal::AlreadyTracked { source_name, tracked, at });
        }
        Ok(())
    }

    /// The matching positions, low to high.
    fn matching<'a>(&'a self, filter: &'a Filter) -> impl DoubleEndedIterator<Item = u64> + 'a {
        let numbered = self.events.iter().enumerate();
        numbered.filter_map(move |(index, event)| {
            let tags = || event.tags.iter().map(Tag::as_str);
            let matches = filter.matches_parts(&event.event_type, tags);
            matches.then_some(index as u64 + 1)
        })
    }

    /// The positions of a complete read, in its order.
    pub(super) fn read(&self, filter: &Filter, read: &Read) -> Vec<u64> {
        let bounds = |number: &u64| read.after.get() < *number && *number <= read.upto.get();
        let within = self.matching(filter).filter(bounds);
        match read.direction {
            Direction::Forwards => within.collect(),
            Direction::Backwards => within.rev().collect(),
        }
    }

    /// Whether the log has these events at their positions.
    pub(super) fn holds(&self, seen: &[SeenEvent]) -> bool {
        seen.iter().all(|seen| {
            let index = usize::try_from(seen.position - 1);
            index.is_ok_and(|index| self.events.get(index) == Some(&seen.event))
        })
    }

    pub(super) fn last(&self, filter: &Filter, upto: Position) -> Option<Position> {
        let last = self.matching(filter).rfind(|number| *number <= upto.get());
        last.map(Position::new)
    }

    pub(super) fn count(&self, tag: &Tag, upto: Position) -> u64 {
        let filter = Filter::tag(tag.clone());
        self.matching(&filter).filter(|number| *number <= upto.get()).count() as u64
    }

    pub(super) fn keyed(&self, name: &str) -> Option<KeyedCommit> {
        let found = self.keys.iter().find(|(key, ..)| key.name == name);
        found.map(|&(ref key, first, last)| KeyedCommit { first, last, digest: key.digest })
    }

    pub(super) fn tracked(&self, source: &str) -> Option<Tracking> {
        let mut newest_first = self.tracking.iter().rev();
        let found = newest_first.find(|(tracking, _)| tracking.source == source);
        found.map(|(tracking, _)| tracking.clone())
    }
}
