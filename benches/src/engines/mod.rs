//! The event logs that are measured, behind one trait.

use std::{future::Future, path::Path, pin::Pin, time::Duration};

use crate::workload::{Entry, Numbers};

pub mod diptych;
pub mod sqlite;
pub mod tephra;
pub mod umadb;

/// An append in flight.
pub type Pending<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Waits for new events and returns how many came.
pub type Subscriber = Box<dyn FnMut() -> u64 + Send>;

/// An event log. Appended events are durable when the call returns.
///
/// Methods that return a duration prepare their events before they start the clock.
pub trait Engine: Send + Sync {
    fn append(&self, entry: &Entry);

    fn append_async(&self, entry: Entry) -> Pending<'_>;

    /// Appends one batch after another, each as one commit.
    fn append_batches(&self, batches: &[Vec<Entry>]) -> Duration;

    /// Appends each event as a commit of its own, with `in_flight` appends in flight.
    fn pipelined(&self, entries: &[Entry], in_flight: usize) -> Duration;

    /// Reads all events of an account and returns their number.
    fn read_account(&self, account: u64) -> u64;

    /// Reads the whole log in order and returns the number of events.
    fn replay(&self) -> u64;

    /// Reads an account, and appends to it on the condition that the account has no new event.
    /// Returns false if the log refuses the append.
    fn decide(&self, entry: &Entry) -> bool;

    /// Subscribes to all events after the head.
    fn subscribe(&self) -> Option<Subscriber>;

    /// Waits until the log has finished its work in the background.
    fn settle(&self) {}

    fn close(self: Box<Self>);
}

/// A kind of log.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub open: fn(&Path) -> Box<dyn Engine>,
}

pub const DIPTYCH: &str = "diptych-log";
pub const TEPHRA: &str = "tephra 0.4";
pub const UMADB: &str = "UmaDB 0.7 core";
pub const SQLITE: &str = "SQLite, WAL, FULL";

/// One kind for each engine.
pub const KINDS: [Kind; 4] = [
    Kind { name: DIPTYCH, open: |folder| Box::new(diptych::Diptych::open(folder)) },
    Kind { name: TEPHRA, open: |folder| Box::new(tephra::Tephra::open(folder)) },
    Kind { name: UMADB, open: |folder| Box::new(umadb::UmaDb::open(folder)) },
    Kind { name: SQLITE, open: |folder| Box::new(sqlite::Sqlite::open(folder)) },
];

/// diptych-log without clustering, the background work that speeds up reads of one account.
pub const UNCLUSTERED: Kind = Kind {
    name: "diptych-log, not clustered",
    open: |folder| Box::new(diptych::Diptych::unclustered(folder)),
};

/// The kinds for the parts that read.
pub const READ_KINDS: [Kind; 5] = [KINDS[0], UNCLUSTERED, KINDS[1], KINDS[2], KINDS[3]];

/// Notes that a reader needs to interpret the rows of the engines.
pub const ABOUT: &[&str] = &[
    "events have a payload of 256 bytes, one of 8 types, an account and a tenant as tags",
    "tephra: segments of 256 MiB; with its feature `async`",
    "UmaDB: as its server opens it, with file I/O; one writer, up to 2,000 events in a commit",
    "SQLite: one writer thread, whatever waits goes into one transaction; a table of tags",
];

/// The kind with this name.
pub fn kind(name: &str) -> Option<Kind> {
    READ_KINDS.into_iter().find(|kind| kind.name == name)
}

/// Events in one append of a load.
pub const COMMIT: u64 = 1_000;

/// Random events in batches. Equal generators produce equal batches, so that every engine gets
/// identical events.
pub fn batches(numbers: &mut Numbers, events: u64, accounts: u64, commit: u64) -> Vec<Vec<Entry>> {
    let batch = |first: u64| {
        let count = commit.min(events - first);
        (0..count).map(|_| Entry::one_of(numbers, accounts)).collect()
    };
    (0..events).step_by(commit as usize).map(batch).collect()
}

/// Appends `events` random events of `accounts` accounts. Equal seeds produce equal events.
pub fn load(engine: &dyn Engine, seed: u64, events: u64, accounts: u64, commit: u64) {
    const TOGETHER: u64 = 100_000;
    let mut numbers = Numbers::new(seed);
    for first in (0..events).step_by(TOGETHER as usize) {
        crate::table::progress(&format!("loading: {first} of {events} events"));
        let events = TOGETHER.min(events - first);
        engine.append_batches(&batches(&mut numbers, events, accounts, commit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_all_events() {
        let sizes = |events| -> Vec<usize> {
            batches(&mut Numbers::new(1), events, 10, 100).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(250), [100, 100, 50]);
        assert_eq!(sizes(200), [100, 100]);
        assert_eq!(sizes(0), [0; 0]);
    }
}
