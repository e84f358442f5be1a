//! An operation fails once, because of a limit on open files, a lack of memory or an error of the
//! disk. A file that cannot be read now does not count as missing.
//!
//! Once, an open treated a file as missing if it could not be read because of a limit on open
//! files, a lack of memory or a read error. If this was an index file, a group file or the
//! published head, the proof that commits had been durable was lost. The open then cut off these
//! commits without an error, and assigned their positions again in the same epoch.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use diptych_log::{
    Background, Durability, Follower, Log, LogOptions, OpenError, ReadOnlyLog, SealedSegments,
    disk::simulated::{Fault, Operation, SimulatedDisk},
    verify,
};
use diptych_store::{
    Append, Digest, EventStore, Filter, Key, LogIdentity, Position, RawEvent, Read, ReadError, Tag,
    Unavailable,
};

use rustix::io::Errno;

use crate::{
    hooked::HookedDisk,
    log_files::{FOLDER, Files, disk_of, is},
    read_only::{append, check, on_simulated_disk},
};

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

/// It needs the segments. The groups only tell it whether a segment is of another copy.
#[test]
fn a_read_of_everything_goes_on_without_a_group_that_cannot_be_read() {
    let files = files(150, Durability::Synced, true);
    let events = |disk: &SimulatedDisk, fails: bool| {
        let log = Log::open(FOLDER, options(disk, Durability::Synced)).unwrap();
        if fails {
            disk.fail_after(0, Fault::Io(Operation::Map));
        }
        log.blocking().read(&Filter::everything(), Read::all()).unwrap().len()
    };
    let whole = disk_of(&files);
    assert!(whole.contents().iter().any(|(path, _)| is(path, "00000001-00000008.group")));
    assert_eq!(events(&disk_of(&files), true), events(&whole, false));
}

/// An error of the operating system that passes, the operations that can have it, and the advice in
/// the message about it.
struct Passing {
    error: Errno,
    operations: &'static [Operation],
    advice: &'static str,
}

const PASSING: [Passing; 3] = {
    use Operation::{
        Create, CreateDir, Link, List, Lock, Map, Open, Pin, Read, Remove, Rename, SetSize, Share,
        Size, Sync, SyncDir, Write,
    };
    [
        Passing {
            error: Errno::MFILE,
            operations: &[List, Create, Open, Map, Pin, Lock, SyncDir],
            advice: "ulimit -n",
        },
        Passing {
            error: Errno::NOMEM,
            operations: &[List, Create, Open, Map, Pin, Share, Read],
            advice: "vm.max_map_count",
        },
        Passing {
            error: Errno::IO,
            operations: &[
                CreateDir, List, Create, Open, Map, Rename, Link, Remove, SyncDir, Pin, Lock, Size,
                Read, Write, SetSize, Sync, Share,
            ],
            advice: "diptych verify",
        },
    ]
};

/// The operation that failed: its kind and its file.
type FailedOperation = Arc<Mutex<Option<(Operation, PathBuf)>>>;

/// A disk on which the operation number `at` of those that can have it gets this error.
fn failing_once(
    disk: &SimulatedDisk,
    passing: &'static Passing,
    at: usize,
) -> (HookedDisk, FailedOperation) {
    let (fired, count) = (FailedOperation::default(), AtomicUsize::new(0));
    let notes = fired.clone();
    let hooked = HookedDisk::new(disk, move |operation, path| {
        let may_fail = passing.operations.contains(&operation);
        if !may_fail || count.fetch_add(1, Ordering::SeqCst) != at {
            return Ok(());
        }
        *notes.lock().unwrap() = Some((operation, path.to_owned()));
        Err(std::io::Error::from_raw_os_error(passing.error.raw_os_error()))
    });
    (hooked, fired)
}

/// The commits that were acknowledged in the life of a log, and the errors that its callers got.
#[derive(Default)]
struct Life {
    acknowledged: Vec<u64>,
    backed_up: Option<u64>,
    errors: Vec<String>,
}

const BEFORE: u64 = 30;
const AFTER: u64 = 60;
const BACKUP: &str = "/data/backup";

/// Opens a log, commits, completes segments, clusters them, reads, backs up, closes, and reads the
/// log from outside.
fn live(options: &LogOptions) -> Life {
    let mut life = Life::default();
    let log = match Log::open(FOLDER, options.clone()) {
        Ok(log) => log,
        Err(error) => {
            life.errors.push(error.to_string());
            return life;
        }
    };
    for number in BEFORE..AFTER {
        match log.blocking().commit(Append::event(event(number)).key(key(number))) {
            Ok(_) => life.acknowledged.push(number),
            Err(error) => life.errors.push(error.to_string()),
        }
    }
    let head = log.head().position().get();
    match log.blocking().read(&Filter::everything(), Read::all()) {
        Ok(batch) => assert_eq!(batch.len() as u64, head),
        Err(error) => life.errors.push(error.to_string()),
    }
    match log.backup_to(BACKUP, SealedSegments::Copy, |_, _| ()) {
        Ok(report) => life.backed_up = Some(report.upto.get()),
        Err(error) => life.errors.push(error.to_string()),
    }
    life.errors.extend(log.close().err().map(|error| error.to_string()));
    match ReadOnlyLog::open(FOLDER, options.clone()) {
        Ok(reader) => match reader.blocking().read(&Filter::everything(), Read::all()) {
            Ok(batch) => assert_eq!(batch.len() as u64, reader.head().position().get()),
            Err(error) => life.errors.push(error.to_string()),
        },
        Err(error) => life.errors.push(error.to_string()),
    }
    match Follower::open(FOLDER, Position::START, options.clone()) {
        Ok(mut follower) => match follower.next(&Filter::everything(), 1_000) {
            Ok(batch) => assert_eq!(batch.len() as u64, follower.head().get()),
            Err(error) => life.errors.push(error.to_string()),
        },
        Err(error) => life.errors.push(error.to_string()),
    }
    life
}

