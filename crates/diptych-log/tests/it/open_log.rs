//! The behaviour of an open log beyond the contract of every store.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use diptych_log::{
    Background, Durability, Log, LogOptions, OpenError,
    disk::simulated::{Operation, Random, SimulatedDisk},
};
use diptych_store::{
    Append, AppendError, EventStore, Filter, Limits, RawEvent, Read, ReadError, Tag, Tracking,
    Unavailable,
};

fn event(bytes: usize) -> RawEvent {
    RawEvent::new("filled", vec![7; bytes]).tag(Tag::new("all", 1))
}

#[test]
fn accepted_commits_that_are_not_written_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        LogOptions { queue_bytes: 10_000, background: Background::Inline, ..LogOptions::default() };
    let log = Log::open(dir.path(), options).unwrap();
    for _ in 0..100 {
        let _ = log.blocking().append(Append::event(event(1_000))).unwrap();
        // This test never flushes: an append that finds the queue full writes the queue first.
        let (accepted, published) = (log.blocking(), log.head().position().get());
        let waiting = accepted.append(Append::default()).unwrap().last.get() - published;
        assert!(waiting <= 11, "{waiting} events wait");
    }
}

#[test]
fn a_commit_counts_as_synced_once_it_is_written_and_not_before() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let log = Log::open("/data/log", options).unwrap();
    let nothing = log.blocking().append(Append::default()).unwrap();
    assert!(nothing.sync.is_done(), "an append of nothing does not wait");
    let first = log.blocking().append(Append::event(event(1))).unwrap();
    let checked = log.blocking().append(Append::default()).unwrap();
    assert!(!first.sync.is_done() && !checked.sync.is_done(), "the commit is not written yet");
    let before = disk.count(Operation::Sync);
    log.blocking().flush().unwrap();
    assert!(disk.count(Operation::Sync) > before);
    assert!(first.sync.is_done() && checked.sync.is_done());
    let second = log.blocking().append(Append::event(event(1))).unwrap();
    assert!(first.sync.is_done() && !second.sync.is_done(), "each commit has its own state");
    log.close().unwrap();
    assert!(second.sync.is_done(), "closing writes accepted commits");
}

#[test]
fn a_commit_larger_than_a_segment_is_accepted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4096, ..LogOptions::default() };
    let log = Log::open(dir.path(), options.clone()).unwrap();
    for _ in 0..3 {
        let append = Append::events((0..10).map(|_| event(1_000)));
        log.blocking().commit(append).unwrap();
    }
    log.close().unwrap();
    let log = Log::open(dir.path(), options).unwrap();
    let batch = log.blocking().read(&Filter::tag(Tag::new("all", 1)), Read::all()).unwrap();
    assert_eq!(batch.len(), 30);
}

#[test]
fn the_other_handles_of_a_closed_log_return_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let other = log.clone();
    log.close().unwrap();
    let refused = other.blocking().commit(Append::event(event(1)));
    assert!(matches!(refused, Err(AppendError::Unavailable(Unavailable::Closed))), "{refused:?}");
    let refused = other.blocking().read(&Filter::everything(), Read::all());
    assert!(matches!(refused, Err(ReadError::Unavailable(Unavailable::Closed))), "{refused:?}");
    Log::open(dir.path(), LogOptions::default()).unwrap();
}

#[test]
fn one_process_cannot_open_a_folder_twice() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let error = Log::open(dir.path(), LogOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Held { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(log);
    Log::open(dir.path(), LogOptions::default()).unwrap();
}

#[test]
fn options_that_do_not_fit_the_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.event_bytes = 1 << 24;
    // All tracking sources have to fit into the first record of a segment.
    let mut sources = Limits::default();
    sources.tracking_sources = 100_000;
    let wrong = [
        LogOptions { limits, ..LogOptions::default() },
        LogOptions { limits: sources, ..LogOptions::default() },
        LogOptions { segment_bytes: 10, ..LogOptions::default() },
        LogOptions { queue_bytes: 0, ..LogOptions::default() },
    ];
    for options in wrong {
        let error = Log::open(dir.path(), options).unwrap_err();
        assert!(matches!(error, OpenError::Options { .. }), "{error}");
    }
}

#[test]
fn the_stats_of_a_log_count_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4096, index_bytes: 1024, ..LogOptions::default() };
    let log = Log::open(dir.path(), options).unwrap();
    for number in 0..200_u64 {
        let name = if number % 4 == 0 { "opened" } else { "paid" };
        let event = RawEvent::new(name, []).tag(Tag::new("account", number % 9));
        log.blocking().commit(Append::event(event)).unwrap();
    }
    let stats = log.blocking().stats().unwrap();
    assert_eq!(stats.head.get(), 200);
    assert_eq!(stats.types, [("paid".to_owned(), 150), ("opened".to_owned(), 50)]);
    assert_eq!(stats.tag_keys, [("account".to_owned(), 200)]);
    assert!(stats.segments > 1 && stats.segment_bytes > 200 * 30);
    assert_eq!(log.identity(), stats.identity);
}

