//! The power is lost, or an operation fails, at every operation of a backup and of a restore.
//!
//! Each seed makes one scene: a log, perhaps with an older backup.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_log::{
    Background, BackupError, BackupOptions, Log, LogOptions, OpenError, SealedSegments,
    VerifyError, backup,
    disk::{
        Disk,
        simulated::{Fault, Operation, Random, Sabotage, SimulatedDisk},
    },
    restore, verify,
};
use diptych_store::{EventStore, LogIdentity};

use crate::{
    backup::{append, payloads},
    forgetful::{Forgetful, Forgotten},
    seeds::{faults_at, seeds},
};

const SEEDS: u64 = 4;
const LOG: &str = "/data/log";
const BACKUP: &str = "/backups/of/log";
const RESTORED: &str = "/data/restored";

struct Scene {
    seed: u64,
    disk: SimulatedDisk,
    sealed: SealedSegments,
    identity: LogIdentity,
    /// The payloads in the older backup, if there is one.
    older: Option<Vec<Vec<u8>>>,
    /// The payloads in the log.
    newer: Vec<Vec<u8>>,
}

fn options(disk: &SimulatedDisk, seed: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 1024 + seed % 7 * 400,
        index_bytes: 500 + seed % 3 * 300,
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

impl Scene {
    fn new(seed: u64, with_older: bool) -> Scene {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new(seed);
        let log = Log::open(LOG, options(&disk, seed)).unwrap();
        let identity = EventStore::identity(&log);
        let sealed = *random.pick(&[SealedSegments::Link, SealedSegments::Copy]).unwrap();
        append(&log, random.below(25));
        let mut older = None;
        if with_older {
            log.backup_to(BACKUP, sealed, |_, _| {}).unwrap();
            older = Some(payloads(&log));
        }
        append(&log, random.below(25));
        let newer = payloads(&log);
        let closed = random.chance(50);
        if closed {
            log.close().unwrap();
        }
        // If the log is still open, its process ends here without closing it.
        Scene { seed, disk: disk.process_kill(), sealed, identity, older, newer }
    }

    fn back_up(&self, disk: &SimulatedDisk) -> Result<(), BackupError> {
        self.back_up_on(Arc::new(disk.clone()))
    }

    fn back_up_on(&self, disk: Arc<dyn Disk>) -> Result<(), BackupError> {
        let options = BackupOptions { sealed: self.sealed, disk };
        backup(LOG, BACKUP, &options, |_, _| {}).map(drop)
    }

    fn restore(&self, disk: &SimulatedDisk) -> Result<(), BackupError> {
        let restored = restore(BACKUP, RESTORED, &options(disk, self.seed), |_, _| {})?;
        assert_eq!(restored.backup, self.identity);
        assert_eq!(restored.identity.epoch.number(), self.identity.epoch.number() + 1);
        Ok(())
    }

    fn held(&self, disk: &SimulatedDisk, folder: &str) -> (LogIdentity, Vec<Vec<u8>>) {
        // The check works on a copy of the disk, because an open writes.
        let disk = disk.process_kill();
        let log = Log::open(folder, options(&disk, self.seed)).unwrap();
        (EventStore::identity(&log), payloads(&log))
    }

    /// The payloads in the folder of the backup; `None` if no backup was finished.
    fn backup_in(&self, disk: &SimulatedDisk) -> Option<Vec<Vec<u8>>> {
        let copy = disk.process_kill();
        let verified = match verify(BACKUP, &options(&copy, self.seed), |_, _| {}) {
            Ok(verified) => verified,
            Err(VerifyError::Open(OpenError::Unfinished { .. })) => return None,
            // The folder is missing or empty.
            Err(VerifyError::Open(OpenError::Io { .. })) => return None,
            Err(error) => panic!("{error:?}"),
        };
        let (identity, held) = self.held(disk, BACKUP);
        assert_eq!((verified.identity, identity), (self.identity, self.identity));
        assert_eq!(verified.events, held.len() as u64);
        Some(held)
    }

    fn log_is_untouched(&self, disk: &SimulatedDisk) {
        assert_eq!(self.held(disk, LOG), (self.identity, self.newer.clone()));
    }

    /// Checks the disk after a backup, which was done or stopped.
    fn check_backup(&self, disk: &SimulatedDisk, done: bool) {
        self.log_is_untouched(disk);
        let found = self.backup_in(disk);
        if done {
            assert_eq!(found.as_ref(), Some(&self.newer), "a finished backup is missing");
        } else {
            assert!(
                found == self.older || found.as_ref() == Some(&self.newer),
                "the backup is neither the older nor the newer one"
            );
        }
        self.back_up(disk).unwrap();
        assert_eq!(self.backup_in(disk).as_ref(), Some(&self.newer), "repeated");
    }

    /// Checks the disk after a restore, which was done or stopped.
    fn check_restored(&self, disk: &SimulatedDisk, done: bool) {
        assert_eq!(self.backup_in(disk), self.older, "the backup changed");
        let copy = disk.process_kill();
        match Log::open(RESTORED, options(&copy, self.seed)) {
            Ok(log) if done || EventStore::identity(&log).id == self.identity.id => {
                self.is_restored(&log);
            }
            // The folder was empty, so the open made a new log.
            Ok(log) => assert_eq!(log.head().position().get(), 0),
            Err(OpenError::Unfinished { .. }) => assert!(!done, "it was done, and is not"),
            Err(error) => panic!("{error:?}"),
        }
        if done {
            return;
        }
        // The restore may have finished without reporting it: then the folder has a log and is not
        // empty.
        match self.restore(disk) {
            Ok(()) | Err(BackupError::Target { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        let log = Log::open(RESTORED, options(disk, self.seed)).unwrap();
        self.is_restored(&log);
        append(&log, 3);
        let expected = payloads(&log);
        let after = disk.power_loss(self.seed);
        assert_eq!(self.held(&after, RESTORED), (EventStore::identity(&log), expected));
    }

    fn is_restored(&self, log: &Log) {
        let identity = EventStore::identity(log);
        assert_eq!(identity.id, self.identity.id);
        assert_eq!(identity.epoch.number(), self.identity.epoch.number() + 1);
        assert_eq!(Some(payloads(log)), self.older);
    }

    /// Runs `run` and stops the machine, or fails an operation, at each of its operations. Then the
    /// process is killed or the power is lost, and `check` looks at the disk.
    fn at_every_operation(
        &self,
        sabotage: Option<Sabotage>,
        run: impl Fn(&SimulatedDisk) -> Result<(), BackupError>,
        check: impl Fn(&SimulatedDisk, bool),
    ) {
        let count = self.disk.process_kill();
        run(&count).unwrap();
        let mut random = Random::new(self.seed);
        for at in 0..=count.operations() {
            let any = *random.pick(&Operation::ALL).unwrap();
            for fault in faults_at(at + self.seed, [Fault::Stop, Fault::DiskFull, Fault::Io(any)]) {
                let disk = self.disk.process_kill();
                if let Some(sabotage) = sabotage {
                    disk.set_sabotage(sabotage);
                }
                disk.fail_after(at, fault);
                let outcome = run(&disk);
                let done = outcome.is_ok() && !disk.is_stopped();
                if let Err(error) = &outcome {
                    let io = matches!(error, BackupError::Open(OpenError::Io { .. }));
                    assert!(io && !disk.failures().is_empty(), "for no reason: {error:?}");
                }
                disk.disarm();
                if !disk.is_stopped() {
                    check(&disk.process_kill(), done);
                }
                check(&disk.power_loss(random.number()), done);
            }
        }
    }
}

fn back_up_everywhere(seed: u64, sabotage: Option<Sabotage>) {
    let scene = Scene::new(seed, !seed.is_multiple_of(3));
    scene.at_every_operation(
        sabotage,
        |disk| scene.back_up(disk),
        |disk, done| scene.check_backup(disk, done),
    );
}

fn restore_everywhere(seed: u64, sabotage: Option<Sabotage>) {
    let scene = Scene::new(seed, true);
    scene.at_every_operation(
        sabotage,
        |disk| scene.restore(disk),
        |disk, done| scene.check_restored(disk, done),
    );
}

#[test]
fn a_backup_that_stops_anywhere_is_the_older_or_the_newer_one() {
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        back_up_everywhere(seed, None);
    }
}

#[test]
fn a_restore_that_stops_anywhere_is_whole_or_no_log() {
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        restore_everywhere(seed, None);
    }
}

#[test]
fn a_backup_that_forgets_to_sync_is_noticed() {
    is_noticed("a backup", back_up_everywhere);
}

#[test]
fn a_restore_that_forgets_to_sync_is_noticed() {
    is_noticed("a restore", restore_everywhere);
}

/// The checks above are useful only if they fail for an engine with a mistake: for an engine that
/// does not sync folders, and for one that renames files before it syncs them.
fn is_noticed(what: &str, run: impl Fn(u64, Option<Sabotage>)) {
    const AT_MOST: u64 = 10;
    for sabotage in [Sabotage::ForgetDirSync, Sabotage::AcknowledgeBeforeSync] {
        let failed =
            |seed: &u64| catch_unwind(AssertUnwindSafe(|| run(*seed, Some(sabotage)))).is_err();
        let noticed = (0..AT_MOST).find(failed);
        let noticed = noticed.unwrap_or_else(|| panic!("{sabotage:?} of {what} goes unnoticed"));
        println!("{sabotage:?} of {what} is noticed by scene {} of {AT_MOST}", noticed + 1);
    }
}

#[test]
fn a_mark_that_is_written_before_its_segments_are_durable_is_noticed() {
    const AT_MOST: u64 = 20;
    let run = |seed: u64, forgotten| {
        let scene = Scene::new(seed, !seed.is_multiple_of(3));
        scene.at_every_operation(
            None,
            |disk| scene.back_up_on(Arc::new(Forgetful::new(disk, BACKUP, forgotten))),
            |disk, done| scene.check_backup(disk, done),
        );
    };
    run(0, Forgotten::Nothing);
    // The mark itself is always synced.
    for forgotten in [Forgotten::Folder, Forgotten::Content] {
        let failed = |seed: &u64| catch_unwind(AssertUnwindSafe(|| run(*seed, forgotten))).is_err();
        let noticed = (0..AT_MOST).find(failed);
        let noticed = noticed.unwrap_or_else(|| panic!("{forgotten:?} goes unnoticed"));
        println!("{forgotten:?} is noticed by scene {} of {AT_MOST}", noticed + 1);
    }
}
