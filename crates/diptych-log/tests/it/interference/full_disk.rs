//! A disk without space, at every step of a life of a log, and space that comes back.
//!
//! Acknowledged commits stay. Refused commits never appear. A commit whose outcome was open
//! appears once. No position is given twice, no epoch changes, and the log goes on with the handle
//! that was open.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{ErrorKind, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use diptych_log::{
    Background, Durability, Log, LogOptions, OpenError, Tuning,
    disk::{
        Disk,
        simulated::{Fault, Operation, SimulatedDisk},
    },
    verify,
};
use diptych_store::{
    Append, AppendError, Digest, EventStore, Filter, Key, LogIdentity, Position, RawEvent, Read,
    Refusal, SyncError, Tag, Unavailable,
};
use pollster::block_on;

use crate::{
    hooked::HookedDisk,
    log_files::{FOLDER, is},
    mounts::run_mounted,
    seeds::faults_at,
};

/// Commits of each of the two parts of a life.
const COMMITS: u64 = 36;

fn options(disk: Arc<dyn Disk>, durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        background: Background::Inline,
        // Each segment has several index files, and some get a filter and are clustered.
        segment_bytes: 6_000,
        index_bytes: 1_500,
        tuning: Tuning { prepared_bytes: 8 << 10, ..Tuning::default() },
        disk,
        ..LogOptions::default()
    }
}

fn key(number: u64) -> Key {
    Key::new(format!("key {number}"), Digest([number as u8; 16]))
}

fn commit(log: &Log, number: u64) -> Result<u64, AppendError> {
    let event = RawEvent::new("counted", vec![number as u8; 400]);
    let event = event.tag(Tag::new("five", number % 5)).tag(Tag::new("own", number));
    let committed = log.blocking().commit(Append::event(event).key(key(number)))?;
    Ok(committed.last.get())
}

/// The answer to a commit that found no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CommitAnswer {
    Refused,
    Open,
}

/// `Ok` is the position of a commit that was acknowledged, now or before. Any error other than one
/// about space is a mistake.
fn offer(log: &Log, number: u64, when: &str) -> Result<u64, CommitAnswer> {
    let answer = commit(log, number);
    let text = answer.as_ref().map_or_else(ToString::to_string, ToString::to_string);
    match answer {
        Ok(position) => Ok(position),
        // It was accepted when its outcome was open.
        Err(AppendError::Refused(Refusal::KeyTaken { first, .. })) => Ok(first.get()),
        Err(AppendError::Unavailable(Unavailable::Storage { .. })) => {
            assert!(text.contains("/log/") && text.contains("free space"), "{when}: {text}");
            Err(CommitAnswer::Refused)
        }
        Err(AppendError::OutcomeUnknown(SyncError { cause: Unavailable::Storage { .. } })) => {
            assert!(text.contains("the store keeps the commit"), "{when}: {text}");
            Err(CommitAnswer::Open)
        }
        Err(error) => panic!("{when}: commit {number}: {error}"),
    }
}

/// The head of a log, whose events, tags and keys are those of the commits up to there.
fn check(log: &Log, when: &str) -> u64 {
    let head = log.head().position().get();
    let all = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    for (number, event) in (0..).zip(all.iter()) {
        assert_eq!(event.position(), Position::new(number + 1), "{when}");
        assert_eq!(event.payload(), [number as u8; 400], "{when}");
    }
    assert_eq!(all.len() as u64, head, "{when}");
    for number in [0, 1, head / 2, head.saturating_sub(1), head, head + 1] {
        let expected = (number < head).then(|| Position::new(number + 1));
        let found = log.blocking().keyed(&key(number).name).unwrap();
        assert_eq!(found.map(|commit| commit.first), expected, "{when}: key {number}");
        let tag = Filter::tag(Tag::new("own", number));
        let found = log.blocking().last(&tag, Position::MAX).unwrap();
        assert_eq!(found, expected, "{when}: tag {number}");
    }
    head
}

/// Opens a log, which needs no space if there is a log. Bytes that are there may be written again,
/// which needs space on some file systems: that fails once at most.
fn open(disk: &SimulatedDisk, durability: Durability, is_new: bool, when: &str) -> Log {
    let open = || Log::open(FOLDER, options(Arc::new(disk.clone()), durability));
    let is_repair = |error: &OpenError| error.to_string().contains("cannot repair the end of");
    match open().or_else(|error| if is_repair(&error) { open() } else { Err(error) }) {
        Ok(log) => log,
        Err(error @ OpenError::Io { .. }) if is_new => {
            assert!(error.to_string().contains("free space"), "{when}: {error}");
            disk.disarm();
            open().unwrap()
        }
        Err(error) => panic!("{when}: it does not open: {error}"),
    }
}

