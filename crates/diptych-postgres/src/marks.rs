//! The events that a handle has seen. By them it finds another history of the log, and from which
//! position on that differs.

use diptych_store::{EventChecksum, Position};

/// An event that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The first position of its commit, as far as it is known. If the event is gone, so is the
    /// event there.
    pub(crate) first: Position,
    pub(crate) position: Position,
    pub(crate) checksum: EventChecksum,
    /// Acknowledged commits of this handle that end here, or that marks had which were left out
    /// before this one.
    pub(crate) own: u32,
}

impl Mark {
    /// An event of a read.
    pub(crate) fn read(position: Position, checksum: EventChecksum) -> Mark {
        Mark { first: position, position, checksum, own: 0 }
    }
}

/// The most marks. Beyond that, every second one of the older half is left out, so the marks are
/// dense near the end and sparse far from it. They take 160 kB.
const MOST: usize = 4_096;

/// Marks in the order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    all: Vec<Mark>,
}

impl Marks {
    /// The marks up to this position, which another history of the log has as well.
    pub(crate) fn up_to(mut marks: Vec<Mark>, position: Position) -> Marks {
        marks.retain(|mark| mark.position <= position);
        // They are no commits of the other history.
        marks.iter_mut().for_each(|mark| mark.own = 0);
        Marks { all: marks }
    }

    /// The last event that was seen.
    pub(crate) fn last(&self) -> Option<Mark> {
        self.all.last().copied()
    }

    pub(crate) fn all(&self) -> Vec<Mark> {
        self.all.clone()
    }

    /// Adds an event. A read can be faster than the answer to the commit, so it may belong before
    /// the last one.
    pub(crate) fn add(&mut self, mark: Mark) {
        let at = self.all.partition_point(|known| known.position < mark.position);
        match self.all.get_mut(at).filter(|known| known.position == mark.position) {
            Some(known) => {
                known.first = known.first.min(mark.first);
                known.own = known.own.saturating_add(mark.own);
            }
            None => self.all.insert(at, mark),
        }
        if self.all.len() > MOST {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let (mut at, mut own) = (0, 0_u32);
        self.all.retain_mut(|mark| {
            at += 1;
            if at <= MOST / 2 && at % 2 == 1 {
                own = mark.own;
                return false;
            }
            mark.own = mark.own.saturating_add(std::mem::take(&mut own));
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(position: u64, own: u32) -> Mark {
        let checksum = EventChecksum::from_u64(position);
        Mark { own, ..Mark::read(Position::new(position), checksum) }
    }

    #[test]
    fn marks_stay_bounded_and_count_every_commit() {
        let mut marks = Marks::default();
        for position in 1..=100_000 {
            marks.add(mark(position, 1));
        }
        let all = marks.all();
        assert!(all.len() <= MOST && all.len() > MOST / 2, "{}", all.len());
        assert_eq!(all.iter().map(|mark| u64::from(mark.own)).sum::<u64>(), 100_000);
        // Each has the commits since the one before.
        let mut before = 0;
        for mark in &all {
            assert_eq!(mark.position.get() - before, u64::from(mark.own));
            before = mark.position.get();
        }
        let recent: Vec<_> = all.iter().rev().take(MOST / 2).map(|mark| mark.own).collect();
        assert!(recent.iter().all(|own| *own == 1));
        assert_eq!(marks.last(), Some(mark(100_000, 1)));
    }

    #[test]
    fn a_commit_that_a_read_saw_before_is_one_mark() {
        let mut marks = Marks::default();
        marks.add(mark(2, 0));
        marks.add(mark(9, 0));
        marks.add(Mark { first: Position::new(3), ..mark(5, 1) });
        marks.add(Mark { first: Position::new(6), ..mark(9, 1) });
        let seen: Vec<_> = marks.all().iter().map(|mark| (mark.first.get(), mark.own)).collect();
        assert_eq!(seen, [(2, 0), (3, 1), (6, 1)]);
        let kept = Marks::up_to(marks.all(), Position::new(5));
        assert_eq!(kept.all(), [mark(2, 0), Mark { first: Position::new(3), ..mark(5, 0) }]);
    }
}
