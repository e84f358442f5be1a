//! A domain for queries about the past: money moves on accounts, and a view keeps one line for each
//! move in the order in which it was folded. The oracle computes the same answers without the
//! crate, from the events that were recorded and the events that had occurred.

use std::collections::BTreeMap;

use diptych::{
    App, Event, Filter, Fold, Position, Query, Recorded, Tag, Timestamp, store::RawEvent,
};
use diptych_store::{Append, EventStore};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Event, PartialEq, Serialize, Deserialize)]
#[event("money-moved")]
pub(crate) struct Moved {
    #[tag]
    pub(crate) account: u64,
    pub(crate) amount: u64,
}

/// An event that no query of this domain selects.
#[derive(Clone, Debug, Event, PartialEq, Serialize, Deserialize)]
#[event("bell-rung")]
pub(crate) struct Rung {}

/// All lines of each account, in the order in which they were folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Journal(pub(crate) BTreeMap<u64, Vec<String>>);

impl Fold for Journal {
    type Event = Moved;

    fn apply(&mut self, moved: &Recorded<Moved>) {
        let line = line(moved.position, moved.occurred_at(), moved.amount);
        self.0.entry(moved.account).or_default().push(line);
    }
}

fn line(position: Position, occurred_at: Timestamp, amount: u64) -> String {
    format!("{position} {} {amount}", occurred_at.as_micros())
}

/// Asks for the whole state.
pub(crate) struct Whole;

impl Query for Whole {
    type View = Journal;
    type Answer = Journal;

    fn answer(&self, journal: &Journal) -> Journal {
        journal.clone()
    }
}

/// Asks for the lines of one account.
#[derive(Clone, Copy)]
pub(crate) struct Lines(pub(crate) u64);

impl Query for Lines {
    type View = Journal;
    type Answer = Vec<String>;

    fn answer(&self, journal: &Journal) -> Vec<String> {
        journal.0.get(&self.0).cloned().unwrap_or_default()
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("account", self.0))
    }
}

/// An event in the log, as the oracle knows it. No query selects an event without an account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) account: Option<u64>,
    pub(crate) amount: u64,
    pub(crate) recorded_at: Timestamp,
    pub(crate) occurred_at: Option<Timestamp>,
}

impl Entry {
    pub(crate) fn raw(&self) -> RawEvent {
        let amount = self.amount;
        let mut raw = match self.account {
            Some(account) => Moved { account, amount }.encode().unwrap(),
            None => Rung {}.encode().unwrap(),
        };
        raw.metadata.occurred_at = self.occurred_at;
        raw
    }

    pub(crate) fn occurred_at(&self) -> Timestamp {
        self.occurred_at.unwrap_or(self.recorded_at)
    }
}

/// A point in the past, as plain values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct When {
    pub(crate) position: Option<u64>,
    pub(crate) recorded_before: Option<Timestamp>,
    pub(crate) occurred_before: Option<Timestamp>,
}

/// Returns the number of events that were known, and the journal of those among them that had
/// occurred.
pub(crate) fn oracle(log: &[Entry], when: When) -> (u64, Journal) {
    let is_known = |(at, entry): &(u64, &Entry)| {
        when.position.is_none_or(|position| *at <= position)
            && when.recorded_before.is_none_or(|before| entry.recorded_at < before)
    };
    let known: Vec<_> = (1..).zip(log).filter(is_known).collect();
    let upto = known.len() as u64;
    let mut so = known;
    if let Some(before) = when.occurred_before {
        so.retain(|(_, entry)| entry.occurred_at() < before);
        so.sort_by_key(|(at, entry)| (entry.occurred_at(), *at));
    }
    let mut journal = Journal::default();
    for (at, entry) in so {
        let line = line(Position::new(at), entry.occurred_at(), entry.amount);
        if let Some(account) = entry.account {
            journal.0.entry(account).or_default().push(line);
        }
    }
    (upto, journal)
}

/// Writes the entries in commits of up to 100 events, to a store that keeps its own time.
pub(crate) async fn write(app: &App, entries: &[Entry]) {
    for commit in entries.chunks(100) {
        let append = Append::events(commit.iter().map(Entry::raw));
        app.store().append(append).await.unwrap().synced().await.unwrap();
    }
}

/// Writes the entries to a store that takes the recording time from its caller. Consecutive
/// entries with the same recording time form one commit.
pub(crate) async fn write_as_recorded(store: &impl EventStore, entries: &[Entry]) {
    for commit in entries.chunk_by(|one, next| one.recorded_at == next.recorded_at) {
        let mut append = Append::events(commit.iter().map(Entry::raw));
        append.recorded_at = Some(commit[0].recorded_at);
        store.append(append).await.unwrap().synced().await.unwrap();
    }
}

pub(crate) fn micros(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A log of plain events in order of occurrence. One event in `every` has no account, so no query
/// selects it.
pub(crate) fn plain(events: u64, accounts: u64, every: u64) -> Vec<Entry> {
    let entry = |at| Entry {
        account: (at % every != 0).then_some(at % accounts),
        amount: at,
        recorded_at: micros(0),
        // An explicit time keeps the clock of the store out of the lines.
        occurred_at: Some(micros(1_000 + at as i64)),
    };
    (1..=events).map(entry).collect()
}