/// A process that is killed now, and a machine that loses its power, keep what was acknowledged.
fn check_crashes(
    disk: &SimulatedDisk,
    durability: Durability,
    (acknowledged, told): (u64, CommitAnswer),
    when: &str,
) {
    let seed = acknowledged;
    let crashed = [("killed", disk.process_kill()), ("without power", disk.power_loss(seed))];
    let kept = if durability == Durability::Synced { 2 } else { 1 };
    for (how, crashed) in crashed.into_iter().take(kept) {
        let when = format!("{when}, {how} after {acknowledged}: {told:?}");
        // Still without space.
        crashed.fail_after(0, Fault::DiskStaysFull);
        let log = open(&crashed, durability, acknowledged == 0, &when);
        let head = check(&log, &when);
        let most = acknowledged + u64::from(told == CommitAnswer::Open);
        assert!((acknowledged..=most).contains(&head), "{when}: {head}");
        crashed.disarm();
        assert_eq!(commit(&log, head).unwrap(), head + 1, "{when}");
        log.close().unwrap();
    }
}

struct Life {
    disk: SimulatedDisk,
    durability: Durability,
    /// How many more appends are tried before space is freed.
    patience: u64,
    identity: Option<LogIdentity>,
    met: BTreeSet<CommitAnswer>,
}

impl Life {
    /// Two opens, each with its commits, whatever finds no space.
    fn live(&mut self, when: &str) {
        for part in 0..2 {
            let log = open(&self.disk, self.durability, part == 0, when);
            assert_eq!(*self.identity.get_or_insert(log.identity()), log.identity(), "{when}");
            assert_eq!(check(&log, when), part * COMMITS, "{when}");
            for number in part * COMMITS..(part + 1) * COMMITS {
                self.commit(&log, number, when);
            }
            log.close().unwrap_or_else(|error| panic!("{when}: {error}"));
        }
        self.disk.disarm();
        let log = open(&self.disk, self.durability, false, when);
        assert_eq!(check(&log, when), 2 * COMMITS, "{when}");
        assert_eq!(Some(log.identity()), self.identity, "{when}");
        log.close().unwrap();
        let options = options(Arc::new(self.disk.clone()), self.durability);
        if let Err(error) = verify(FOLDER, &options, |_, _| {}) {
            panic!("{when}: {error:?}");
        }
    }

    /// Offers a commit until it is acknowledged, or found under its key.
    fn commit(&mut self, log: &Log, number: u64, when: &str) {
        let told = match offer(log, number, when) {
            Ok(position) => return assert_eq!(position, number + 1, "{when}"),
            Err(told) => told,
        };
        self.met.insert(told);
        assert_eq!(check(log, when), number, "{when}: what was not acknowledged is not shown");
        check_crashes(&self.disk, self.durability, (number, told), when);
        for _ in 0..self.patience {
            match offer(log, number, when) {
                // It was full for one operation only.
                Ok(position) => return assert_eq!(position, number + 1, "{when}"),
                Err(CommitAnswer::Refused) => {}
                Err(CommitAnswer::Open) => {
                    assert_eq!(told, CommitAnswer::Refused, "{when}: it is accepted twice")
                }
            }
            assert!(log.head().paused().is_some() && !log.head().is_ended(), "{when}");
            assert!(log.blocking().stats().unwrap().takes_no_commits.is_some(), "{when}");
        }
        self.disk.disarm();
        let again = commit(log, number);
        let is_known = matches!(again, Err(AppendError::Refused(Refusal::KeyTaken { .. })));
        assert_eq!(is_known, told == CommitAnswer::Open, "{when}: with space: {again:?}");
        assert_eq!(offer(log, number, when), Ok(number + 1), "{when}");
        assert!(log.head().paused().is_none(), "{when}");
        assert!(log.blocking().stats().unwrap().takes_no_commits.is_none(), "{when}");
    }
}

