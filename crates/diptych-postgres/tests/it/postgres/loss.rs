//! A server that is killed, a connection that is lost, and a database that goes back in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_store::{Append, AppendError, EventStore, Filter, ReadError, Store, Unavailable};
use pollster::block_on;

use super::{append, event, handles, payloads, proxy::Proxy, server::PostgresServer};

/// How often the server is killed. `DIPTYCH_KILLS` sets it.
fn kills() -> usize {
    let set = std::env::var("DIPTYCH_KILLS").ok();
    set.map_or(4, |kills| kills.parse().unwrap())
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let Some(mut server) = PostgresServer::start() else { return };
    let stores = handles(|| server.open("main"), 3);
    let (is_over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let written = std::thread::scope(|scope| {
        let (stores, is_over, acknowledged) = (&stores, &is_over, &acknowledged);
        let writers: Vec<_> = (0..12)
            .map(|writer| {
                scope.spawn(move || {
                    let (mut known, mut unknown) = (Vec::new(), Vec::new());
                    for number in 0.. {
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        let payload = format!("{writer}-{number}");
                        let own = Append::event(event(&payload, "k:1"));
                        match append(&stores[writer % 3], own) {
                            Ok(committed) => known.push((committed.last.get(), payload)),
                            Err(AppendError::OutcomeUnknown(_)) => unknown.push(payload),
                            Err(AppendError::Unavailable(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    (known, unknown)
                })
            })
            .collect();
        for _ in 0..kills() {
            let before = acknowledged.load(Ordering::SeqCst);
            while acknowledged.load(Ordering::SeqCst) < before + 200 {
                std::thread::yield_now();
            }
            server.kill();
            server.restart();
        }
        let before = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < before + 200 {
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let found = payloads(&stores[0]);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "an event is doubled");
    let places: BTreeMap<&String, u64> = found.iter().zip(1..).collect();
    let mut outcomes = (0, 0);
    for (known, unknown) in &written {
        outcomes = (outcomes.0 + known.len(), outcomes.1 + unknown.len());
        for (position, payload) in known {
            assert_eq!(places.get(payload), Some(position), "{payload} was acknowledged");
        }
    }
    // The store finds the outcome of every call by its number.
    assert_eq!(outcomes.1, 0, "of {} commits", outcomes.0);
    assert_eq!(found.len(), outcomes.0);
}

#[test]
fn a_connection_that_is_lost_at_any_message_executes_an_append_once() {
    let Some(server) = PostgresServer::start() else { return };
    drop(server.open("main"));
    let proxy = Proxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let open = || block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap();
    let store = Store::new(open());
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    for number in 1..=40_u64 {
        // The connections are cut before this message of the server arrives.
        proxy.cut_after(number % 20);
        let committed = append(&store, Append::event(event(number, "k:1"))).unwrap();
        assert_eq!(committed.last.get(), number + 1, "cut after {}", number % 20);
        proxy.cut_after(number % 20);
        assert_eq!(block_on(store.fresh_head()).unwrap(), committed.last);
        proxy.cut_after(number % 20);
        assert_eq!(payloads(&store).len() as u64, number + 1);
    }
    assert!(proxy.cuts() > 40, "{} connections were cut", proxy.cuts());
    let expected: Vec<_> = (0..=40).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&store), expected);
}

#[test]
fn an_append_to_a_server_that_is_away_has_an_answer_in_time() {
    let Some(mut server) = PostgresServer::start() else { return };
    let mut options = PostgresOptions::default();
    options.answer_time = std::time::Duration::from_millis(300);
    let store = Store::new(server.open_with("main", options));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    server.stop();
    for _ in 0..3 {
        let answer = append(&store, Append::event(event(1, "k:1")));
        assert!(
            matches!(answer, Err(AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_))),
            "{answer:?}"
        );
        let answer = block_on(store.fresh_head());
        assert!(matches!(answer, Err(ReadError::Unavailable(_))), "{answer:?}");
    }
    server.restart();
    while append(&store, Append::event(event(2, "k:1"))).is_err() {}
    assert!(store.head().ended().is_none());
}

#[test]
fn a_database_that_was_restored_to_an_earlier_state_is_noticed() {
    // A kill loses nothing that the system has, and syncs would take most of the time.
    let Some(mut server) = PostgresServer::with("fsync = off\n") else { return };
    let (data, copy) = (server.data(), server.folder().join("copy"));
    let mut options = PostgresOptions::default();
    options.allow_unsafe_settings = true;
    let open = |address: &str| block_on(PostgresStore::open(address, options.clone())).unwrap();
    let proxy = Proxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    for regrows in [false, true] {
        let store = open(&address);
        let (was, head) = (store.identity(), store.head());
        let pinned = Store::new(store.clone()).pinned();
        let before = head.position().get();
        append(&pinned, Append::event(event("kept", "k:1"))).unwrap();
        server.kill();
        server.copy(&data, &copy);
        server.restart();
        let lost = append(&pinned, Append::event(event("lost", "k:1"))).unwrap();
        proxy.set_closed(true);
        server.kill();
        server.copy(&copy, &data);
        server.restart();
        if regrows {
            // Another process goes on from the earlier state, before this one looks again.
            let other = Store::new(open(&server.address("postgres", "main")));
            for _ in 0..3 {
                append(&other, Append::event(event("other", "k:1"))).unwrap();
            }
            assert!(other.head().position() > lost.last);
        }
        proxy.set_closed(false);
        let error = loop {
            match block_on(pinned.read(&Filter::everything(), diptych_store::Read::all())) {
                Ok(_) => {}
                Err(ReadError::Unavailable(Unavailable::HistoryChanged(changed))) => break changed,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!((error.was, error.is.id), (was, was.id));
        assert_eq!(error.is.epoch.number(), was.epoch.number() + 1);
        assert!(matches!(head.ended(), Some(Unavailable::HistoryChanged(_))));
        let refused = append(&pinned, Append::event(event("late", "k:1")));
        assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
        // The store itself goes on in the new history, and so do others.
        let again = Store::new(store);
        append(&again, Append::event(event("new", "k:1"))).unwrap();
        let second = Store::new(open(&server.address("postgres", "main")));
        assert_eq!(second.identity(), again.identity());
        let left = payloads(&second);
        assert_eq!(left[before as usize], "kept");
        assert!(!left.contains(&"lost".to_owned()) && left.contains(&"new".to_owned()));
    }
}

#[test]
fn a_commit_whose_wait_for_a_standby_was_cancelled_has_an_unknown_outcome() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    // No standby has this name.
    server.execute("postgres", "alter system set synchronous_standby_names = 'missing'");
    server.execute("postgres", "select pg_reload_conf()");
    let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
    // The server may read its settings a little later.
    let mut answers = (1..).map(|number| {
        std::thread::scope(|scope| {
            let own = Append::event(event(number, "k:1"));
            let appending = scope.spawn(|| append(&store, own));
            while !appending.is_finished() {
                server.execute("postgres", cancel);
            }
            (number, appending.join().unwrap())
        })
    });
    let (number, error) =
        answers.find_map(|(number, answer)| Some((number, answer.err()?))).unwrap();
    assert!(matches!(error, AppendError::OutcomeUnknown(_)), "{error:?}");
    let expected: Vec<_> = (0..=number).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&store), expected, "the commit is on this server");
    server.execute("postgres", "alter system reset synchronous_standby_names");
    server.execute("postgres", "select pg_reload_conf()");
    while append(&store, Append::event(event("last", "k:1"))).is_err() {
        server.execute("postgres", cancel);
    }
    assert_eq!(payloads(&store).last().map(String::as_str), Some("last"));
}
