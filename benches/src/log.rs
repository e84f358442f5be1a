//! Diptych's stores without the framework. Each step of a command is written out, as in a program
//! that uses only the event store.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_log::Log;
use diptych_store::{
    Append, AppendCondition, AppendError, EventStore, Filter, Memory, RawEvent, Read, Store, Tag,
};
use pollster::block_on;

use crate::{
    bank::{Account, Bank, BankEvent, Command},
    workload::{Balance, Entry, Fold, Numbers, Watch},
};

/// Executes commands over the store in memory: read, decode, fold, decide, encode, append on
/// condition.
pub(crate) struct ByHand(Store);

impl Bank for ByHand {
    fn fresh() -> ByHand {
        ByHand(Store::new(Memory::new()))
    }

    async fn execute(&self, account: &str, command: Command) {
        let tag = Tag::new("account", account);
        let fail_if = Filter::tag(tag.clone());
        let head = self.0.head().position();
        let batch = self.0.read(&fail_if, Read::all()).await.unwrap();
        assert!(batch.upto() >= head, "an account of this workload fits into one batch");
        let mut state = Account::default();
        for event in batch.iter() {
            let event: BankEvent = serde_json::from_slice(event.payload()).unwrap();
            state.apply(&event);
        }
        let event = state.decide(command).unwrap();
        let payload = serde_json::to_vec(&event).unwrap();
        let event = RawEvent::new(event.name(), payload).tag(tag);
        let unchanged = AppendCondition { fail_if, after: batch.upto() };
        let accepted = self.0.append(Append::event(event).condition(unchanged)).await.unwrap();
        accepted.synced().await.unwrap();
    }
}

pub(crate) fn append_all(log: &Log, entries: impl Iterator<Item = Entry>) {
    log.blocking().commit(Append::events(entries.map(|entry| entry.to_raw()))).unwrap();
}

/// Appends one event without a condition.
pub(crate) fn append_one(log: &Log, numbers: &mut Numbers) -> bool {
    log.blocking().commit(Append::event(Entry::random(numbers).to_raw())).unwrap();
    true
}

/// Reads one account, and appends to it on the condition that the account has no new event. Returns
/// false if the log refuses the append.
pub(crate) fn decide(log: &Log, numbers: &mut Numbers, fold: Fold) -> bool {
    let entry = Entry::random(numbers);
    let fail_if = Filter::tag(Tag::new("account", entry.account));
    let (mut balance, mut read) = (Balance::default(), Read::all());
    let head = log.head().position();
    // A batch is bounded, so an account may need several.
    let after = loop {
        let batch = log.blocking().read(&fail_if, read).unwrap();
        batch.iter().for_each(|event| fold.event(&mut balance, event.payload()));
        if batch.upto() >= head {
            break batch.upto();
        }
        read = Read::after(batch.upto());
    };
    assert!(balance.events > 0, "an account without events: the log is not filled");
    let unchanged = AppendCondition { fail_if, after };
    done(log.blocking().commit(Append::event(entry.to_raw()).condition(unchanged)))
}

/// Returns false if the condition refused the commit. Panics on any other error.
fn done<T>(result: Result<T, AppendError>) -> bool {
    match result {
        Ok(_) => true,
        Err(AppendError::Refused(_)) => false,
        Err(error) => panic!("diptych-log: {error}"),
    }
}

/// A task that appends one event after another, without conditions.
pub(crate) async fn append_freely(log: Log, mut numbers: Numbers, watch: Arc<Watch>) {
    while watch.goes_on() {
        let append = Append::event(Entry::random(&mut numbers).to_raw());
        log.append(append).await.unwrap().synced().await.unwrap();
        watch.did(1);
    }
}

/// A task that makes one decision after another, all on account 0. Its state is only the position
/// of the account's last event, which is the least that a decision must know.
pub(crate) async fn decide_on_one_account(log: Log, mut numbers: Numbers, watch: Arc<Watch>) {
    let fail_if = Filter::tag(Tag::new("account", 0));
    while watch.goes_on() {
        let entry = Entry { account: 0, ..Entry::random(&mut numbers) };
        let head = EventStore::head(&log).position();
        let after = EventStore::last(&log, &fail_if, head).await.unwrap().unwrap_or_default();
        let unchanged = AppendCondition { fail_if: fail_if.clone(), after };
        let append = Append::event(entry.to_raw()).condition(unchanged);
        match EventStore::append(&log, append).await {
            Ok(accepted) => {
                accepted.synced().await.unwrap();
                watch.did(1);
            }
            refused => assert!(!done(refused)),
        }
    }
}

/// Appends per second of one thread that keeps `in_flight` appends in flight.
pub(crate) fn pipelined(log: &Log, in_flight: usize, round: u64, turn: Duration) -> f64 {
    let (mut numbers, mut waiting) = (Numbers::of_caller(round, 0), VecDeque::new());
    let (mut count, start) = (0_u64, Instant::now());
    while start.elapsed() < turn {
        let append = Append::event(Entry::random(&mut numbers).to_raw());
        waiting.push_back(log.blocking().append(append).unwrap());
        if waiting.len() >= in_flight {
            waiting.pop_front().map(|first| block_on(first.synced()).unwrap());
        }
        count += 1;
    }
    for accepted in waiting {
        block_on(accepted.synced()).unwrap();
    }
    count as f64 / start.elapsed().as_secs_f64()
}
