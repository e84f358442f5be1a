//! The power is lost, or an operation fails, at every operation of a move to another folder.
//!
//! Wherever a move stops, at most one of the two folders takes commits. The next attempt finishes
//! the move without losing or doubling a commit.

use std::{
    error::Error,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_log::{
    Adoption, Arrival, Background, BackupOptions, Log, LogOptions, MoveError, MoveTarget,
    OpenError, ReadOnlyLog, adopt, backup,
    disk::simulated::{Fault, Operation, Random, Sabotage, SimulatedDisk},
    fence, fenced,
};
use diptych_store::{
    Append, AppendError, Epoch, EventStore, LogIdentity, Position, RawEvent, ReadCommits,
    TimeSource, Unavailable,
};

use crate::{
    backup::{append, payloads},
    seeds::{faults_at, seeds},
};

const SEEDS: u64 = 2;
const OLD: &str = "/data/log";
const NEW: &str = "/other/log";

fn options(disk: &SimulatedDisk, seed: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 1024 + seed % 7 * 400,
        index_bytes: 500 + seed % 3 * 300,
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn failed(error: impl Error + Send + Sync + 'static) -> MoveError {
    OpenError::Io { what: "cannot copy".to_owned(), cause: io::Error::other(error) }.into()
}

/// Copies the commits that the target lacks.
fn copy(from: &ReadOnlyLog, to: &Log) -> Result<(), MoveError> {
    let mut after = to.head().position();
    while after < from.head().position() {
        let batch = from.blocking().commits(&ReadCommits::after(after)).map_err(failed)?;
        for commit in batch.iter() {
            let mut append = Append::events(commit.events().map(|event| event.to_raw()));
            append.key = commit.key().cloned();
            append.tracking = commit.tracking().cloned();
            append.recorded_at = Some(commit.recorded_at());
            to.blocking().commit(append).map_err(failed)?;
        }
        after = batch.upto();
    }
    Ok(())
}

/// The whole move, or what an earlier attempt left to do.
fn move_log(disk: &SimulatedDisk, seed: u64) -> Result<(), MoveError> {
    let options = options(disk, seed);
    let open = || ReadOnlyLog::open(OLD, options.clone());
    let identity = open()?.identity();
    let before = fenced(OLD, identity, NEW, &options)?;
    let caller = LogOptions { time: TimeSource::Caller, ..options.clone() };
    match Arrival::begin(NEW, identity, OLD, &caller)? {
        MoveTarget::Complete => assert!(before.is_some(), "it arrived before it left"),
        MoveTarget::Incomplete(arrival) => {
            copy(&open()?, arrival.log())?;
            let fence = fence(OLD, identity, NEW, &options)?;
            copy(&open()?, arrival.log())?;
            arrival.complete(&fence)?;
        }
    }
    Ok(())
}

struct Scene {
    seed: u64,
    disk: SimulatedDisk,
    identity: LogIdentity,
    events: Vec<Vec<u8>>,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new(seed);
        let log = Log::open(OLD, options(&disk, seed)).unwrap();
        append(&log, random.below(25));
        let (identity, events) = (log.identity(), payloads(&log));
        if random.chance(50) {
            log.close().unwrap();
        }
        // If the log is still open, its process ends here without closing it.
        Scene { seed, disk: disk.process_kill(), identity, events }
    }

    /// The log in a folder, if it takes commits as the log of this scene.
    fn open(&self, disk: &SimulatedDisk, folder: &str) -> Option<Log> {
        match Log::open(folder, options(disk, self.seed)) {
            // In an empty folder, the open makes a log.
            Ok(log) => Some(log).filter(|log| log.identity() == self.identity),
            Err(OpenError::Left { .. } | OpenError::Arriving { .. }) => None,
            Err(error) => panic!("{folder}: {error:?}"),
        }
    }

    fn check(&self, disk: &SimulatedDisk, done: bool) {
        // The checks work on copies of the disk, because an open writes.
        let takes = |folder| self.open(&disk.process_kill(), folder).is_some();
        let (old, new) = (takes(OLD), takes(NEW));
        assert!(!(old && new), "both folders take commits");
        assert!(!done || new, "the move was done, and the new folder takes no commits");
        move_log(disk, self.seed).unwrap();
        assert!(self.open(&disk.process_kill(), OLD).is_none());
        let log = self.open(disk, NEW).unwrap();
        assert_eq!(payloads(&log), self.events);
        append(&log, 2);
        let (expected, after) = (payloads(&log), disk.power_loss(self.seed));
        assert_eq!(payloads(&self.open(&after, NEW).unwrap()), expected);
        let old = ReadOnlyLog::open(OLD, options(&after, self.seed)).unwrap();
        assert_eq!(old.head().position().get(), self.events.len() as u64, "reads go on");
    }
}

fn move_everywhere(seed: u64, sabotage: Option<Sabotage>) {
    let scene = Scene::new(seed);
    let count = scene.disk.process_kill();
    move_log(&count, seed).unwrap();
    let mut random = Random::new(seed);
    for at in 0..=count.operations() {
        let any = *random.pick(&Operation::ALL).unwrap();
        for fault in faults_at(at + seed, [Fault::Stop, Fault::DiskFull, Fault::Io(any)]) {
            let disk = scene.disk.process_kill();
            if let Some(sabotage) = sabotage {
                disk.set_sabotage(sabotage);
            }
            disk.fail_after(at, fault);
            let outcome = move_log(&disk, seed);
            let done = outcome.is_ok() && !disk.is_stopped();
            if let Err(error) = &outcome {
                let io = matches!(error, MoveError::Open(OpenError::Io { .. }));
                assert!(io && !disk.failures().is_empty(), "for no reason: {error:?}");
            }
            disk.disarm();
            if !disk.is_stopped() {
                scene.check(&disk.process_kill(), done);
            }
            scene.check(&disk.power_loss(random.number()), done);
        }
    }
}

#[test]
fn a_move_that_stops_anywhere_never_leaves_two_logs_that_take_commits() {
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        move_everywhere(seed, None);
    }
}

