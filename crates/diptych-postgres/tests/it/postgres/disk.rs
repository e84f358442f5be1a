//! A server whose disk is full, and then has space again.

use std::time::Duration;

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_store::{Append, AppendError, RawEvent, Store, Tag};
use pollster::block_on;

use super::{
    append, payloads,
    server::{PostgresServer, SmallDisk},
};

/// A commit that takes some space, and whose payload begins with its number.
fn large(number: usize) -> Append {
    // Text that does not compress.
    let mut random = fastrand::Rng::with_seed(number as u64);
    let rest: String = (0..50_000).map(|_| random.alphanumeric()).collect();
    let payload = format!("{number} {rest}");
    Append::event(RawEvent::new("noted", payload).tag(Tag::new("k", 1)))
}

fn numbers(store: &Store) -> Vec<usize> {
    let found = payloads(store);
    found.iter().map(|payload| payload.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_full_disk_of_the_tables_refuses_appends_until_it_has_space_and_reads_go_on() {
    let Some(mut disk) = SmallDisk::new(14) else { return };
    let Some(server) = PostgresServer::start() else { return };
    let place = disk.path();
    server.execute("postgres", &format!("create tablespace small location '{}'", place.display()));
    server.execute("postgres", "create database bank tablespace small");
    let address = server.address("bank", "main");
    let open = || block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap();
    let store = Store::new(open());
    let mut known = Vec::new();
    let mut next = 0..;
    let refused = loop {
        let number = next.next().unwrap();
        match append(&store, large(number)) {
            Ok(committed) => {
                known.push(number);
                assert_eq!(committed.last.get() as usize, known.len());
            }
            Err(error) => break error,
        }
    };
    println!("full after {} commits", known.len());
    assert!(known.len() > 5, "it was full at once");
    for error in [refused, append(&store, large(next.next().unwrap())).unwrap_err()] {
        assert!(matches!(error, AppendError::Unavailable(_)), "nothing was done: {error}");
        let text = error.to_string();
        let words = ["could not extend file", "(53100)", "free space on the disk of the server"];
        for word in words {
            assert!(text.contains(word), "{text}");
        }
    }
    assert_eq!(numbers(&store), known, "reads go on");
    // A program that starts meanwhile reads, too.
    assert_eq!(numbers(&Store::new(open())), known);
    disk.resize(40);
    let number = next.next().unwrap();
    append(&store, large(number)).unwrap();
    known.push(number);
    assert_eq!(numbers(&store), known);
}

#[test]
fn a_file_of_the_tables_that_may_not_grow_refuses_appends_until_it_may() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(server.open("main"));
    append(&store, large(0)).unwrap();
    // Other files of the server are smaller.
    server.limit_files(Some(2 << 20));
    let mut known = vec![0];
    let error = loop {
        let number = known.len();
        match append(&store, large(number)) {
            Ok(_) => known.push(number),
            Err(error) => break error,
        }
    };
    println!("refused after {} commits: {error}", known.len());
    assert!(matches!(error, AppendError::Unavailable(_)), "nothing was done: {error}");
    assert!(error.to_string().contains("could not extend file"), "{error}");
    assert_eq!(numbers(&store), known, "reads go on");
    server.limit_files(None);
    append(&store, large(1_000)).unwrap();
    known.push(1_000);
    assert_eq!(numbers(&store), known);
}

#[test]
fn a_full_disk_of_the_write_ahead_log_loses_and_doubles_nothing() {
    let Some(mut disk) = SmallDisk::new(8) else { return };
    let wal = disk.path().join("wal");
    let settings = "max_wal_size = 2MB\nmin_wal_size = 2MB\n";
    let Some(mut server) = PostgresServer::with_wal_in(settings, Some(&wal)) else { return };
    let mut options = PostgresOptions::default();
    options.answer_time = Duration::from_secs(2);
    let store = Store::new(server.open_with("main", options));
    // Nothing of the write-ahead log may go.
    server.execute("postgres", "select pg_create_physical_replication_slot('kept', true)");
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for number in 0.. {
        match append(&store, large(number)) {
            Ok(_) => known.push(number),
            Err(AppendError::OutcomeUnknown(error)) => {
                println!("after {} commits: {error}", known.len());
                unknown.push(number);
                break;
            }
            Err(AppendError::Unavailable(error)) => {
                println!("after {} commits: {error}", known.len());
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(known.len() > 5, "it was full at once");
    disk.resize(64);
    server.restart();
    let mut last = 1_000;
    while append(&store, large(last)).is_err() {
        unknown.push(last);
        last += 1;
    }
    known.push(last);
    let found = numbers(&store);
    let acknowledged: Vec<_> =
        found.iter().copied().filter(|number| !unknown.contains(number)).collect();
    assert_eq!(acknowledged, known);
    let mut once = found.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), found.len(), "an event is doubled");
    assert!(store.head().ended().is_none());
}