#[test]
fn a_log_goes_on_whatever_finds_no_space() {
    let interval = Durability::Interval { interval: Duration::from_secs(1_000) };
    let (mut met, mut kinds, mut lives) = (BTreeSet::new(), BTreeSet::new(), 0);
    for durability in [Durability::Synced, interval] {
        let life = |disk: &SimulatedDisk, patience| Life {
            disk: disk.clone(),
            durability,
            patience,
            identity: None,
            met: BTreeSet::new(),
        };
        let whole = SimulatedDisk::new(0);
        life(&whole, 0).live("nothing fails");
        let operations = whole.operations();
        // At each operation the disk is full for that one or from there on; in a longer run, both.
        let faults = |after| {
            let both = [Fault::DiskFull, Fault::DiskStaysFull];
            faults_at(after, both).map(move |fault| (after, fault))
        };
        for (after, fault) in (0..operations).flat_map(faults) {
            let disk = SimulatedDisk::new(after);
            disk.fail_after(after, fault);
            let when = format!("{durability:?}: {fault:?} after {after} operations");
            lives += 1;
            let mut life = life(&disk, after % 3);
            life.live(&when);
            met.append(&mut life.met);
            kinds.extend(disk.failures().iter().map(|failure| kind(failure)));
        }
    }
    println!("{lives} lives: {kinds:?}");
    assert_eq!(met, BTreeSet::from([CommitAnswer::Refused, CommitAnswer::Open]));
    for wanted in
        ["Create seg", "Write seg", "Create tmp", "Write tmp", "Write head", "Create head"]
    {
        assert!(kinds.contains(wanted), "{wanted} is not among {kinds:?}");
    }
}

/// The operation that found no space, and the kind of its file.
fn kind(failure: &str) -> String {
    let words: Vec<_> = failure.split(' ').collect();
    let operation = words.first().copied().unwrap_or("");
    let path = words.iter().find(|word| word.starts_with('/')).copied().unwrap_or("");
    let name = path.rsplit('/').next().unwrap_or("");
    format!("{operation} {}", name.rsplit_once('.').map_or(name, |(_, ending)| ending))
}

/// Once, an application that was started again on a full disk did not start: a log with a torn end
/// begins a new segment, and each log notes that it is open.
#[test]
fn a_log_with_a_torn_end_opens_on_a_full_disk() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk, Durability::Synced, true, "new");
    (0..20).for_each(|number| assert_eq!(commit(&log, number).unwrap(), number + 1));
    let identity = log.identity();
    disk.set_capacity(disk.used_bytes() + 100);
    // The last of these is written in part.
    let torn = (20..).find(|number| commit(&log, *number).is_err()).unwrap();
    let disk = disk.process_kill();
    disk.set_capacity(u64::MAX);
    disk.fail_after(0, Fault::DiskStaysFull);
    let before = disk.contents();
    for _ in 0..2 {
        let log = open(&disk, Durability::Synced, false, "full");
        assert_eq!((check(&log, "full"), log.identity()), (torn, identity));
        for _ in 0..3 {
            assert_eq!(offer(&log, torn, "full"), Err(CommitAnswer::Refused));
        }
        // Nothing was accepted, so nothing is lost.
        log.close().unwrap();
    }
    let manifest = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        files.iter().find(|(path, _)| is(path, "manifest")).unwrap().1.clone()
    };
    assert_eq!(manifest(&disk.contents()), manifest(&before), "it was not replaced");
    let log = open(&disk, Durability::Synced, false, "full");
    assert_eq!(offer(&log, torn, "full"), Err(CommitAnswer::Refused));
    disk.disarm();
    assert_eq!(offer(&log, torn, "with space"), Ok(torn + 1));
    assert_ne!(manifest(&disk.contents()), manifest(&before), "it was replaced");
    let killed = disk.power_loss(7);
    let log = open(&killed, Durability::Synced, false, "again");
    assert_eq!((check(&log, "again"), log.identity()), (torn + 1, identity));
    log.close().unwrap();
}

/// Once, an open that was killed between the removal of an unfinished segment and its sync left a
/// name that a loss of power brought back, behind commits that had gone to the segment before. Then
/// the log did not open: that name stood for positions that were durable.
#[test]
fn the_name_of_a_segment_that_was_never_finished_does_not_come_back() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk, Durability::Synced, true, "new");
    (0..20).for_each(|number| assert_eq!(commit(&log, number).unwrap(), number + 1));
    let last = disk.contents().into_iter().map(|(path, _)| path).filter(|path| is(path, ".seg"));
    let last = last.max().unwrap();
    let disk = disk.process_kill();
    // The header of the next segment found no space.
    let name = last.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap().0;
    let next = format!("{:08}-{:020}.seg", name.parse::<u32>().unwrap() + 1, 21);
    let next = last.with_file_name(next);
    disk.create(&next, 0).unwrap();
    disk.sync_dir(next.parent().unwrap()).unwrap();
    disk.remove(&next).unwrap();
    let log = open(&disk, Durability::Synced, false, "after the removal");
    assert_eq!(commit(&log, 20).unwrap(), 21);
    for seed in 0..20 {
        let log = open(&disk.power_loss(seed), Durability::Synced, false, "after the loss");
        assert_eq!(check(&log, "after the loss"), 21);
    }
}

