//! Bounds and pauses at their extremes: a log works with them, or its open refuses them.

use std::{sync::mpsc, thread, time::Duration};

use diptych_log::{Background, Durability, Log, LogOptions, OpenError, Tuning};
use diptych_store::{Append, EventStore, Filter, Position, RawEvent, Read};
use pollster::block_on;

/// Much longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(120);

fn small(background: Background, durability: Durability, tuning: Tuning) -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        index_bytes: 4 << 10,
        background,
        durability,
        tuning,
        ..LogOptions::default()
    }
}

/// Appends events for several segments, each with several index parts, and reads them again.
fn works(options: LogOptions) {
    const EVENTS: u64 = 1_000;
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), options).unwrap();
        for _ in 0..EVENTS {
            let event = RawEvent::new("noted", vec![b'x'; 200]);
            let _accepted = log.blocking().append(Append::event(event)).unwrap();
        }
        log.close().unwrap();
        let log = Log::open(folder.path(), LogOptions::default()).unwrap();
        assert_eq!(log.head().position(), Position::new(EVENTS));
        let read = Read::after(Position::START).limit(10);
        assert_eq!(block_on(log.read(&Filter::everything(), read)).unwrap().len(), 10);
        done.send(()).unwrap();
    });
    ended.recv_timeout(LONG).expect("the log does not finish, or failed");
}

#[test]
fn zero_waiting_parts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning { waiting_parts: 0, ..Tuning::default() };
    let refused = Log::open(folder.path(), LogOptions { tuning, ..LogOptions::default() });
    let error = refused.unwrap_err();
    assert!(matches!(error, OpenError::Options { .. }), "{error}");
    assert!(error.to_string().contains("waiting_parts must be above 0"), "{error}");
}

/// Once, the only part waited for a sync, the sync waited for a second part or the end of the
/// interval, and appends waited for room.
#[test]
fn one_waiting_part_does_not_block_appends_until_the_interval_ends() {
    for background in [Background::Threads, Background::Inline] {
        let tuning = Tuning { waiting_parts: 1, ..Tuning::default() };
        let durability = Durability::Interval { interval: Duration::from_secs(3_600) };
        works(small(background, durability, tuning));
    }
}

/// Once, the sum of the time and such a pause panicked in the indexer thread, because the clock
/// cannot express it.
#[test]
fn a_log_with_the_longest_pauses_and_no_prepared_bytes_works() {
    for background in [Background::Threads, Background::Inline] {
        let tuning = Tuning {
            prepared_bytes: 0,
            tidy_after: Duration::MAX,
            tidy_at_latest: Duration::MAX,
            cluster_pause: u32::MAX,
            ..Tuning::default()
        };
        works(small(background, Durability::Synced, tuning));
    }
}
