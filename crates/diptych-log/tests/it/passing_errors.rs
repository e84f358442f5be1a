//! A file that cannot be read now does not count as missing.
//!
//! Once, an open treated a file as missing if it could not be read because of a limit on open
//! files, a lack of memory or a read error. If this was an index file, a group file or the
//! published head, the proof that commits had been durable was lost. The open then cut off these
//! commits without an error, and assigned their positions again in the same epoch.

use std::{path::PathBuf, sync::Arc, time::Duration};

use diptych_log::{
    Background, Durability, Log, LogOptions, OpenError,
    disk::simulated::{Fault, Operation, SimulatedDisk},
    verify,
};
use diptych_store::{
    Append, Digest, EventStore, Filter, Key, LogIdentity, Position, RawEvent, Read, ReadError, Tag,
    Unavailable,
};

use crate::log_files::{FOLDER, Files, disk_of, is};

/// The segments are small, so that a few hundred commits fill the segments of a group.
fn options(disk: &SimulatedDisk, durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        segment_bytes: 1024,
        index_bytes: 400,
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn event(number: u64) -> RawEvent {
    RawEvent::new("counted", number.to_string()).tag(Tag::new("odd", number % 2))
}

fn key(number: u64) -> Key {
    Key::new(format!("key {number}"), Digest([number as u8; 16]))
}

/// The files of a log that was closed, or that was killed after the last commit.
fn files(commits: u64, durability: Durability, closed: bool) -> Files {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk, durability)).unwrap();
    for number in 0..commits {
        log.blocking().commit(Append::event(event(number)).key(key(number))).unwrap();
    }
    if closed {
        log.close().unwrap();
        return disk.contents();
    }
    disk.process_kill().contents()
}

/// Changes the last byte that is not zero.
fn spoil_the_end(bytes: &mut [u8]) {
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
}

/// Logs that have lost commits. In each of them only one kind of file proves the loss.
fn with_losses() -> Vec<(&'static str, Files)> {
    let mut cut = files(25, Durability::Synced, true);
    let last = cut.iter().rposition(|(path, _)| is(path, ".seg")).unwrap();
    let half = cut[last].1.len() / 2;
    cut[last].1.truncate(half);
    cut.retain(|(path, _)| !is(path, "head"));

    let mut spoilt = files(3, Durability::Synced, false);
    let last = spoilt.iter().rposition(|(path, _)| is(path, ".seg")).unwrap();
    spoil_the_end(&mut spoilt[last].1);
    spoilt.retain(|(path, _)| !is(path, ".run"));

    let mut gone = files(25, Durability::Synced, true);
    let last = gone.iter().rposition(|(path, _)| is(path, ".seg")).unwrap();
    gone.remove(last);
    gone.retain(|(path, _)| !is(path, "head"));

    let mut nothing = files(3, Durability::Synced, false);
    nothing.retain(|(path, _)| is(path, "head"));
    vec![
        ("the last segment is cut, and its index says so", cut),
        ("the last commit is not whole, and the published head says so", spoilt),
        ("the last segment is missing, and its index says so", gone),
        ("the only segment is missing, and the published head says so", nothing),
    ]
}

#[test]
fn a_failed_operation_does_not_remove_the_proof_of_a_loss() {
    for (what, files) in with_losses() {
        let refused = |disk: &SimulatedDisk, when: &str| {
            let error = Log::open(FOLDER, options(disk, Durability::Synced)).unwrap_err();
            assert!(matches!(error, OpenError::Corrupt(_)), "{what}, {when}: {error}");
        };
        let whole = disk_of(&files);
        let before = whole.operations();
        refused(&whole, "nothing fails");
        let operations = whole.operations() - before;
        for (after, operation) in
            (0..operations).flat_map(|after| Operation::ALL.map(|operation| (after, operation)))
        {
            let disk = disk_of(&files);
            disk.fail_after(after, Fault::Io(operation));
            let when = format!("{operation:?} fails after {after} operations");
            let opened = Log::open(FOLDER, options(&disk, Durability::Synced));
            let error = opened.err().unwrap_or_else(|| panic!("{what}: it opens when {when}"));
            if let OpenError::Io { what, cause } = &error {
                let text = error.to_string();
                // The operation may also be on the folder above.
                assert!(text.contains("/data"), "{when}: no file in {text}");
                assert!(text.contains("simulated"), "{when}: no cause in {what}: {cause}");
            }
            disk.disarm();
            refused(&disk, &when);
        }
    }
}

