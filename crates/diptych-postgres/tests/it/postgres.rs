//! A store on a server that the tests start by themselves.

mod alternating;
mod conformance;
mod contention;
mod disk;
mod every_statement;
mod failover;
mod hints;
mod histories;
mod inline;
mod logged;
mod loss;
mod move_log;
mod pgbouncer;
mod proxy;
mod replicas;
mod schema;
mod statements;
mod tls;
mod wrong;

use std::thread;

use diptych_postgres::PostgresStore;
use diptych_postgres_testing as server;
use diptych_store::{
    Append, AppendCondition, AppendError, Filter, RawEvent, Read, Store, SyncedCommit, Tag,
};
use pollster::block_on;

/// An event with this text as payload and one tag.
fn event(payload: impl ToString, tag: &str) -> RawEvent {
    RawEvent::new("noted", payload.to_string()).tag(Tag::parse(tag).unwrap())
}

fn append(store: &Store, append: Append) -> Result<SyncedCommit, AppendError> {
    block_on(async { Ok(store.append(append).await?.synced().await?) })
}

/// Refuses the commit if the tag has an event after this position.
fn unless_newer(tag: &str, after: u64) -> AppendCondition {
    AppendCondition { fail_if: Filter::tag(Tag::parse(tag).unwrap()), after: after.into() }
}

/// Positions and payloads of all matching events.
fn all(store: &Store, filter: &Filter) -> Vec<(u64, String)> {
    let (mut found, mut read) = (Vec::new(), Read::all());
    let head = block_on(store.fresh_head()).unwrap();
    while read.after < head {
        let batch = block_on(store.read(filter, read.clone())).unwrap();
        found.extend(batch.iter().map(|event| {
            let payload = String::from_utf8(event.payload().to_owned()).unwrap();
            (event.position().get(), payload)
        }));
        read.after = batch.upto();
    }
    found
}

/// The payloads in the order of the log, after a check that its positions have no gap.
fn payloads(store: &Store) -> Vec<String> {
    let all = all(store, &Filter::everything());
    let positions: Vec<u64> = all.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (1..=all.len() as u64).collect::<Vec<_>>());
    all.into_iter().map(|(_, payload)| payload).collect()
}

/// Runs the work on this many threads, with the number of each, and returns what they return.
fn parallel<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let spawned: Vec<_> =
            (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Handles of their own on one log, as processes have them.
fn handles(open: impl Fn() -> PostgresStore, count: usize) -> Vec<Store> {
    (0..count).map(|_| Store::new(open())).collect()
}
