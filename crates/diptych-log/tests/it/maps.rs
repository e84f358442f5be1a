//! A bound on mapped files: a log of any number of segments works within it, and gives the same
//! answers as a log without a bound.

use std::{
    env, fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use diptych_log::{
    Background, Clustering, Durability, Log, LogOptions, OpenError, Tuning, disk::simulated::Random,
};
use diptych_store::{Append, Digest, EventStore, Filter, Key, Position, RawEvent, Read, Tag};

/// Number of segments in the first test. With `DIPTYCH_SEGMENTS=100000` a log without a bound would
/// exceed the system's limit of mappings.
const SEGMENTS: u64 = 2_000;
/// Segments for each file that may be mapped. Each commit with a key asks one group file for each
/// 64 segments, so a smaller bound would have all of them read again for each commit.
const SEGMENTS_PER_MAP: u64 = 32;
/// Approximate number of events in a segment.
const EACH: u64 = 4;
const TAGS: u64 = 97;

fn options(mapped_files: usize) -> LogOptions {
    LogOptions {
        durability: Durability::Interval { interval: Duration::from_secs(3_600) },
        segment_bytes: 1024,
        background: Background::Inline,
        clustering: Clustering::Off,
        tuning: Tuning { mapped_files, ..Tuning::default() },
        ..LogOptions::default()
    }
}

fn event(number: u64) -> RawEvent {
    let name = if number.is_multiple_of(1_000) { "rare" } else { "common" };
    let payload = format!("{number:0>200}");
    RawEvent::new(name, payload.into_bytes()).tag(Tag::new("some", number % TAGS))
}

fn append(log: &Log, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let key = Key::new(format!("key {number}"), Digest([number as u8; 16]));
        let _accepted = log.blocking().append(Append::event(event(number)).key(key)).unwrap();
        if number.is_multiple_of(EACH) {
            log.blocking().flush().unwrap();
        }
    }
    log.blocking().flush().unwrap();
}

/// The answers of a log to all kinds of questions about its events.
fn answers(log: &Log) -> Vec<(String, Vec<u64>)> {
    let (head, log, mut all) = (log.head().position(), log.blocking(), Vec::new());
    let mut read = |name: &str, filter: &Filter, read: Read| {
        let (mut read, mut found) = (read, Vec::new());
        while read.after < head {
            let batch = log.read(filter, read.clone()).unwrap();
            for event in batch.iter() {
                let number = event.position().get();
                assert_eq!(event.payload(), format!("{number:0>200}").as_bytes());
                found.push(number);
            }
            read.after = batch.upto();
        }
        all.push((name.to_owned(), found));
    };
    read("everything", &Filter::everything(), Read::all());
    read("rare", &Filter::types(["rare"]), Read::all());
    for value in [0, 13, TAGS - 1, TAGS] {
        let tag = Tag::new("some", value);
        read(&format!("tag {value}"), &Filter::tag(tag), Read::all());
    }
    for value in [0, 50, TAGS] {
        let tag = Tag::new("some", value);
        let counted = log.count(&tag, Position::MAX).unwrap();
        let last = log.last(&Filter::tag(tag), Position::new(head.get() / 2)).unwrap();
        all.push((format!("last of {value}"), vec![counted, last.map_or(0, Position::get)]));
    }
    for number in [1, head.get() / 3, head.get()] {
        let commit = log.keyed(&format!("key {number}")).unwrap().unwrap();
        all.push((format!("key {number}"), vec![commit.first.get()]));
    }
    assert_eq!(log.keyed("no such key").unwrap(), None);
    all
}

/// Number of mapped files of a folder in this process, as the system reports it.
#[cfg(target_os = "linux")]
fn mapped(dir: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(dir.to_str().unwrap())).count()
}

