//! Reads of whole commits and of their ends, over many small segments and in both orders of the
//! frames.

use std::sync::{Arc, Mutex};

use diptych_log::{
    Background, Clustering, Durability, Follower, Log, LogOptions, Tuning,
    disk::simulated::{Operation, SimulatedDisk},
};
use diptych_store::{
    Append, CommitBatch, Digest, EventStore, Filter, Key, Position, RawEvent, Read, ReadCommits,
    ReadError, Tag, Tracking,
};

use crate::{
    hooked::HookedDisk,
    log_files::{FOLDER, disk_of, is, with},
};

/// The facts about a commit: its positions, its key and its tracking.
type Facts = (u64, u64, Option<Key>, Option<Tracking>);

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 500,
        background: Background::Inline,
        clustering: Clustering::Off,
        durability: Durability::Interval { interval: std::time::Duration::from_secs(3600) },
        ..LogOptions::default()
    }
}

fn append(number: u64) -> Append {
    // Every tenth commit follows enough commits without events to fill more than one segment.
    let tag = |at: u64| Tag::new("account", at % 3);
    let count = if number % 10 == 9 { 30 } else { number % 4 + 1 };
    let events = (0..count).map(|at| RawEvent::new("counted", "{}").tag(tag(number + at)));
    let append = Append::events(events);
    let append = match number % 3 {
        0 => append.key(Key::new(format!("key {number}"), Digest([number as u8; 16]))),
        _ => append,
    };
    match number % 5 {
        0 => append.tracking(Tracking::new("with-events", number + 1)),
        _ => append,
    }
}

/// Fills a log, and returns the commits that a read has to give.
fn filled(log: &Log) -> Vec<Facts> {
    let (mut facts, mut imported, mut head) = (Vec::new(), 0, 0);
    for number in 0..60 {
        let alone = if number % 10 == 3 { 60 } else { number % 3 };
        for _ in 0..alone {
            imported += 1;
            let tracking = Tracking::new("alone", imported);
            log.blocking().commit(Append::default().tracking(tracking)).unwrap();
        }
        if alone > 0 {
            let newest = Tracking::new("alone", imported);
            facts.push((head + 1, head, None, Some(newest)));
        }
        let append = append(number);
        let (key, tracking) = (append.key.clone(), append.tracking.clone());
        let committed = log.blocking().commit(append).unwrap();
        head = committed.last.get();
        facts.push((committed.first.get(), head, key, tracking));
    }
    facts
}

fn read(log: &Log, read: ReadCommits) -> Vec<Facts> {
    try_read(log, read).unwrap()
}

fn try_read(log: &Log, mut read: ReadCommits) -> Result<Vec<Facts>, ReadError> {
    let (head, mut facts) = (log.head().position(), Vec::new());
    loop {
        let batch: CommitBatch = log.blocking().commits(&read)?;
        for commit in batch.iter() {
            let positions: Vec<_> = commit.events().map(|event| event.position().get()).collect();
            let (first, last) = (commit.first().get(), commit.last().get());
            assert_eq!(positions, (first..=last).collect::<Vec<_>>());
            facts.push((first, last, commit.key().cloned(), commit.tracking().cloned()));
        }
        read.after = batch.upto();
        if batch.upto() == head {
            return Ok(facts);
        }
    }
}

fn check(log: &Log, expected: &[Facts]) {
    let everything = || ReadCommits::after(Position::START);
    assert_eq!(read(log, everything()), expected);
    assert_eq!(read(log, everything().limit_events(7)), expected);
    let ends = || expected.iter().filter(|(first, last, ..)| first <= last);
    for (_, after, ..) in ends() {
        let rest: Vec<_> = expected.iter().filter(|(first, ..)| first > after).cloned().collect();
        assert_eq!(read(log, ReadCommits::after((*after).into())), rest, "after {after}");
    }
    let head = log.head().position().get();
    for filter in ["*", "tag=account:1"] {
        let filter: Filter = filter.parse().unwrap();
        for upto in 1..=head {
            let batch = log.blocking().read(&filter, Read::all().upto(upto.into())).unwrap();
            let end = ends().find(|(_, last, ..)| *last >= batch.upto().get()).unwrap().1;
            assert_eq!(batch.commit_end().get(), end, "{filter}, up to {upto}");
        }
    }
}

#[test]
fn commits_are_whole_in_both_orders_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    let expected = filled(&log);
    let segments = log.blocking().stats().unwrap().segments;
    assert!(segments > 20, "the log has only {segments} segments");
    check(&log, &expected);
    log.close().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    check(&log, &expected);
    log.blocking().cluster().unwrap();
    check(&log, &expected);
    log.close().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    check(&log, &expected);
    log.close().unwrap();
}