/// The checks above are useful only if they fail for an engine with a mistake: for one that does
/// not sync folders, and for one that renames files before it syncs them.
#[test]
fn a_move_that_forgets_to_sync_is_noticed() {
    const AT_MOST: u64 = 10;
    for sabotage in [Sabotage::ForgetDirSync, Sabotage::AcknowledgeBeforeSync] {
        let failed = |seed: &u64| {
            catch_unwind(AssertUnwindSafe(|| move_everywhere(*seed, Some(sabotage)))).is_err()
        };
        let noticed = (0..AT_MOST).find(failed);
        let noticed = noticed.unwrap_or_else(|| panic!("{sabotage:?} of a move goes unnoticed"));
        println!("{sabotage:?} of a move is noticed by scene {} of {AT_MOST}", noticed + 1);
    }
}

#[test]
fn a_target_that_is_not_whole_is_not_opened_by_the_last_step() {
    let scene = Scene::new(5);
    let (disk, identity) = (&scene.disk, scene.identity);
    assert!(!scene.events.is_empty());
    let options = options(disk, 5);
    let begin = || match Arrival::begin(NEW, identity, OLD, &options).unwrap() {
        MoveTarget::Incomplete(arrival) => arrival,
        MoveTarget::Complete => panic!("it is not complete"),
    };
    let fence = fence(OLD, identity, NEW, &options).unwrap();
    assert_eq!((fence.identity(), fence.upto().get()), (identity, scene.events.len() as u64));
    let error = begin().complete(&fence).unwrap_err().to_string();
    assert!(error.contains("up to position 0, and its source has"), "{error}");
    begin().interrupt().unwrap();
    assert!(scene.open(disk, NEW).is_none() && scene.open(disk, OLD).is_none());
}

#[test]
fn a_log_that_moved_refuses_commits_with_the_new_folder_and_moves_to_no_other_one() {
    let scene = Scene::new(3);
    let (disk, identity) = (&scene.disk, scene.identity);
    move_log(disk, 3).unwrap();
    let options = options(disk, 3);
    let opened = Log::open(OLD, options.clone()).unwrap_err();
    assert!(matches!(&opened, OpenError::Left { to, .. } if to == NEW), "{opened}");
    let reader = ReadOnlyLog::open(OLD, options.clone()).unwrap();
    let refused = pollster::block_on(reader.append(Append::event(RawEvent::new("a", "{}"))));
    let refused = refused.unwrap_err();
    let says = refused.to_string();
    assert!(matches!(refused, AppendError::Unavailable(Unavailable::Failed { .. })), "{says}");
    assert!(says.contains("moved to /other/log and takes commits there"), "{says}");
    for to in ["/third", OLD] {
        let error = fence(OLD, identity, to, &options).unwrap_err();
        assert!(matches!(error, MoveError::Open(OpenError::Left { .. })), "{error}");
    }
    // The way back is a log of its own.
    let adopted = adopt(OLD, Adoption::Copy, &options).unwrap();
    assert_ne!(adopted.identity, identity);
    append(&Log::open(OLD, options).unwrap(), 1);
}