/// Once, each segment and each index file stayed mapped. A process with a large log reached the
/// limit of the system and ended.
#[test]
fn a_log_of_many_segments_works_within_its_bound_of_mapped_files() {
    let segments = env::var("DIPTYCH_SEGMENTS").map_or(SEGMENTS, |text| text.parse().unwrap());
    let limit = usize::try_from(segments / SEGMENTS_PER_MAP).unwrap();
    // The log is in memory where that is possible, because each segment is synced several times.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let log = Log::open(dir.path(), options(limit)).unwrap();
    append(&log, 1..=segments * EACH);
    let written = answers(&log);
    log.close().unwrap();
    let log = Log::open(dir.path(), options(limit)).unwrap();
    assert_eq!(answers(&log), written);
    let stats = log.blocking().stats().unwrap();
    assert!(stats.segments >= segments, "{}", stats.segments);
    assert!(stats.maps <= stats.maps_limit && stats.maps > 0, "{}", stats.maps);
    assert_eq!(stats.maps_limit, limit as u64);
    assert!((1..32).contains(&stats.open_files), "{}", stats.open_files);
    #[cfg(target_os = "linux")]
    {
        // The newest segment has a mapping outside of the bound.
        let (mapped, most) = (mapped(dir.path()), limit + 1);
        assert!((1..=most).contains(&mapped), "{mapped} files are mapped");
    }
    drop(log);
    let unbounded = Log::open(dir.path(), options(usize::MAX)).unwrap();
    assert_eq!(answers(&unbounded), written);
}

#[test]
fn a_bound_that_is_too_small_for_a_look_up_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Log::open(dir.path(), options(15)).unwrap_err();
    assert!(matches!(error, OpenError::Options { .. }), "{error}");
    assert!(error.to_string().contains("mapped_files must be at least 16"), "{error}");
    Log::open(dir.path(), options(16)).unwrap();
}

/// A batch borrows from mapped files that the log unmaps before the batch is dropped.
#[test]
fn a_batch_stays_readable_when_the_log_unmaps_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options(16)).unwrap();
    append(&log, 1..=600);
    let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(batch.len(), 600);
    let with_batch = log.blocking().stats().unwrap().maps;
    assert!(with_batch > 100, "the segments of the batch count, although they are above the bound");
    answers(&log);
    for event in batch.iter() {
        assert_eq!(event.payload(), format!("{:0>200}", event.position().get()).as_bytes());
    }
    drop(batch);
    let without = log.blocking().stats().unwrap().maps;
    assert!(without <= 16, "{without} files are mapped");
}

#[test]
fn readers_agree_with_the_log_while_few_files_stay_mapped_and_files_are_merged_and_clustered() {
    const READERS: u64 = 4;
    const EVENTS: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { mapped_files: 16, tidy_after: Duration::ZERO, ..Tuning::default() };
    let options = LogOptions {
        segment_bytes: 8192,
        index_bytes: 1024,
        background: Background::Threads,
        clustering: Clustering::Background,
        tuning: Tuning { cluster_pause: 0, ..tuning },
        ..options(16)
    };
    let log = Log::open(dir.path(), options).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..READERS {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                let mut random = Random::new(reader);
                while !done.load(Ordering::Relaxed) {
                    check_some(log, &mut random);
                }
                (0..20).for_each(|_| check_some(log, &mut random));
            });
        }
        append(&log, 1..=EVENTS);
        log.blocking().cluster().unwrap();
        done.store(true, Ordering::Relaxed);
    });
    // An old catalog that a thread still has may keep more files mapped.
    let stats = log.blocking().stats().unwrap();
    assert!(stats.maps <= 2 * stats.maps_limit, "{} files are mapped", stats.maps);
}

/// Reads the events of one tag up to the present head, and looks up one key.
fn check_some(log: &Log, random: &mut Random) {
    let head = log.head().position();
    let value = random.below(TAGS);
    let read = Read::all().upto(head);
    let batch = log.blocking().read(&Filter::tag(Tag::new("some", value)), read).unwrap();
    let found: Vec<_> = batch.iter().map(|event| event.position().get()).collect();
    let expected: Vec<_> = (1..=head.get()).filter(|number| number % TAGS == value).collect();
    assert_eq!(found, expected);
    for event in batch.iter() {
        assert_eq!(event.payload(), format!("{:0>200}", event.position().get()).as_bytes());
    }
    if head > Position::START {
        let number = 1 + random.below(head.get());
        let commit = log.blocking().keyed(&format!("key {number}")).unwrap().unwrap();
        assert_eq!(commit.first, Position::new(number));
    }
}
