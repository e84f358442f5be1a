//! Events as readers saw them, and the positions that a reader has to see.

use super::{Report, book::Book};
use crate::testing::history::{answer::Sighting, file::CallRecord, violation::ViolationKind};

/// The positions that a reader has to see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// An answer before the call showed it.
    pub(super) seen: u64,
    /// It was acknowledged before the call.
    pub(super) acknowledged: u64,
}

impl Floor {
    pub(super) fn highest(self) -> u64 {
        self.seen.max(self.acknowledged)
    }

    /// The promise that is broken by an answer that shows the log only up to `shown`.
    pub(super) fn broken_by(self, shown: u64) -> Option<(ViolationKind, String)> {
        if shown < self.seen {
            let text = format!("it shows the log up to {shown}, and was at {} before", self.seen);
            return Some((ViolationKind::HeadWentBack, text));
        }
        (shown < self.acknowledged).then(|| {
            let text = format!(
                "it shows the log up to {shown}, and {} was acknowledged before the call",
                self.acknowledged
            );
            (ViolationKind::UnreadableReceipt, text)
        })
    }
}

/// Compares the events that readers saw with the log.
pub(super) struct Sightings<'b, 'o> {
    pub(super) book: &'b Book<'o>,
    report: &'b mut Report,
}

impl<'b, 'o> Sightings<'b, 'o> {
    pub(super) fn new(book: &'b Book<'o>, report: &'b mut Report) -> Sightings<'b, 'o> {
        Sightings { book, report }
    }

    pub(super) fn add(&mut self, kind: ViolationKind, operation: &CallRecord, text: String) {
        self.report.add(kind, Some(operation.call), text);
    }

    /// Compares an event with the log. Returns whether it can be compared.
    pub(super) fn sighting(&mut self, operation: &CallRecord, event: &Sighting) -> bool {
        let book = self.book;
        let Sighting(position, checksum) = *event;
        if book.is_lost(operation.call.round, position) {
            return false;
        }
        let Some(known) = book.log.checksum(position) else {
            let text = format!("it shows an event at {position}, which the log does not have");
            self.add(ViolationKind::PhantomEvent, operation, text);
            return false;
        };
        let time = operation.completed.as_ref().map_or(u64::MAX, |(time, _)| *time);
        if known != checksum {
            let text = format!("the event at {position} differs from that in the log");
            self.add(ViolationKind::ChangedEvent, operation, text);
        } else if book.writer(position).is_some_and(|writer| writer.invoked > time) {
            let text = format!("it shows {} before the request", book.named(position));
            self.add(ViolationKind::PhantomEvent, operation, text);
        }
        true
    }
}
