//! A ledger of bookings, and a view that calls a hook of the test. While the view folds an event,
//! the hook can inspect the app, block the fold, or panic.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::{Event, Fold, Memory, Position, Query, Recorded, Store, Timestamp, store::Limits};
use diptych_store::Append;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("booked")]
pub(crate) struct Booked {
    #[tag]
    pub(crate) ledger: u64,
    pub(crate) amount: i64,
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("remarked")]
pub(crate) struct Remarked {
    #[tag]
    pub(crate) ledger: u64,
}

/// Two totals are equal only if the same amounts were booked in the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Totals {
    pub(crate) sum: i64,
    pub(crate) bookings: u64,
    pub(crate) chain: u64,
}

impl Totals {
    pub(crate) fn book(&mut self, amount: i64) {
        self.sum += amount;
        self.bookings += 1;
        self.chain = self.chain.wrapping_mul(31).wrapping_add(amount.cast_unsigned());
    }

    /// The totals after each of these amounts. The first entry is before all of them.
    pub(crate) fn after_each(amounts: impl IntoIterator<Item = i64>) -> Vec<Totals> {
        let mut now = Totals::default();
        let mut totals = vec![now];
        for amount in amounts {
            now.book(amount);
            totals.push(now);
        }
        totals
    }
}

/// The operation that the view runs when it calls the hook.
pub(crate) enum Moment<'a> {
    Apply(&'a Recorded<Booked>),
    Clone,
    Drop,
}

type Hook = Arc<dyn Fn(Moment<'_>) + Send + Sync>;

static HOOKS: Mutex<Option<HashMap<u64, Hook>>> = Mutex::new(None);
static LEDGERS: AtomicU64 = AtomicU64::new(1);

/// A ledger with a number of its own. The view calls its hook for as long as this value lives.
pub(crate) struct HookedLedger(pub(crate) u64);

impl HookedLedger {
    pub(crate) fn new() -> HookedLedger {
        HookedLedger(LEDGERS.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn set(&self, hook: impl Fn(Moment<'_>) + Send + Sync + 'static) {
        HOOKS.lock().get_or_insert_default().insert(self.0, Arc::new(hook));
    }

    pub(crate) fn clear(&self) {
        let hook = HOOKS.lock().get_or_insert_default().remove(&self.0);
        // The hook may own an app, which must not be dropped under the lock.
        drop(hook);
    }

    pub(crate) fn booked(&self, amount: i64) -> Booked {
        Booked { ledger: self.0, amount }
    }

    /// A commit that books these amounts.
    pub(crate) fn commit(&self, amounts: &[i64]) -> Append {
        Append::events(amounts.iter().map(|amount| self.booked(*amount).encode().unwrap()))
    }

    pub(crate) fn remark(&self) -> diptych::store::RawEvent {
        Remarked { ledger: self.0 }.encode().unwrap()
    }
}

impl Drop for HookedLedger {
    fn drop(&mut self) {
        self.clear();
    }
}

fn call(ledger: u64, moment: Moment<'_>) {
    let hook = HOOKS.lock().as_ref().and_then(|hooks| hooks.get(&ledger).cloned());
    if let Some(hook) = hook {
        hook(moment);
    }
}

/// The view that calls the hooks.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ledger {
    ledger: u64,
    pub(crate) totals: Totals,
}

impl Fold for Ledger {
    type Event = Booked;

    fn apply(&mut self, booked: &Recorded<Booked>) {
        self.ledger = booked.ledger;
        // A panic of the hook leaves the state half changed.
        self.totals.sum += booked.amount;
        call(booked.ledger, Moment::Apply(booked));
        self.totals.sum -= booked.amount;
        self.totals.book(booked.amount);
    }
}

impl Clone for Ledger {
    fn clone(&self) -> Ledger {
        call(self.ledger, Moment::Clone);
        Ledger { ledger: self.ledger, totals: self.totals }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        call(self.ledger, Moment::Drop);
    }
}

/// A second view of the bookings, without hooks.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Mirror(pub(crate) Totals);

impl Fold for Mirror {
    type Event = Booked;

    fn apply(&mut self, booked: &Recorded<Booked>) {
        self.0.book(booked.amount);
    }
}

/// A view over events of another type.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Remarks(pub(crate) u64);

impl Fold for Remarks {
    type Event = Remarked;

    fn apply(&mut self, _: &Recorded<Remarked>) {
        self.0 += 1;
    }
}

/// Asks for the totals of the ledger.
#[derive(Clone, Copy)]
pub(crate) struct Look;

impl Query for Look {
    type View = Ledger;
    type Answer = Totals;

    fn answer(&self, ledger: &Ledger) -> Totals {
        ledger.totals
    }
}

/// Asks for the totals of the mirror.
#[derive(Clone, Copy)]
pub(crate) struct LookInMirror;

impl Query for LookInMirror {
    type View = Mirror;
    type Answer = Totals;

    fn answer(&self, mirror: &Mirror) -> Totals {
        mirror.0
    }
}

/// Asks for the number of remarks.
#[derive(Clone, Copy)]
pub(crate) struct CountRemarks;

impl Query for CountRemarks {
    type View = Remarks;
    type Answer = u64;

    fn answer(&self, remarks: &Remarks) -> u64 {
        remarks.0
    }
}

/// A store in memory with limits on the events in a batch and the events in a commit.
pub(crate) fn small(batch_events: usize, commit_events: usize) -> Memory {
    let mut limits = Limits::default();
    (limits.batch_events, limits.commit_events) = (batch_events, commit_events);
    Memory::new().limits(limits)
}

/// Writes the commit and returns its last position.
pub(crate) fn write(store: &Store, append: Append) -> Position {
    pollster::block_on(async { store.append(append).await.unwrap().synced().await.unwrap().last })
}

/// Writes the commit at this moment, to a store that takes the time from its caller.
pub(crate) fn write_at(store: &Store, mut append: Append, micros: i64) -> Position {
    append.recorded_at = Some(Timestamp::from_micros(micros));
    write(store, append)
}

/// Waits until the condition holds. Another thread makes it true.
#[track_caller]
pub(crate) fn comes(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "timed out waiting for: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}
