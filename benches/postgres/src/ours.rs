//! The log of Diptych in PostgreSQL.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_postgres_benches::{
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
};
use diptych_store::{
    Append, AppendCondition, AppendError, Filter, Position, RawEvent, Read, Store, Tag,
};
use futures_util::future::join_all;
use tokio::sync::Mutex;

use crate::place::{Bench, EVENTS_OF_THING, Place, THINGS};

/// The store, with a gate for decisions and the folds that are kept, as an app has them.
#[derive(Clone)]
pub(crate) struct Ours {
    pub(crate) store: Store,
    counters: Arc<Counters>,
}

/// The last event and the number of each counter, behind a gate of its own.
type Counters = std::sync::Mutex<HashMap<u64, Arc<Mutex<(Position, u64)>>>>;

/// A payload of 256 bytes.
pub(crate) fn payload() -> Vec<u8> {
    let mut payload = b"{\"text\":\"".to_vec();
    payload.resize(254, b'x');
    payload.extend(b"\"}");
    payload
}

fn event(writer: u64, number: u64) -> RawEvent {
    let event = RawEvent::new("measured", payload());
    event.tag(Tag::new("writer", writer)).tag(Tag::new("number", number))
}

async fn commit(store: &Store, append: Append) {
    store.append(append).await.unwrap().synced().await.unwrap();
}

fn opened(place: &Place, log: &str) -> Store {
    let mut options = PostgresOptions::default();
    options.log = Some(log.to_owned());
    opened_in(place, "ours", options)
}

fn opened_in(place: &Place, database: &str, options: PostgresOptions) -> Store {
    let address = place.address(database);
    let opening = PostgresStore::open(&address, options);
    Store::new(pollster::block_on(opening).unwrap())
}

/// A log in a database of its own, whose partitions have this many positions.
pub(crate) fn grown(place: &Place, partition_events: u64) -> Store {
    let mut options = PostgresOptions::default();
    options.partition_events = partition_events;
    opened_in(place, "grown", options)
}

impl Bench for Ours {
    fn open(place: &Place, _: usize) -> Ours {
        Ours { store: opened(place, "main"), counters: Arc::default() }
    }

    async fn append(&self, writer: u64, number: u64, events: u64) {
        let events = (0..events).map(|at| event(writer, number * events + at));
        commit(&self.store, Append::events(events)).await;
    }

    async fn decide(&self, boundary: u64) {
        let filter = Filter::tag(Tag::new("counter", boundary));
        let counter = self.counters.lock().unwrap().entry(boundary).or_default().clone();
        let mut counter = counter.lock().await;
        let (after, number) = &mut *counter;
        loop {
            let read = Read::after(*after);
            let payload = format!("{{\"counter\":{boundary},\"number\":{}}}", *number + 1);
            let event = RawEvent::new("counted", payload.into_bytes());
            let event = event.tag(Tag::new("counter", boundary));
            let condition = AppendCondition { fail_if: filter.clone(), after: *after };
            match self.store.append(Append::event(event).condition(condition)).await {
                Ok(accepted) => {
                    (*after, *number) = (accepted.last, *number + 1);
                    drop(counter);
                    accepted.synced().await.unwrap();
                    return;
                }
                Err(AppendError::Refused(_)) => {
                    let batch = self.store.read(&filter, read).await.unwrap();
                    (*after, *number) = (batch.upto(), *number + batch.len() as u64);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn fill(&self, events: u64) {
        let every = events / (THINGS * EVENTS_OF_THING);
        let all: Vec<u64> = (0..events).collect();
        for some in all.chunks(1_000) {
            let events = some.iter().map(|number| {
                let event = event(number % 64, number % 50_000);
                match number % every {
                    0 if number / every < THINGS * EVENTS_OF_THING => {
                        event.tag(Tag::new("thing", number / every % THINGS))
                    }
                    _ => event,
                }
            });
            commit(&self.store, Append::events(events)).await;
        }
    }

    async fn read(&self, thing: u64) -> u64 {
        let filter = Filter::tag(Tag::new("thing", thing));
        let batch = self.store.read(&filter, Read::all()).await.unwrap();
        batch.iter().map(|event| event.payload().len() as u64 / 256).sum()
    }
}

/// The time from an append to its event in a store that another process could have.
pub(crate) fn delays(place: &Place, options: &Options) -> Table {
    let (first, second) = (opened(place, "delays"), opened(place, "delays"));
    let title = "from an append to its event at a subscriber of another store, p50".to_owned();
    let contenders = vec![
        Contender::new("until it is durable", |_| delay(place, &first, None, options.turn())),
        Contender::new("until the subscriber has it", |_| {
            delay(place, &first, Some(&second), options.turn())
        }),
    ];
    Table::new(title, "ms", "until it is durable").measure(options, contenders)
}

fn delay(place: &Place, store: &Store, second: Option<&Store>, turn: Duration) -> f64 {
    place.runtime.block_on(async {
        let (mut latencies, began) = (Latencies::default(), Instant::now());
        for number in 0.. {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let start = Instant::now();
            let accepted = store.append(Append::event(event(0, number))).await.unwrap();
            let last = accepted.last;
            match second {
                None => drop(accepted.synced().await.unwrap()),
                Some(second) => {
                    second.head().upto(last).await.unwrap();
                    let read = Read::after(Position::new(last.get() - 1)).upto(last);
                    let batch = second.read(&Filter::everything(), read).await.unwrap();
                    assert_eq!(batch.len(), 1);
                }
            }
            latencies.add(start.elapsed());
            if began.elapsed() >= turn {
                break;
            }
        }
        latencies.quantile(0.5) / 1e3
    })
}

/// Appends this many events of 100,000 accounts in commits of 1,000, four at a time.
pub(crate) async fn grow(store: &Store, from: u64, upto: u64) {
    let starts: Vec<u64> = (from..upto).step_by(1_000).collect();
    for some in starts.chunks(4) {
        join_all(some.iter().map(|start| {
            let numbers = (*start..(start + 1_000).min(upto)).map(|number| {
                // Neighbours in the log are of different accounts.
                let account = number.wrapping_mul(7_919) % 100_000;
                RawEvent::new("measured", payload()).tag(Tag::new("account", account))
            });
            commit(store, Append::events(numbers))
        }))
        .await;
    }
}
