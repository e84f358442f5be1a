//! The events of all parts that write to a disk. Every contender gets identical events.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych_store::{RawEvent, Tag};
use serde::Deserialize;
use tokio::runtime::Runtime;

pub const ACCOUNTS: u64 = 10_000;
const TENANTS: u64 = 100;
pub const TYPES: [&str; 8] =
    ["type-0", "type-1", "type-2", "type-3", "type-4", "type-5", "type-6", "type-7"];
pub const PAYLOAD_BYTES: usize = 256;

/// A small seeded generator of random numbers, so that every run draws an identical sequence.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        // Neighbouring seeds must not produce one sequence shifted by a step.
        Numbers(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// A generator for one caller in one round. All contenders draw identical numbers from it.
    pub fn of_caller(round: u64, caller: u64) -> Numbers {
        Numbers::new((round + 1) * 1000 + caller)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }
}

/// An event of the workload, with one of 8 types, two tags and a payload of 256 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub event_type: &'static str,
    pub account: u64,
    pub tenant: u64,
    pub amount: u64,
}

impl Entry {
    pub fn random(numbers: &mut Numbers) -> Entry {
        Entry::one_of(numbers, ACCOUNTS)
    }

    /// A random event of one of the accounts below `accounts`.
    pub fn one_of(numbers: &mut Numbers, accounts: u64) -> Entry {
        let number = numbers.draw();
        Entry {
            event_type: TYPES[(number % 8) as usize],
            account: (number >> 8) % accounts,
            tenant: (number >> 40) % TENANTS,
            amount: (number >> 50) % 1000,
        }
    }

    /// A payload of the workload's size that costs almost nothing to make, so that the clock
    /// measures the engine and not the encoding. It begins with the amount.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.amount as u8; PAYLOAD_BYTES];
        bytes[..8].copy_from_slice(&self.amount.to_le_bytes());
        bytes
    }

    /// The amount in such a payload.
    pub fn amount_in(bytes: &[u8]) -> u64 {
        bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    /// A JSON payload, padded to [`PAYLOAD_BYTES`].
    pub fn payload(&self) -> String {
        let Entry { account, amount, .. } = self;
        format!(r#"{{"account":"{account}","amount":{amount},"note":"{}"}}"#, self.note())
    }

    /// The padding of the payload.
    pub fn note(&self) -> String {
        const NAMES: usize = r#"{"account":"","amount":,"note":""}"#.len();
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        "x".repeat(PAYLOAD_BYTES - NAMES - digits(self.account) - digits(self.amount))
    }

    pub fn to_raw(&self) -> RawEvent {
        RawEvent::new(self.event_type, self.payload())
            .tag(Tag::new("account", self.account))
            .tag(Tag::new("tenant", self.tenant))
    }
}

/// The state of a decision, into which it folds the events of its account.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub events: u64,
    pub amount: u64,
}

/// The payload as a framework hands it to a fold: owned, with every field.
#[derive(Deserialize)]
struct Payload {
    account: String,
    amount: u64,
    note: String,
}

/// How much of each event a contender processes when it reads an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Only the length of the payload, so that the rate shows the store without a model above it.
    Bytes,
    /// The whole payload, decoded from JSON into an owned value.
    Json,
}

impl Fold {
    pub fn event(self, balance: &mut Balance, payload: &[u8]) {
        balance.events += 1;
        balance.amount += match self {
            Fold::Bytes => payload.len() as u64,
            Fold::Json => {
                let payload: Payload = serde_json::from_slice(payload).unwrap();
                assert!(!payload.account.is_empty() && !payload.note.is_empty());
                payload.amount
            }
        };
    }
}

/// Counts the operations of a turn, and tells its workers when the turn is over.
#[derive(Default)]
pub struct Watch {
    done: AtomicU64,
    over: AtomicBool,
}

impl Watch {
    pub fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    pub fn did(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Waits until the turn is over. Each worker still completes its current operation, which
    /// counts.
    fn pass(&self, turn: Duration) {
        thread::sleep(turn);
        self.over.store(true, Ordering::Relaxed);
    }

    fn rate(&self, start: Instant) -> f64 {
        self.done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
    }
}

/// Runs `one` in a loop on `count` threads, and returns the operations per second of all threads
/// together. An operation counts only if `one` returns true: a decision that lost against a
/// concurrent append returns false.
pub fn callers(
    count: u64,
    round: u64,
    turn: Duration,
    one: impl Fn(&mut Numbers) -> bool + Sync,
) -> f64 {
    let (watch, start) = (Watch::default(), Instant::now());
    thread::scope(|scope| {
        for caller in 0..count {
            let (watch, one) = (&watch, &one);
            scope.spawn(move || {
                let mut numbers = Numbers::of_caller(round, caller);
                while watch.goes_on() {
                    watch.did(u64::from(one(&mut numbers)));
                }
            });
        }
        watch.pass(turn);
    });
    watch.rate(start)
}

/// Runs `count` tasks, and returns the operations per second of all tasks together. Each task runs
/// until its watch says that the turn is over, and reports its operations to the watch.
pub fn tasks<F>(
    runtime: &Runtime,
    count: u64,
    round: u64,
    turn: Duration,
    task: impl Fn(Numbers, Arc<Watch>) -> F,
) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let (watch, start) = (Arc::new(Watch::default()), Instant::now());
    let spawn = |caller| runtime.spawn(task(Numbers::of_caller(round, caller), watch.clone()));
    let spawned: Vec<_> = (0..count).map(spawn).collect();
    watch.pass(turn);
    runtime.block_on(async {
        for task in spawned {
            task.await.unwrap();
        }
    });
    watch.rate(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_one_size() {
        let mut numbers = Numbers::new(1);
        for _ in 0..1000 {
            let entry = Entry::random(&mut numbers);
            let payload = entry.payload();
            assert_eq!(payload.len(), PAYLOAD_BYTES);
            let mut balance = Balance::default();
            Fold::Json.event(&mut balance, payload.as_bytes());
            assert_eq!(balance, Balance { events: 1, amount: entry.amount });
        }
    }
}