/// The target of the move holds the commits of another log then, as after a restore of the source.
#[test]
fn a_log_that_moved_as_another_one_is_no_fence_for_this_one() {
    let disk = SimulatedDisk::new(1);
    let options = options(&disk, 1);
    let log = Log::open(OLD, options.clone()).unwrap();
    append(&log, 3);
    let identity = log.identity();
    log.close().unwrap();
    let moved = fence(OLD, identity, NEW, &options).unwrap();
    let newer = LogIdentity { epoch: Epoch::from_u64(2 << 32), ..identity };
    for other in [newer, LogIdentity::random()] {
        for answer in [
            fenced(OLD, other, NEW, &options).map(drop),
            fence(OLD, other, NEW, &options).map(drop),
        ] {
            let error = answer.unwrap_err();
            assert!(matches!(error, MoveError::Source { .. }), "{error}");
            assert!(error.to_string().contains(&identity.to_string()), "{error}");
        }
    }
    assert_eq!(fenced(OLD, identity, NEW, &options).unwrap(), Some(moved));
}

/// A manifest has room for a path or an address of 4,096 bytes.
#[test]
fn a_path_that_is_too_long_to_be_noted_moves_nothing() {
    let disk = SimulatedDisk::new(1);
    let options = options(&disk, 1);
    let log = Log::open(OLD, options.clone()).unwrap();
    append(&log, 3);
    let identity = log.identity();
    log.close().unwrap();
    let long = format!("/{}", "long".repeat(2_000));
    for answer in [
        fence(OLD, identity, &long, &options).map(drop),
        Arrival::begin(NEW, identity, &long, &options).map(drop),
    ] {
        let error = answer.unwrap_err();
        assert!(matches!(error, MoveError::Target { .. }), "{error}");
        assert!(error.to_string().contains("cannot note a path or an address"), "{error}");
    }
    Log::open(OLD, options).unwrap().close().unwrap();
}

#[test]
fn only_an_empty_folder_or_the_same_log_is_the_target_of_a_move() {
    let disk = SimulatedDisk::new(1);
    let options = options(&disk, 1);
    let log = Log::open(OLD, options.clone()).unwrap();
    append(&log, 3);
    let identity = log.identity();
    log.close().unwrap();
    let begin = |to, identity| Arrival::begin(to, identity, OLD, &options).map(drop);
    Log::open("/another", options.clone()).unwrap().close().unwrap();
    let error = begin("/another", identity).unwrap_err().to_string();
    assert!(error.contains("take an empty folder"), "{error}");
    let to = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    backup(OLD, "/backup", &to, |_, _| {}).unwrap();
    let error = begin("/backup", identity).unwrap_err();
    assert!(matches!(error, MoveError::Open(OpenError::Backup { .. })), "{error}");
    // A target goes on only with the log that it began with.
    begin(NEW, identity).unwrap();
    begin(NEW, identity).unwrap();
    let error = begin(NEW, LogIdentity::random()).unwrap_err();
    assert!(matches!(error, MoveError::Target { .. }), "{error}");
    // A source whose identity changed is not fenced.
    let error = fence(OLD, LogIdentity::random(), NEW, &options).unwrap_err();
    assert!(matches!(error, MoveError::Source { .. }), "{error}");
    assert_eq!(fenced(OLD, identity, NEW, &options).unwrap(), None);
    let error = fenced(NEW, identity, "/third", &options).unwrap_err();
    assert!(matches!(error, MoveError::Open(OpenError::Arriving { .. })), "{error}");
    assert_eq!(Log::open(OLD, options).unwrap().head().position(), Position::new(6));
}
