//! Subscriptions: each matching event once, in order.

use super::sightings::{Floor, Sightings};
use crate::{
    filter::Filter,
    testing::history::{
        answer::{Answer, Sighting},
        file::CallRecord,
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
        sightings: &mut Sightings<'_, '_>,
        operation: &CallRecord,
        floor: Floor,
        answer: &Answer,
    ) -> u64 {
        match answer {
            Answer::Events { events, upto } => self.batch(sightings, operation, events, *upto),
            Answer::CaughtUp { upto } => {
                if *upto != self.at {
                    let text = format!("it has caught up with {upto}, and was at {}", self.at);
                    let kind = match *upto > self.at {
                        true => ViolationKind::SubscriptionSkips,
                        false => ViolationKind::SubscriptionRepeats,
                    };
                    sightings.add(kind, operation, text);
                } else if let Some((kind, text)) = floor.broken_by(*upto) {
                    sightings.add(kind, operation, text);
                }
                *upto
            }
            _ => 0,
        }
    }

    fn batch(
        &mut self,
        sightings: &mut Sightings<'_, '_>,
        operation: &CallRecord,
        events: &[Sighting],
        upto: u64,
    ) -> u64 {
        let after = self.at;
        self.at = self.at.max(upto);
        let mut last = after;
        for event in events {
            if event.0 <= last {
                let text = format!("it gave the event at {} after that at {last}", event.0);
                sightings.add(ViolationKind::SubscriptionRepeats, operation, text);
                return 0;
            }
            last = event.0;
            if !sightings.sighting(operation, event) {
                return 0;
            }
        }
        let end = sightings.book.end(operation.call.round);
        let expected =
            sightings.book.log.matching(&self.filter, after.saturating_add(1)..=upto.min(end));
        let given: Vec<u64> = events.iter().map(|event| event.0).collect();
        let missing: Vec<_> = expected.iter().filter(|at| !given.contains(at)).collect();
        let surplus: Vec<_> = given.iter().filter(|at| !expected.contains(at)).collect();
        if !missing.is_empty() {
            let text = format!("the batch after {after} up to {upto} has no {missing:?}");
            sightings.add(ViolationKind::SubscriptionSkips, operation, text);
        } else if !surplus.is_empty() {
            let text = format!("the batch after {after} up to {upto} has {surplus:?} too much");
            sightings.add(ViolationKind::WrongRead, operation, text);
        }
        upto
    }
}
