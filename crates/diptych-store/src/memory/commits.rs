//! Where the commits of the memory store end, and what each has besides its events.

use crate::{
    append::{Key, Tracking},
    commits::CommitFacts,
    error::InvalidRequest,
    position::Position,
    time::Timestamp,
};

/// The commits in order. Between two commits with events, it has only the newest commit without
/// events of each source.
#[derive(Debug, Default)]
pub(super) struct CommitList {
    commits: Vec<StoredCommit>,
    /// Number of all commits.
    count: u64,
}

#[derive(Debug)]
pub(super) struct StoredCommit {
    pub(super) last: Position,
    recorded_at: Timestamp,
    /// Most commits have neither, so both are kept apart.
    section: Option<Box<CommitSection>>,
}

#[derive(Debug)]
struct CommitSection {
    key: Option<Key>,
    tracking: Option<Tracking>,
}

impl CommitList {
    /// Number of all commits, also of those that are no longer in the list.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds the commit of the events from `first` to `last`, if there are any.
    pub(super) fn push(&mut self, (first, last): (Position, Position), facts: CommitFacts) {
        let CommitFacts { recorded_at, key, tracking } = facts;
        self.count += 1;
        if first > last
            && let Some(tracking) = &tracking
        {
            let without_events = self.index_after(last);
            let mut newer = self.commits.iter().skip(without_events);
            let older = newer.position(|commit| commit.is_of_source(&tracking.source));
            if let Some(older) = older {
                self.commits.remove(without_events + older);
            }
        }
        let is_plain = key.is_none() && tracking.is_none();
        let section = (!is_plain).then(|| Box::new(CommitSection { key, tracking }));
        self.commits.push(StoredCommit { last, recorded_at, section });
    }

    /// The last position of the commit that the event at this position belongs to.
    pub(super) fn end_of(&self, position: Position) -> Position {
        let index = self.commits.partition_point(|commit| commit.last < position);
        self.commits.get(index).map_or(position, |commit| commit.last)
    }

    /// The commits after this position, at which a commit has to end.
    pub(super) fn after(
        &self,
        position: Position,
    ) -> Result<impl Iterator<Item = &StoredCommit>, InvalidRequest> {
        let last = self.end_of(position);
        if position > Position::START && last != position {
            let index = self.commits.partition_point(|commit| commit.last < position);
            let before = index.checked_sub(1).and_then(|index| self.commits.get(index));
            let first = before.map_or(Position::START, |commit| commit.last).plus(1);
            return Err(InvalidRequest::WithinCommit { position, first, last });
        }
        Ok(self.commits.iter().skip(self.index_after(position)))
    }

    /// The index of the first commit after the commit with events that ends at this position.
    fn index_after(&self, position: Position) -> usize {
        let first = self.commits.partition_point(|commit| commit.last < position);
        // At this position ends one commit with events; those after it have none.
        first + usize::from(position > Position::START)
    }
}

impl StoredCommit {
    pub(super) fn facts(&self) -> CommitFacts {
        let section = self.section.as_deref();
        CommitFacts {
            recorded_at: self.recorded_at,
            key: section.and_then(|section| section.key.clone()),
            tracking: section.and_then(|section| section.tracking.clone()),
        }
    }

    fn is_of_source(&self, source: &str) -> bool {
        let tracking = self.section.as_deref().and_then(|section| section.tracking.as_ref());
        tracking.is_some_and(|tracking| tracking.source == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(source: &str, position: u64) -> CommitFacts {
        let tracking = Some(Tracking::new(source, position));
        CommitFacts { recorded_at: Timestamp::from_micros(1), key: None, tracking }
    }

    /// An intake that finds nothing for it stores such a commit again and again.
    #[test]
    fn commits_without_events_do_not_pile_up() {
        let mut commits = CommitList::default();
        let nothing = (Position::new(1), Position::START);
        for position in 1..=1_000 {
            commits.push(nothing, facts("orders", position));
            commits.push(nothing, facts("payments", position));
        }
        assert_eq!(commits.count(), 2_000);
        let kept: Vec<_> = commits.after(Position::START).unwrap().map(|at| at.facts()).collect();
        assert_eq!(kept, [facts("orders", 1_000), facts("payments", 1_000)]);
    }
}