/// Checks the log after a life in which one operation failed.
fn check_after(disk: &SimulatedDisk, life: &Life, epoch: LogIdentity, when: &str) {
    let options = options(disk, Durability::Synced);
    let log = Log::open(FOLDER, options.clone()).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(log.identity(), epoch, "{when}");
    let all = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    let text = |payload| str::from_utf8(payload).unwrap();
    let found: Vec<u64> = all.iter().map(|event| text(event.payload()).parse().unwrap()).collect();
    assert!(found.is_sorted_by(|one, next| one < next), "{when}: {found:?}");
    let lost = (0..BEFORE).chain(life.acknowledged.iter().copied());
    let lost: Vec<u64> = lost.filter(|number| found.binary_search(number).is_err()).collect();
    assert!(lost.is_empty(), "{when}: acknowledged and lost: {lost:?}");
    for number in 0..AFTER {
        let expected = found.binary_search(&number).ok().map(|at| Position::new(at as u64 + 1));
        let keyed = log.blocking().keyed(&format!("key {number}")).unwrap();
        assert_eq!(keyed.map(|commit| commit.first), expected, "{when}: key {number}");
    }
    log.close().unwrap();
    verify(FOLDER, &options, |_, _| ()).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    if let Some(upto) = life.backed_up {
        let report = verify(BACKUP, &options, |_, _| ());
        let report = report.unwrap_or_else(|error| panic!("{when}: the backup: {error:?}"));
        assert_eq!(report.events, upto, "{when}");
    }
}

/// Every error names the file, the operation, the cause and the next step. It may come late: a log
/// that stopped says why in every answer.
fn check_errors(life: &Life, passing: &Passing, path: &Path, when: &str) {
    let cause = std::io::Error::from_raw_os_error(passing.error.raw_os_error()).to_string();
    for error in &life.errors {
        // The operation may also be on the folder above.
        let names_file =
            error.contains("/data") || error.contains(&format!(" {}: ", path.display()));
        assert!(names_file, "{when}: no file: {error}");
        assert!(error.contains("cannot "), "{when}: no operation: {error}");
        assert!(error.contains(&cause), "{when}: no cause: {error}");
        assert!(error.contains(passing.advice), "{when}: no advice: {error}");
    }
}

#[test]
fn a_passing_error_at_any_operation_loses_nothing_and_is_explained() {
    let files = files(BEFORE, Durability::Synced, true);
    let epoch = identity(&files, Durability::Synced);
    for passing in &PASSING {
        let (mut at, mut reported) = (0, 0);
        loop {
            let disk = disk_of(&files);
            let (hooked, fired) = failing_once(&disk, passing, at);
            let life =
                live(&LogOptions { disk: Arc::new(hooked), ..options(&disk, Durability::Synced) });
            let Some((operation, path)) = fired.lock().unwrap().clone() else { break };
            let when = format!("{:?} in {operation:?} of {}", passing.error, path.display());
            check_errors(&life, passing, &path, &when);
            reported += usize::from(!life.errors.is_empty());
            check_after(&disk, &life, epoch, &when);
            at += 1;
        }
        assert!(at > 100 && reported > at / 3, "{:?}: {reported} of {at}", passing.error);
        println!("{:?}: {reported} of {at} failures were reported", passing.error);
    }
}

/// If any operation fails, the open or the read reports it or succeeds by trying again.
#[test]
fn a_passing_error_never_changes_an_answer() {
    let (disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=150);
    let before = disk.contents();
    for operation in [Operation::List, Operation::Open, Operation::Map, Operation::Read] {
        for after in 0..50 {
            disk.fail_after(after, Fault::Io(operation));
            let opened = ReadOnlyLog::open(FOLDER, reading.clone());
            disk.disarm();
            let reader = opened.or_else(|_| ReadOnlyLog::open(FOLDER, reading.clone())).unwrap();
            disk.fail_after(after, Fault::Io(operation));
            let tag = Tag::new("some", 5);
            let found = reader.blocking().count(&tag, Position::MAX);
            disk.disarm();
            assert!(found.is_err() || found.unwrap() == 12);
            check(&reader, 150);
        }
    }
    assert_eq!(disk.contents(), before);
}