/// Once, a segment with only commits without events never ended.
#[test]
fn a_segment_with_only_commits_without_events_ends() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4096, ..LogOptions::default() };
    let log = Log::open(dir.path(), options.clone()).unwrap();
    for number in 1..=300 {
        let append = Append::default().tracking(Tracking::new("billing", number));
        let _ = log.blocking().append(append).unwrap();
    }
    log.blocking().flush().unwrap();
    assert!(log.blocking().stats().unwrap().segments > 2);
    log.close().unwrap();
    let log = Log::open(dir.path(), options).unwrap();
    let tracked = log.blocking().tracked("billing").unwrap().unwrap();
    assert_eq!(tracked.position.get(), 300);
}

/// Once, a log whose queue was never empty did not sync at its interval.
#[test]
fn a_log_syncs_at_its_interval_under_constant_load() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        durability: Durability::Interval { interval: Duration::ZERO },
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let log = Log::open("/data/log", options).unwrap();
    let before = disk.count(Operation::Sync);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let _ = log.blocking().append(Append::event(event(100))).unwrap();
                }
            });
        }
    });
    log.blocking().flush().unwrap();
    // The interval is zero, so a sync follows every write.
    let (writes, syncs) = (disk.count(Operation::Write), disk.count(Operation::Sync) - before);
    assert!(syncs * 3 + 10 >= writes, "{syncs} syncs for {writes} writes");
}

/// The thread that appends writes by itself, and then nothing else comes to the log.
#[test]
fn the_only_commit_of_a_caller_is_synced_at_the_end_of_the_interval() {
    const LONG: Duration = Duration::from_secs(30);
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        durability: Durability::Interval { interval: Duration::from_millis(20) },
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let log = Log::open("/data/log", options).unwrap();
    let start = Instant::now();
    log.blocking().commit(Append::event(event(100))).unwrap();
    let survives = |seed| {
        let disk = Arc::new(disk.power_loss(seed));
        let log = Log::open("/data/log", LogOptions { disk, ..LogOptions::default() }).unwrap();
        log.head().position().get() == 1
    };
    while !(0..8).all(survives) {
        assert!(start.elapsed() < LONG, "the commit is not synced");
        thread::sleep(Duration::from_millis(5));
    }
    log.close().unwrap();
}

/// A commit may be larger than a segment. A new segment would not make room for it.
#[test]
fn a_commit_that_is_larger_than_a_segment_goes_to_an_empty_one() {
    let disk = SimulatedDisk::new(1);
    let options =
        LogOptions { segment_bytes: 4096, disk: Arc::new(disk.clone()), ..LogOptions::default() };
    let log = Log::open("/data/log", options).unwrap();
    for number in 1..=3 {
        log.blocking().commit(Append::event(event(10_000))).unwrap();
        assert_eq!(log.blocking().stats().unwrap().segments, number);
    }
    log.close().unwrap();
}

/// An event with 280 bytes of content (a payload of 256, a type, two tags) takes at most 311 bytes
/// on disk, index included.
#[test]
fn an_event_costs_little_more_than_its_content() {
    // With this number of events two segments are complete, and each has one index file.
    const EVENTS: u64 = 450_000;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let mut random = Random::new(1);
    let mut content = 0;
    for _ in 0..EVENTS / 1_000 {
        let events = (0..1_000).map(|_| {
            let number = random.number();
            let account = Tag::new("account", (number >> 8) % 10_000);
            let tenant = Tag::new("tenant", (number >> 40) % 100);
            content += 256 + 3 + account.as_str().len() + tenant.as_str().len();
            let name = ["ev0", "ev1", "ev2", "ev3", "ev4", "ev5", "ev6", "ev7"];
            RawEvent::new(name[number as usize % 8], vec![7; 256]).tag(account).tag(tenant)
        });
        log.blocking().commit(Append::events(events)).unwrap();
    }
    log.close().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let stats = log.blocking().stats().unwrap();
    let each = |bytes: u64| bytes as f64 / EVENTS as f64;
    let used = each(stats.segment_bytes + stats.index_bytes);
    let content = each(content as u64);
    assert!((279.0..281.0).contains(&content), "{content} bytes of content");
    assert!(used <= 311.0, "{used} bytes for an event of {content}");
    assert!(each(stats.allocated_bytes) <= 312.0, "{stats:?}");
}

/// Once, a second close returned while the first was still working, and the folder was still
/// locked.
#[test]
fn a_folder_is_unlocked_when_the_first_of_several_closes_returns() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..40 {
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let _ = log.blocking().append(Append::event(event(1_000))).unwrap();
        let (closed, answers) = mpsc::channel();
        let closers = [log.clone(), log].map(|log| {
            let closed = closed.clone();
            thread::spawn(move || {
                log.close().unwrap();
                closed.send(()).unwrap();
            })
        });
        answers.recv().unwrap();
        drop(Log::open(dir.path(), LogOptions::default()).unwrap());
        closers.into_iter().for_each(|closer| closer.join().unwrap());
    }
}