/// Fills segments with commits without events, of two sources, and adds an event. Returns the
/// commits that a read has to give: the newest of each source.
fn filled_without_events(log: &Log) -> [Facts; 3] {
    let alone = |source: &str, position: u64| {
        let tracking = Tracking::new(source, position);
        log.blocking().commit(Append::default().tracking(tracking.clone())).unwrap();
        (1, 0, None, Some(tracking))
    };
    let early = alone("early", 7);
    for position in 1..200 {
        alone("late", position);
    }
    let late = alone("late", 200);
    log.blocking().commit(Append::event(RawEvent::new("counted", "{}"))).unwrap();
    let segments = log.blocking().stats().unwrap().segments;
    assert!(segments > 3, "the log has only {segments} segments");
    [early, late, (1, 1, None, None)]
}

/// Such a segment has no part of the index.
#[test]
fn the_newest_commit_of_a_source_is_read_from_a_segment_without_events() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    let expected = filled_without_events(&log);
    assert_eq!(read(&log, ReadCommits::after(Position::START)), expected);
    log.close().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(read(&log, ReadCommits::after(Position::START)), expected);
}

/// No position counts commits without events, so none is missing if they are left out.
#[test]
fn a_damaged_record_hides_no_commit_without_events() {
    let on = |disk: &SimulatedDisk| LogOptions { disk: Arc::new(disk.clone()), ..options() };
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, on(&disk)).unwrap();
    let expected = filled_without_events(&log);
    log.close().unwrap();
    let files = disk.contents();
    let first = files.iter().position(|(path, _)| is(path, ".seg")).unwrap();
    for at in 64..264 {
        let mut bytes = files[first].1.clone();
        bytes[at] ^= 0x80;
        let damaged = disk_of(&with(&files, first, &bytes));
        let log = Log::open(FOLDER, on(&damaged)).unwrap();
        match try_read(&log, ReadCommits::after(Position::START)) {
            Ok(found) => assert_eq!(found, expected, "byte {at}"),
            Err(error) => assert!(matches!(error, ReadError::Corrupt(_)), "byte {at}: {error}"),
        }
    }
}

#[test]
fn a_follower_knows_where_commits_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    let expected = filled(&log);
    log.blocking().cluster().unwrap();
    let head = log.head().position();
    for limit in [1, 3, 50] {
        let mut follower = Follower::open(dir.path(), Position::START, options()).unwrap();
        while follower.upto() < head {
            let batch = follower.next(&Filter::everything(), limit).unwrap();
            let upto = batch.upto().get();
            let around = expected.iter().find(|(first, last, ..)| first <= last && *last >= upto);
            assert_eq!(batch.commit_end().get(), around.unwrap().1, "limit {limit}, {upto}");
        }
    }
}

/// Once, a read reported a damaged segment, if commits of a later segment were published while it
/// ran. The exploration of schedules found that. Here the commits are published when the read
/// first looks into a segment: after or before it knows where the published bytes of the segment
/// end.
#[test]
fn a_read_of_commits_ends_at_its_head_while_later_segments_are_published() {
    for after in [0, 1] {
        let armed: Arc<Mutex<Option<Log>>> = Arc::default();
        let hook = armed.clone();
        let hooked = HookedDisk::new(&SimulatedDisk::new(1), move |operation, _| {
            let log = hook.lock().unwrap().take_if(|_| operation == Operation::Share);
            if let Some(log) = log {
                log.blocking().flush().unwrap();
            }
            Ok(())
        });
        // No append writes because parts of the index wait.
        let tuning = Tuning { waiting_parts: 100, ..Tuning::default() };
        let options = LogOptions { tuning, disk: Arc::new(hooked), ..options() };
        let log = Log::open(FOLDER, options).unwrap();
        let event = || Append::event(RawEvent::new("counted", vec![7; 100]));
        for _ in 0..3 {
            log.blocking().commit(event()).unwrap();
        }
        // Accepted and not written: the catalog has their segments, and readers must not see them.
        for _ in 0..20 {
            drop(log.blocking().append(event()).unwrap());
        }
        drop(log.blocking().append(Append::default().tracking(Tracking::new("alone", 1))).unwrap());
        *armed.lock().unwrap() = Some(log.clone());
        let batch = log.blocking().commits(&ReadCommits::after(after.into())).unwrap();
        assert!(armed.lock().unwrap().is_none(), "nothing was published meanwhile");
        assert_eq!(log.head().position(), Position::new(23));
        let found: Vec<_> =
            batch.iter().map(|commit| (commit.first().get(), commit.tracking())).collect();
        let expected: Vec<_> = (after + 1..=3).map(|first| (first, None)).collect();
        assert_eq!(found, expected);
        assert_eq!(batch.upto(), Position::new(3));
        log.close().unwrap();
    }
}