/// Reads the log in every way and checks the answers; `None` if the disk fails.
fn read_all(log: &Log, commits: u64, when: &str) -> Option<()> {
    let log = log.blocking();
    let answered = |error: ReadError| match &error {
        ReadError::Unavailable(Unavailable::Storage { .. }) => {
            let text = error.to_string();
            assert!(text.contains(FOLDER) && text.contains("simulated"), "{when}: {text}");
        }
        _ => panic!("{when}: {error}"),
    };
    for number in [0, commits / 2, commits - 1] {
        let found = log.keyed(&format!("key {number}")).map_err(answered).ok()?;
        assert_eq!(found.map(|commit| commit.first.get()), Some(number + 1), "{when}");
    }
    assert_eq!(log.keyed("no key").map_err(answered).ok()?, None);
    let odd = Tag::new("odd", 1);
    let counted = log.count(&odd, Position::MAX).map_err(answered).ok()?;
    assert_eq!(counted, commits / 2, "{when}");
    let found = log.read(&Filter::tag(odd), Read::all()).map_err(answered).ok()?;
    assert_eq!(found.len() as u64, commits / 2, "{when}");
    let all = log.read(&Filter::everything(), Read::all()).map_err(answered).ok()?;
    let all: Vec<RawEvent> = all.iter().map(|event| event.to_raw()).collect();
    assert_eq!(all, (0..commits).map(event).collect::<Vec<_>>(), "{when}");
    Some(())
}

fn identity(files: &[(PathBuf, Vec<u8>)], durability: Durability) -> LogIdentity {
    Log::open(FOLDER, options(&disk_of(files), durability)).unwrap().identity()
}

#[test]
fn a_failed_operation_loses_no_events_and_keeps_the_epoch() {
    let interval = Durability::Interval { interval: Duration::from_secs(1_000) };
    for (commits, durability, closed) in
        [(150, Durability::Synced, true), (30, Durability::Synced, false), (30, interval, false)]
    {
        let files = files(commits, durability, closed);
        let expected = identity(&files, durability);
        let grouped = files.iter().any(|(path, _)| is(path, ".group"));
        assert_eq!(grouped, closed, "the closed log has groups");
        let life =
            |disk: &SimulatedDisk, when: &str| match Log::open(FOLDER, options(disk, durability)) {
                Ok(log) => read_all(&log, commits, when).is_some(),
                Err(OpenError::Io { .. }) => false,
                Err(other) => panic!("{when}: {other}"),
            };
        let whole = disk_of(&files);
        let before = whole.operations();
        assert!(life(&whole, "nothing fails"));
        let operations = whole.operations() - before;
        for (after, operation) in
            (0..operations).flat_map(|after| Operation::ALL.map(|operation| (after, operation)))
        {
            let disk = disk_of(&files);
            disk.fail_after(after, Fault::Io(operation));
            let when = format!("{operation:?} fails after {after} operations");
            life(&disk, &when);
            disk.disarm();
            let log = Log::open(FOLDER, options(&disk, durability)).unwrap();
            assert_eq!(log.identity(), expected, "{when}");
            assert_eq!(read_all(&log, commits, &when), Some(()), "{when}: it still fails");
            log.close().unwrap();
            if let Err(error) = verify(FOLDER, &options(&disk, durability), |_, _| ()) {
                panic!("{when}: {error:?}");
            }
        }
    }
}

/// Once, a log did not use a group file that could not be read until it was opened again.
#[test]
fn a_group_that_cannot_be_read_is_read_again_later() {
    let files = files(150, Durability::Synced, true);
    // The number of disk operations until a look-up succeeds.
    let cost = |fails_after: Option<u64>| {
        let disk = disk_of(&files);
        let log = Log::open(FOLDER, options(&disk, Durability::Synced)).unwrap();
        let before = disk.operations();
        if let Some(after) = fails_after {
            disk.fail_after(after, Fault::Io(Operation::Map));
        }
        let answer = (0..3).find_map(|_| log.blocking().keyed("no key").ok());
        assert_eq!(answer, Some(None));
        disk.operations() - before
    };
    let whole = cost(None);
    for after in 0..whole {
        let failed = cost(Some(after));
        assert!(
            failed <= whole + 1,
            "{failed} operations instead of {whole}: the look-up searched all segments"
        );
    }
}
