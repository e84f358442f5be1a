//! The accepted commits that are not published.

use std::collections::VecDeque;

use diptych_store::{CommitNumber, CommitSync, Head, HeadPublisher, Position, Unavailable};

/// The accepted commits, in the order in which they were accepted. A caller waits for the sync of
/// its commit by a number of this line.
pub(crate) struct SyncLine {
    publisher: HeadPublisher,
    last: u64,
    /// The commits that are not published: the number of the call, and whether it is synced.
    waiting: VecDeque<(u64, bool)>,
}

impl SyncLine {
    pub(crate) fn new() -> SyncLine {
        let publisher = HeadPublisher::new(Position::START);
        SyncLine { publisher, last: 0, waiting: VecDeque::new() }
    }

    pub(crate) fn enter(&mut self, number: u64) -> CommitSync {
        self.last += 1;
        self.waiting.push_back((number, false));
        let head: Head = self.publisher.head();
        CommitSync::new(CommitNumber(self.last), head)
    }

    pub(crate) fn synced(&mut self, number: u64) {
        if let Some(place) = self.waiting.iter_mut().find(|place| place.0 == number) {
            place.1 = true;
        }
        while self.waiting.front().is_some_and(|place| place.1) {
            self.waiting.pop_front();
        }
        let published = self.last - self.waiting.len() as u64;
        self.publisher.publish(Position::START, CommitNumber(published));
    }

    /// Fails all waits for commits of the line. Later commits are in a new one.
    pub(crate) fn fail(&mut self, cause: Unavailable) {
        let failed = std::mem::replace(self, SyncLine::new());
        failed.publisher.end(cause);
    }
}