/// A new epoch that is not in the log would be another one after the next open.
#[test]
fn a_log_that_needs_a_new_epoch_needs_space_for_it() {
    let interval = Durability::Interval { interval: Duration::from_secs(1_000) };
    let disk = SimulatedDisk::new(1);
    let log = open(&disk, interval, true, "new");
    (0..5).for_each(|number| assert_eq!(commit(&log, number).unwrap(), number + 1));
    log.blocking().flush().unwrap();
    let identity = log.identity();
    let disk = disk.power_loss(3);
    disk.fail_after(0, Fault::DiskStaysFull);
    let refused = Log::open(FOLDER, options(Arc::new(disk.clone()), interval)).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("new epoch") && text.contains("free space"), "{text}");
    disk.disarm();
    let log = open(&disk, interval, false, "with space");
    assert_eq!(check(&log, "with space"), 5);
    assert_eq!(log.identity().epoch.number(), identity.epoch.number() + 1);
}

/// A log with threads whose segments find no space, or fail to sync for lack of it.
fn hooked(fails: Operation, full: &Arc<AtomicBool>) -> Log {
    let full = full.clone();
    let disk = HookedDisk::new(&SimulatedDisk::new(1), move |operation, path| {
        match full.load(Ordering::SeqCst) && operation == fails && is(path, ".seg") {
            true => Err(ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    });
    let disk: Arc<dyn Disk> = Arc::new(disk);
    Log::open(FOLDER, LogOptions { disk, ..LogOptions::default() }).unwrap()
}

#[test]
fn callers_are_answered_at_once_and_their_commits_come_with_the_space() {
    const CALLERS: u64 = 8;
    let full = Arc::new(AtomicBool::new(false));
    let log = hooked(Operation::Write, &full);
    assert_eq!(offer(&log, 0, "before"), Ok(1));
    full.store(true, Ordering::SeqCst);
    let told: Vec<_> = thread::scope(|scope| {
        let callers = (1..=CALLERS).map(|number| {
            let log = log.clone();
            (number, scope.spawn(move || offer(&log, number, "full").unwrap_err()))
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().map(|(number, caller)| (number, caller.join().unwrap())).collect()
    });
    let accepted: Vec<_> = told
        .iter()
        .filter(|(_, told)| *told == CommitAnswer::Open)
        .map(|(number, _)| *number)
        .collect();
    assert!(!accepted.is_empty(), "{told:?}");
    assert_eq!(log.head().position(), Position::new(1));
    // A subscriber goes on waiting.
    let waiting = log.head().after(Position::new(accepted.len() as u64));
    full.store(false, Ordering::SeqCst);
    // By itself, without another append.
    assert_eq!(block_on(waiting).unwrap(), Position::new(1 + accepted.len() as u64));
    for (number, told) in told {
        let found = log.blocking().keyed(&key(number).name).unwrap();
        assert_eq!(found.is_some(), told == CommitAnswer::Open, "{number}");
    }
    let next = commit(&log, CALLERS + 1).unwrap();
    assert_eq!(next, accepted.len() as u64 + 2);
    log.close().unwrap();
}

/// Commits that are queued behind the one that found no space make no attempts of their own.
#[test]
fn a_full_disk_is_tried_again_a_few_times_and_not_without_end() {
    let (full, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let gate = Arc::new(Mutex::new(()));
    let hook = {
        let (full, attempts, gate) = (full.clone(), attempts.clone(), gate.clone());
        move |operation, path: &Path| {
            if operation != Operation::Write || !is(path, ".seg") || !full.load(Ordering::SeqCst) {
                return Ok(());
            }
            attempts.fetch_add(1, Ordering::SeqCst);
            drop(gate.lock().unwrap());
            Err(ErrorKind::StorageFull.into())
        }
    };
    let disk: Arc<dyn Disk> = Arc::new(HookedDisk::new(&SimulatedDisk::new(1), hook));
    let log = Log::open(FOLDER, LogOptions { disk, ..LogOptions::default() }).unwrap();
    full.store(true, Ordering::SeqCst);
    let closed = gate.lock().unwrap();
    let accept = || log.blocking().append(Append::event(RawEvent::new("noted", []))).unwrap();
    let _ = accept();
    while attempts.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    // The first attempt goes on, and this commit is behind it.
    let _ = accept();
    drop(closed);
    thread::sleep(Duration::from_millis(300));
    // They come after 10 ms, 20 ms, 40 ms, and so on.
    let made = attempts.load(Ordering::SeqCst);
    full.store(false, Ordering::SeqCst);
    assert!((2..=6).contains(&made), "{made} attempts");
    let both = log.head().after(Position::new(1));
    assert_eq!(block_on(both).unwrap(), Position::new(2));
    log.close().unwrap();
}

/// The operating system may have dropped what it could not write, and take it for clean.
#[test]
fn after_a_sync_that_found_no_space_the_log_stops() {
    let full = Arc::new(AtomicBool::new(false));
    let log = hooked(Operation::Sync, &full);
    assert_eq!(offer(&log, 0, "before"), Ok(1));
    full.store(true, Ordering::SeqCst);
    let error = commit(&log, 1).unwrap_err();
    let AppendError::OutcomeUnknown(unknown) = error else { panic!("{error}") };
    assert!(matches!(unknown.cause, Unavailable::Failed { .. }), "{unknown}");
    full.store(false, Ordering::SeqCst);
    let error = commit(&log, 2).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(Unavailable::Failed { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("cannot sync") && text.contains("open it again"), "{text}");
    assert_eq!(check(&log, "stopped"), 1);
}

/// A real file system without space, in this process again, which has mounted it for itself.
#[test]
fn a_log_on_a_small_file_system_goes_on_when_there_is_space_again() {
    if let Some(folder) = env::var_os(SMALL) {
        return on_a_small_file_system(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let name = concat!(
        "interference::full_disk::",
        "a_log_on_a_small_file_system_goes_on_when_there_is_space_again"
    );
    run_mounted("mount -t tmpfs -o size=1m small \"$1\"", folder.path(), SMALL, name);
}

const SMALL: &str = "DIPTYCH_SMALL_FILE_SYSTEM";

fn on_a_small_file_system(folder: &Path) {
    let (dir, ballast) = (folder.join("log"), folder.join("ballast"));
    let patience = Duration::from_millis(100);
    let options = LogOptions {
        segment_bytes: 100 << 10,
        index_bytes: 20 << 10,
        tuning: Tuning { index_patience: patience, ..Tuning::default() },
        ..LogOptions::default()
    };
    let mut number = 0;
    for round in 0..4 {
        let log = Log::open(&dir, options.clone()).unwrap();
        assert!(check(&log, "opened") >= number, "acknowledged commits are lost");
        number = check(&log, "opened");
        let mut file = fs::File::create(&ballast).unwrap();
        if round < 3 {
            // All but a little of the space.
            while file.write_all(&[1; 4096]).is_ok() {}
            let _ = file.set_len(file.metadata().unwrap().len().saturating_sub(60 << 10));
        }
        while offer(&log, number, "filling") == Ok(number + 1) && number < 100_000 {
            number += 1;
        }
        while file.write_all(&[1; 512]).is_ok() {}
        assert_eq!(offer(&log, number, "full"), Err(CommitAnswer::Refused));
        drop(log);
        while file.write_all(&[1; 512]).is_ok() {}
        let log = Log::open(&dir, options.clone()).unwrap();
        assert!(check(&log, "opened without space") >= number, "acknowledged commits are lost");
        number = check(&log, "opened without space");
        // The rest of a page takes some more.
        while file.write_all(&[1; 512]).is_ok() {}
        while offer(&log, number, "opened without space") == Ok(number + 1) {
            number += 1;
        }
        assert_eq!(offer(&log, number, "opened without space"), Err(CommitAnswer::Refused));
        if round < 3 {
            fs::remove_file(&ballast).unwrap();
            file.set_len(0).unwrap();
            for _ in 0..20 {
                assert_eq!(offer(&log, number, "with space again"), Ok(number + 1));
                number += 1;
            }
            log.close().unwrap();
        }
    }
    verify(&dir, &options, |_, _| {}).unwrap();
    println!("{number} commits on a file system of 1 MiB");
}

#[test]
fn a_log_that_is_closed_without_space_says_what_is_not_in_it() {
    for free in [false, true] {
        let disk = SimulatedDisk::new(1);
        let log = open(&disk, Durability::Synced, true, "new");
        (0..10).for_each(|number| assert_eq!(commit(&log, number).unwrap(), number + 1));
        disk.fail_after(0, Fault::DiskStaysFull);
        let open_one = (10..).find(|number| offer(&log, *number, "full").is_err()).unwrap();
        if free {
            disk.disarm();
        }
        let closed = log.close();
        assert_eq!(closed.is_ok(), free, "{closed:?}");
        disk.disarm();
        let log = open(&disk, Durability::Synced, false, "again");
        let head = check(&log, "again");
        assert!((open_one..=open_one + 1).contains(&head), "{head}");
        assert!(!free || head == open_one + 1);
        log.close().unwrap();
    }
}
