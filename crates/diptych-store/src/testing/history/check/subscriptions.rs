//! Subscriptions: each matching event once, in order.

use super::readers::{Floor, Readers};
use crate::{
    filter::Filter,
    testing::history::{
        answer::{Answer, Sighting},
        file::Operation,
        violation::ViolationKind,
    },
};

/// The subscription of a client, and how far it is.
#[derive(Debug)]
pub(super) struct Cursor {
    filter: Filter,
    at: u64,
}

impl Cursor {
    pub(super) fn new(filter: Filter, after: u64) -> Cursor {
        Cursor { filter, at: after }
    }

    /// Checks a delivery. Returns the position that it shows.
    pub(super) fn delivery(
        &mut self,
        readers: &mut Readers<'_, '_>,
        operation: &Operation,
        floor: Floor,
        answer: &Answer,
    ) -> u64 {
        match answer {
            Answer::Events { events, upto } => self.batch(readers, operation, events, *upto),
            Answer::CaughtUp { upto } => {
                if *upto != self.at {
                    let text = format!("it has caught up with {upto}, and was at {}", self.at);
                    let kind = match *upto > self.at {
                        true => ViolationKind::SubscriptionSkips,
                        false => ViolationKind::SubscriptionRepeats,
                    };
                    readers.add(kind, operation, text);
                } else if let Some((kind, text)) = floor.broken_by(*upto) {
                    readers.add(kind, operation, text);
                }
                *upto
            }
            _ => 0,
        }
    }

    fn batch(
        &mut self,
        readers: &mut Readers<'_, '_>,
        operation: &Operation,
        events: &[Sighting],
        upto: u64,
    ) -> u64 {
        let after = self.at;
        self.at = self.at.max(upto);
        let mut last = after;
        for event in events {
            if event.0 <= last {
                let text = format!("it gave the event at {} after that at {last}", event.0);
                readers.add(ViolationKind::SubscriptionRepeats, operation, text);
                return 0;
            }
            last = event.0;
            if !readers.sighting(operation, event) {
                return 0;
            }
        }
        let end = readers.book.end(operation.call.round);
        let expected =
            readers.book.log.matching(&self.filter, after.saturating_add(1)..=upto.min(end));
        let given: Vec<u64> = events.iter().map(|event| event.0).collect();
        let missing: Vec<_> = expected.iter().filter(|at| !given.contains(at)).collect();
        let surplus: Vec<_> = given.iter().filter(|at| !expected.contains(at)).collect();
        if !missing.is_empty() {
            let text = format!("the batch after {after} up to {upto} has no {missing:?}");
            readers.add(ViolationKind::SubscriptionSkips, operation, text);
        } else if !surplus.is_empty() {
            let text = format!("the batch after {after} up to {upto} has {surplus:?} too much");
            readers.add(ViolationKind::WrongRead, operation, text);
        }
        upto
    }
}
