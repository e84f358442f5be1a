//! Processes that back up or restore are killed at any moment, while another process writes.

use std::{fs, path::Path, thread, time::Duration};

use diptych_log::{
    BackupOptions, Log, OpenError, SealedSegments, VerifyError, backup, disk::simulated::Random,
    restore, verify,
};
use diptych_store::{EventStore, LogIdentity};

use crate::{
    backup::{files, payloads},
    check,
    crash::{TestChild, kills, options},
    witness::{self, WriterCommits},
};

/// The work of a child with this role; `None` if this module does not have the role.
pub(crate) fn role(name: &str) -> Option<fn(&Path, u64)> {
    match name {
        "back up" => Some(back_up),
        "restore" => Some(restore_again_and_again),
        _ => None,
    }
}

fn back_up(folder: &Path, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let sealed = *random.pick(&[SealedSegments::Link, SealedSegments::Copy]).unwrap();
        let options = BackupOptions { sealed, ..BackupOptions::default() };
        let done = backup(folder.join("log"), folder.join("backup"), &options, |_, _| {});
        done.unwrap();
    }
}

fn restore_again_and_again(folder: &Path, seed: u64) {
    for number in 0.. {
        let to = folder.join(format!("restored-{seed}-{number}"));
        restore(folder.join("backup"), to, &options("write", seed), |_, _| {}).unwrap();
    }
}

/// The number of events in a backup; `None` if no backup was ever finished.
fn found_in(backup: &Path) -> Option<u64> {
    match verify(backup, &options("write", 1), |_, _| {}) {
        Ok(verified) => Some(verified.events),
        Err(VerifyError::Open(OpenError::Unfinished { .. } | OpenError::Io { .. })) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Number of kills for each log. A backup of a large log takes longer than a child lives.
const KILLS_A_LOG: u64 = 10;

#[test]
fn a_backup_survives_kills_while_the_log_is_written_to() {
    let kills = kills();
    let rounds = (0..kills).step_by(KILLS_A_LOG as usize);
    let newer = rounds.map(|first| kill_again_and_again(first..(first + KILLS_A_LOG).min(kills)));
    let newer: u64 = newer.sum();
    println!("{kills} kills, of which {newer} found a newer backup");
    assert!(newer > 0, "the children were killed before they could copy");
}

/// Returns how many kills found a newer backup than the kill before.
fn kill_again_and_again(rounds: std::ops::Range<u64>) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let (log, copy) = (folder.path().join("log"), folder.path().join("backup"));
    let (mut before, mut newer) = (None, 0);
    for round in rounds {
        let seed = 5_000 + round;
        let mut random = Random::new(seed);
        let writer = TestChild::spawn("write", folder.path(), seed, round);
        let child = TestChild::spawn("back up", folder.path(), seed, round);
        thread::sleep(Duration::from_millis(1 + random.below(90)));
        child.kill();
        let found = found_in(&copy);
        assert!(found >= before, "the backup lost events: {found:?}, {before:?}");
        newer += u64::from(found > before);
        before = found;
        writer.kill();
        if random.chance(10) {
            let _ = fs::remove_dir_all(&copy);
            before = None;
        }
    }
    let log = Log::open(log, options("write", 1)).unwrap();
    let scan = check::scan(&log).unwrap();
    WriterCommits::of(&scan).has_all(&witness::read(&folder.path().join("witness")));
    if let Some(events) = before {
        let backup = Log::open(&copy, options("write", 1)).unwrap();
        assert_eq!(payloads(&backup), payloads(&log)[..usize::try_from(events).unwrap()]);
    }
    let done = log.backup_to(&copy, SealedSegments::Link, |_, _| {}).unwrap();
    let backup = Log::open(&copy, options("write", 1)).unwrap();
    assert_eq!(payloads(&backup), payloads(&log));
    assert_eq!(done.upto, log.head().position());
    newer
}

#[test]
fn a_killed_restore_leaves_no_log_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let source = options("write", 3);
    let log = Log::open(folder.path().join("log"), source.clone()).unwrap();
    crate::backup::append(&log, 300);
    let identity = EventStore::identity(&log);
    log.backup_to(folder.path().join("backup"), SealedSegments::Copy, |_, _| {}).unwrap();
    let (in_backup, expected) = (files(&folder.path().join("backup")), payloads(&log));
    let (mut unfinished, mut whole) = (0, 0);
    for round in 0..kills() / 2 {
        let seed = 7_000 + round;
        let child = TestChild::spawn("restore", folder.path(), seed, round);
        // Every third child gets more time, so that some restores finish even on a busy machine.
        let most = if round % 3 == 2 { 2_000 } else { 40 };
        thread::sleep(Duration::from_millis(1 + Random::new(seed).below(most)));
        child.kill();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let dir = entry.unwrap().path();
            if !dir.file_name().unwrap().to_str().unwrap().starts_with("restored") {
                continue;
            }
            if Log::open(&dir, source.clone()).is_err() {
                unfinished += 1;
                restore(folder.path().join("backup"), &dir, &source, |_, _| {}).unwrap();
            }
            whole += u64::from(is_restored(&dir, identity, &expected));
            fs::remove_dir_all(&dir).unwrap();
        }
        assert_eq!(files(&folder.path().join("backup")), in_backup);
    }
    println!("{unfinished} restores were cut off, all {whole} are whole in the end");
    assert!(unfinished > 0 && whole > unfinished);
}

/// Whether the folder has the restored log. If the restore was killed before it wrote a file, the
/// folder opens as a new log.
fn is_restored(dir: &Path, backup: LogIdentity, expected: &[Vec<u8>]) -> bool {
    let log = Log::open(dir, options("write", 3)).unwrap();
    let identity = EventStore::identity(&log);
    if identity.id != backup.id {
        assert_eq!(log.head().position().get(), 0);
        return false;
    }
    assert_eq!(identity.epoch.number(), backup.epoch.number() + 1);
    assert_eq!(payloads(&log), expected);
    true
}
