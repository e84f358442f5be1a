//! The events and the views of all parts.

use std::{collections::VecDeque, path::Path};

use diptych::{
    App, Event, EventType, Fold, Log, LogOptions, Query, Recorded,
    event::{EncodedEvent, SchemaError},
    store::RawEvent,
};
use diptych_store::{Append, EventStore};
use pollster::block_on;
use serde::{Deserialize, Serialize};

pub(crate) const ACCOUNTS: usize = 10_000;
/// Events in one commit of a load.
const TOGETHER: u64 = 1_000;

/// An event as an application defines it, with a JSON payload.
#[derive(Event, Serialize, Deserialize)]
#[event("moved")]
pub(crate) struct Moved {
    #[tag]
    pub(crate) account: usize,
    pub(crate) cents: i64,
    pub(crate) note: String,
}

/// The event `Moved`, read without its payload, so that a fold of it costs only the framework's
/// time.
pub(crate) struct UnreadMovement {
    cents: i64,
}

impl Event for UnreadMovement {
    fn types() -> Vec<EventType> {
        Moved::types()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        unreachable!("it is only read")
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<UnreadMovement, SchemaError> {
        Ok(UnreadMovement { cents: encoded.payload.len() as i64 })
    }
}

/// A simple view: a number for each account.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Balances {
    cents: Vec<i64>,
}

impl Default for Balances {
    fn default() -> Balances {
        Balances { cents: vec![0; ACCOUNTS] }
    }
}

impl Fold for Balances {
    type Event = Moved;

    fn apply(&mut self, moved: &Recorded<Moved>) {
        self.cents[moved.account] += moved.cents;
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(size_of_val(self.cents.as_slice()))
    }
}

/// The simplest view: one sum.
#[derive(Clone, Default)]
pub(crate) struct Total(i64);

impl Fold for Total {
    type Event = UnreadMovement;

    fn apply(&mut self, seen: &Recorded<UnreadMovement>) {
        self.0 += seen.cents;
    }
}

pub(crate) struct BalanceOf(pub(crate) usize);

impl Query for BalanceOf {
    type View = Balances;
    type Answer = i64;

    fn answer(&self, balances: &Balances) -> i64 {
        balances.cents[self.0]
    }
}

pub(crate) fn moved(number: u64) -> Moved {
    let account = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % ACCOUNTS;
    let note = "something to read, as long as notes are, so that there are bytes".repeat(3);
    Moved { account, cents: number as i64 % 100, note }
}

/// Appends the events of these numbers, a thousand in a commit.
pub(crate) fn load(log: &Log, events: std::ops::Range<u64>) {
    let mut waiting = VecDeque::new();
    let mut first = events.start;
    while first < events.end {
        let last = (first + TOGETHER).min(events.end);
        let commit = (first..last).map(|number| moved(number).encode().unwrap()).collect();
        waiting.push_back(block_on(log.append(Append { events: commit, ..Append::default() })));
        if waiting.len() > 8 {
            block_on(waiting.pop_front().unwrap().unwrap().synced()).unwrap();
        }
        first = last;
    }
    for accepted in waiting {
        block_on(accepted.unwrap().synced()).unwrap();
    }
}

/// Creates a log with this number of events and closes it.
pub(crate) fn log_of(folder: &Path, events: u64) {
    let log = Log::open(folder, LogOptions::default()).unwrap();
    load(&log, 0..events);
    log.close().unwrap();
}

/// The note about an event that the tables share.
pub(crate) const ABOUT: &str =
    "an event is about 280 bytes, of which 240 are JSON: an account of 10,000, cents, a note";

pub(crate) fn app(folder: &Path) -> diptych::AppBuilder {
    App::open(folder).unwrap()
}
