//! Space that is written ahead of the commits.

use std::{fs, path::Path, sync::Arc};

use diptych_log::{
    Background, Clustering, Durability, Log, LogOptions,
    disk::simulated::{Operation, SimulatedDisk},
};
use diptych_store::{Append, EventStore, RawEvent};

const FOLDER: &str = "/data/log";

fn inline(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn commit(log: &Log, bytes: usize) {
    log.blocking().commit(Append::event(RawEvent::new("filled", vec![7; bytes]))).unwrap();
}

/// The bytes of the only segment.
fn segment(disk: &SimulatedDisk) -> Vec<u8> {
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "seg");
    let mut files = disk.contents().into_iter().filter(|(path, _)| is_segment(path));
    files.next().unwrap().1
}

/// How many zeros a segment ends with. Fewer than 8 are none: a checksum can end with zeros.
fn zeros(bytes: &[u8]) -> usize {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    if zeros < 8 { 0 } else { zeros }
}

#[test]
fn a_killed_log_continues_where_its_commits_end_and_not_where_its_file_ends() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, inline(&disk)).unwrap();
    (0..20).for_each(|_| commit(&log, 300));
    let killed = disk.process_kill();
    assert!(zeros(&segment(&killed)) > 50_000, "nothing was prepared");
    let log = Log::open(FOLDER, inline(&killed)).unwrap();
    assert_eq!((log.head().position().get(), zeros(&segment(&killed))), (20, 0));
    (0..20).for_each(|_| commit(&log, 300));
    log.close().unwrap();
    assert_eq!(zeros(&segment(&killed)), 0, "a log that was closed has no more than its commits");
    let log = Log::open(FOLDER, inline(&killed)).unwrap();
    assert_eq!(log.head().position().get(), 40);
}

#[test]
fn commits_use_the_prepared_space_and_a_complete_segment_ends_with_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    // Clustering is off, because it would replace the files.
    let clustering = Clustering::Off;
    let options = LogOptions { segment_bytes: 300_000, clustering, ..LogOptions::default() };
    let log = Log::open(dir.path(), options).unwrap();
    let files = || {
        let files = fs::read_dir(dir.path().join("segments")).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let mut sizes = Vec::new();
    for _ in 0..1_000 {
        commit(&log, 1_000);
        sizes.push(fs::metadata(files().last().unwrap()).unwrap().len());
    }
    sizes.dedup();
    assert!(sizes.len() < 60, "the file grew {} times in 1,000 commits", sizes.len());
    // The next segment can be there before the complete one is cut.
    log.close().unwrap();
    assert!(files().len() > 3);
    for file in files() {
        assert_eq!(zeros(&fs::read(&file).unwrap()), 0, "{} has more", file.display());
    }
}

#[test]
fn large_batches_and_syncs_at_intervals_prepare_nothing() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, inline(&disk)).unwrap();
    (0..10).for_each(|_| commit(&log, 400_000));
    assert_eq!(zeros(&segment(&disk)), 0);
    let disk = SimulatedDisk::new(2);
    let interval = std::time::Duration::from_secs(3600);
    let durability = Durability::Interval { interval };
    let log = Log::open(FOLDER, LogOptions { durability, ..inline(&disk) }).unwrap();
    (0..10).for_each(|_| commit(&log, 300));
    assert_eq!(zeros(&segment(&disk)), 0);
    drop(log);
}

#[test]
fn a_disk_without_space_to_prepare_still_takes_commits() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, inline(&disk)).unwrap();
    disk.set_capacity(disk.used_bytes() + 20_000);
    (0..20).for_each(|_| commit(&log, 300));
    let tried = disk.count(Operation::Write);
    (0..20).for_each(|_| commit(&log, 300));
    // Each commit writes its bytes and the published head. The log no longer tries to write zeros.
    assert_eq!(disk.count(Operation::Write) - tried, 40);
    log.close().unwrap();
}

/// Once, after a kill, the zeros at the end of an event were taken for prepared space.
#[test]
fn an_event_of_zeros_is_not_taken_for_prepared_space() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, inline(&disk)).unwrap();
    for bytes in [100, 5_000, 20_000] {
        let event = RawEvent::new("empty", vec![0; bytes]);
        log.blocking().commit(Append::event(event)).unwrap();
        let killed = disk.process_kill();
        let again = Log::open(FOLDER, inline(&killed)).unwrap();
        assert_eq!(again.head().position(), log.head().position(), "{bytes} zeros");
    }
}
