//! A pooler between a store and its server. A session needs one connection of the server for
//! itself, so a pool in session mode works, and one in transaction mode is refused.

use std::sync::atomic::{AtomicBool, Ordering};

use diptych_postgres::{OpenError, PostgresDatabase, PostgresOptions, PostgresStore};
use diptych_store::{Append, AppendError, Delivery, Filter, Position, Store, SubscribeOptions};
use pollster::block_on;
use tokio_postgres::SimpleQueryMessage;

use super::{
    append, event, parallel, payloads,
    server::{Pooler, PostgresServer, runtime},
};

fn open(address: &str) -> Result<PostgresStore, OpenError> {
    block_on(PostgresStore::open(address, PostgresOptions::default()))
}

/// A pooler without sessions is refused with these words.
fn assert_refused<T>(opened: Result<T, OpenError>) {
    let Err(error) = opened else { panic!("it was opened") };
    assert!(matches!(error, OpenError::Pooler { .. }), "{error}");
    let text = error.to_string();
    for word in ["127.0.0.1/postgres", "pool_mode = transaction", "connect to the server itself"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_pool_without_sessions_is_refused_and_left_as_it_was() {
    let Some(server) = PostgresServer::start() else { return };
    let in_turns = "server_round_robin = 1\nmin_pool_size = 5";
    for (mode, more) in
        [("transaction", ""), ("statement", ""), ("transaction", in_turns), ("transaction", "")]
    {
        let Some(pooler) = Pooler::start(&server, mode, more) else { return };
        let address = server.address_at(pooler.port(), "postgres", "main");
        assert_refused(open(&address));
        let database = PostgresDatabase::at(&address, PostgresOptions::default()).unwrap();
        assert_refused(block_on(database.check()));
        let connecting = async {
            let within = std::time::Duration::from_secs(5);
            diptych_postgres::connect(&address, within).await.map(drop)
        };
        assert_refused(runtime().block_on(connecting));
        // Settings would stay for the other programs of the pool, and tables for all.
        let left = runtime().block_on(async {
            let client = server.client_at(pooler.port(), "postgres").await;
            let mut left = Vec::new();
            for question in [
                "show search_path",
                "show enable_seqscan",
                "select coalesce(current_setting('diptych.session', true), 'none')",
                "select to_regnamespace('diptych') is null",
            ] {
                let told = client.simple_query(question).await.unwrap();
                left.extend(told.iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                }));
            }
            left
        });
        assert_eq!(left, ["\"$user\", public", "on", "none", "t"]);
    }
}

#[test]
fn a_busy_pool_without_sessions_is_refused_too() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(pooler) = Pooler::start(&server, "transaction", "") else { return };
    let address = server.address_at(pooler.port(), "postgres", "main");
    let is_over = AtomicBool::new(false);
    parallel(9, |number| {
        if number > 0 {
            let work = async {
                let client = server.client_at(pooler.port(), "postgres").await;
                while !is_over.load(Ordering::SeqCst) {
                    client.simple_query("select 1").await.unwrap();
                }
            };
            return runtime().block_on(work);
        }
        for _ in 0..20 {
            assert_refused(open(&address));
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_pool_with_sessions_works() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(pooler) = Pooler::start(&server, "session", "") else { return };
    let address = server.address_at(pooler.port(), "postgres", "main");
    let [writer, reader] = [(); 2].map(|()| Store::new(open(&address).unwrap()));
    let seen = parallel(5, |number| {
        if number > 0 {
            for turn in 0..25 {
                let own = Append::event(event(format!("{number}-{turn}"), "k:1"));
                append(&writer, own).unwrap();
            }
            return Vec::new();
        }
        let options = SubscribeOptions::default();
        let mut subscription = reader.subscribe(Filter::everything(), Position::START, options);
        let mut seen = Vec::new();
        while seen.len() < 100 {
            if let Delivery::Batch(batch) = block_on(subscription.next()).unwrap() {
                seen.extend(batch.iter().map(|event| event.position().get()));
            }
        }
        seen
    });
    assert_eq!(seen[0], (1..=100).collect::<Vec<_>>());
    assert_eq!(payloads(&reader), payloads(&writer));
}

#[test]
fn a_pool_that_loses_its_sessions_under_an_open_store_is_told_and_loses_and_doubles_nothing() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(pooler) = Pooler::start(&server, "session", "") else { return };
    let address = server.address_at(pooler.port(), "postgres", "main");
    let mut options = PostgresOptions::default();
    options.answer_time = std::time::Duration::from_millis(500);
    let store = Store::new(block_on(PostgresStore::open(&address, options)).unwrap());
    let (mut known, mut unknown) = (vec!["first".to_owned()], Vec::new());
    append(&store, Append::event(event("first", "k:1"))).unwrap();
    pooler.set_mode("transaction");
    // All connections of the store are made again.
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity \
               where application_name = 'diptych'";
    server.execute("postgres", cut);
    let mut words = String::new();
    for number in 0.. {
        let payload = number.to_string();
        match append(&store, Append::event(event(&payload, "k:1"))) {
            Ok(_) => known.push(payload),
            Err(AppendError::Unavailable(why)) => words = why.to_string(),
            // It was sent before the connection was cut.
            Err(AppendError::OutcomeUnknown(error)) => {
                words = error.to_string();
                unknown.push(payload);
            }
            Err(other) => panic!("{other}"),
        }
        if words.contains("pool_mode = transaction") {
            break;
        }
        assert!(number < 1_000, "it was not told: {words}");
        server.execute("postgres", cut);
    }
    println!("{} commits before", known.len());
    let direct = Store::new(open(&server.address("postgres", "main")).unwrap());
    let acknowledged = || {
        let mut found = payloads(&direct);
        let all = found.len();
        found.dedup();
        assert_eq!(found.len(), all, "an event is doubled");
        found.retain(|payload| !unknown.contains(payload));
        found
    };
    assert_eq!(acknowledged(), known);
    // The pool has sessions again, and the store goes on by itself.
    pooler.set_mode("session");
    server.execute("postgres", cut);
    while append(&store, Append::event(event("last", "k:1"))).is_err() {}
    known.push("last".to_owned());
    assert_eq!(acknowledged(), known);
    assert_eq!(payloads(&store), payloads(&direct));
}
