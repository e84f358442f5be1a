//! The pending timers of a process, derived from its events.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use diptych_store::{Digest, Position, Timestamp};
use foldhash::fast::RandomState;

/// The pending timers, by due time. A timer is known by a digest, so that many fit into memory:
/// their names stand in the reactions that set them.
#[derive(Default)]
pub(super) struct TimerWheel {
    by_due: BTreeMap<PendingTimer, Digest>,
    by_timer: HashMap<Digest, PendingTimer, RandomState>,
}

/// The due time of a timer, and its place: the position of the reaction that set it, and the number
/// of the action in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PendingTimer {
    pub(super) due: Timestamp,
    pub(super) set_at: Position,
    pub(super) action: u32,
}

impl TimerWheel {
    /// Sets a timer, or sets it anew.
    pub(super) fn set(&mut self, timer: Digest, pending: PendingTimer) {
        if let Some(former) = self.by_timer.insert(timer, pending) {
            self.by_due.remove(&former);
        }
        self.by_due.insert(pending, timer);
    }

    /// Removes a timer, if it is pending.
    pub(super) fn remove(&mut self, timer: Digest) {
        if let Some(former) = self.by_timer.remove(&timer) {
            self.by_due.remove(&former);
        }
    }

    /// Removes a timer, if this reaction set it.
    pub(super) fn remove_set_at(&mut self, timer: Digest, set_at: Position) {
        if self.by_timer.get(&timer).is_some_and(|pending| pending.set_at == set_at) {
            self.remove(timer);
        }
    }

    /// The first timers that are due at this instant, at most `most`.
    pub(super) fn due(&self, now: Timestamp, most: usize) -> Vec<(PendingTimer, Digest)> {
        let due = self.by_due.iter().take_while(|(pending, _)| pending.due <= now);
        due.take(most).map(|(pending, timer)| (*pending, *timer)).collect()
    }

    /// The due time of the first timer.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_due.first_key_value().map(|(pending, _)| pending.due)
    }

    /// The pending timers that were set first, and the position up to which the list has all. It
    /// has at most `most`, and no part of a reaction alone. The wheel is complete up to `upto`.
    pub(super) fn oldest(
        &self,
        most: usize,
        upto: Position,
    ) -> (Position, Vec<(PendingTimer, Digest)>) {
        // A heap of positions, because a list of all timers would need much memory.
        let mut first = BinaryHeap::with_capacity(most.saturating_add(2));
        for pending in self.by_due.keys() {
            if first.len() <= most {
                first.push(pending.set_at);
            } else if first.peek().is_some_and(|last| pending.set_at < *last) {
                first.pop();
                first.push(pending.set_at);
            }
        }
        let after = match first.peek() {
            Some(beyond) if first.len() > most => beyond.before(),
            _ => upto,
        };
        let oldest = self.by_due.iter().filter(|(pending, _)| pending.set_at <= after);
        (after, oldest.map(|(pending, timer)| (*pending, *timer)).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.by_due.len()
    }

    pub(super) fn clear(&mut self) {
        self.by_due.clear();
        self.by_timer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn timer(number: u8) -> Digest {
        Digest([number; 16])
    }

    fn pending(due: i64, set_at: u64) -> PendingTimer {
        PendingTimer { due: at(due), set_at: Position::new(set_at), action: 0 }
    }

    #[test]
    fn timers_are_due_in_order_and_not_early() {
        let mut wheel = TimerWheel::default();
        wheel.set(timer(1), pending(20, 1));
        wheel.set(timer(2), pending(10, 2));
        wheel.set(timer(3), pending(30, 3));
        assert!(wheel.due(at(9), 10).is_empty());
        let due: Vec<_> = wheel.due(at(20), 10).iter().map(|(_, timer)| timer.0[0]).collect();
        assert_eq!(due, [2, 1]);
        assert_eq!(wheel.due(at(99), 2).len(), 2);
        assert_eq!(wheel.next(), Some(at(10)));
    }

    #[test]
    fn a_timer_that_is_set_anew_has_only_its_new_due_time() {
        let mut wheel = TimerWheel::default();
        wheel.set(timer(1), pending(10, 1));
        wheel.set(timer(1), pending(40, 2));
        assert_eq!((wheel.len(), wheel.next()), (1, Some(at(40))));
        // The first one fired in another program just before it was set anew.
        wheel.remove_set_at(timer(1), Position::new(1));
        assert_eq!(wheel.len(), 1);
        wheel.remove(timer(1));
        assert_eq!((wheel.len(), wheel.next()), (0, None));
    }

    #[test]
    fn the_oldest_timers_are_whole_reactions() {
        let mut wheel = TimerWheel::default();
        let upto = Position::new(50);
        assert_eq!(wheel.oldest(2, upto), (upto, Vec::new()));
        for (number, set_at) in [(1, 7), (2, 3), (3, 5), (4, 5)] {
            wheel.set(timer(number), pending(i64::from(number), set_at));
        }
        let oldest = |most| {
            let (after, timers) = wheel.oldest(most, upto);
            (after.get(), timers.iter().map(|(_, timer)| timer.0[0]).collect::<Vec<_>>())
        };
        assert_eq!(oldest(4), (50, vec![1, 2, 3, 4]));
        assert_eq!(oldest(3), (6, vec![2, 3, 4]));
        assert_eq!(oldest(2), (4, vec![2]));
        assert_eq!(oldest(1), (4, vec![2]));
        assert_eq!(oldest(0), (2, vec![]));
    }
}
