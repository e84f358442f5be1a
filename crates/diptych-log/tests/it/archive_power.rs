//! Power is lost, or something fails, at every operation of an archiving, and of bringing segments
//! back.
//!
//! A scene follows from its seed: a log, perhaps with some segments archived already.

use std::{
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
};

use diptych_log::{
    ArchiveError, ArchiveLimit, Background, Log, LogOptions, OpenError, ReadOnlyLog,
    bring_back_archive,
    disk::{
        Disk,
        simulated::{Fault, Operation, Random, SimulatedDisk},
    },
    verify,
};
use diptych_store::{EventStore, Filter, Position, Read, Tag};

use crate::{
    backup::{append, payloads},
    forgetful::{Forgetful, Forgotten},
    hooked::HookedDisk,
    log_files::is,
    seeds::{faults_at, seeds},
};

const SEEDS: u64 = 2;
const LOG: &str = "/data/log";
const ARCHIVE: &str = "/archives/of/log";

fn options(disk: Arc<dyn Disk>, seed: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 1024 + seed % 7 * 300,
        index_bytes: 500 + seed % 3 * 300,
        background: Background::Inline,
        disk,
        ..LogOptions::default()
    }
}

struct Scene {
    seed: u64,
    disk: SimulatedDisk,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let (mut random, disk) = (Random::new(seed), SimulatedDisk::new(seed));
        let scene = Scene { seed, disk: disk.clone() };
        let log = scene.open(&disk);
        append(&log, 30 + random.below(20));
        if random.chance(50) {
            let limit = ArchiveLimit::Upto(Position::new(1 + random.below(30)));
            log.archive(ARCHIVE, limit, |_, _| {}).unwrap();
            append(&log, 20 + random.below(9));
        }
        log.close().unwrap();
        // There has to be something to archive.
        while scene.moved(&disk.process_kill()) == 0 {
            let log = scene.open(&disk);
            append(&log, 10);
            log.close().unwrap();
        }
        Scene { seed, disk: disk.process_kill() }
    }

    /// The number of segments that an archiving moves.
    fn moved(&self, disk: &SimulatedDisk) -> u64 {
        self.open(disk).archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap().moved
    }

    fn open(&self, disk: &SimulatedDisk) -> Log {
        Log::open(LOG, options(Arc::new(disk.clone()), self.seed)).unwrap()
    }

    /// After an archiving that was cut off or not.
    fn check(&self, disk: &SimulatedDisk, expected: &[Vec<u8>]) {
        let shared = Arc::new(disk.clone());
        let reader = ReadOnlyLog::open(LOG, options(shared, self.seed)).unwrap();
        let first = Read::all().limit(1);
        let read = reader.blocking().read(&Filter::everything(), first).unwrap();
        assert_eq!(read.get(0).unwrap().payload(), expected[0]);
        let log = self.open(disk);
        assert_eq!(payloads(&log), expected);
        let report = log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap();
        assert_eq!(payloads(&log), expected);
        self.nothing_is_left_over(disk, report.archived);
        log.close().unwrap();
        verify(LOG, &options(Arc::new(disk.clone()), self.seed), |_, _| {}).unwrap();
    }

    fn nothing_is_left_over(&self, disk: &SimulatedDisk, archived: u64) {
        let names = disk.contents().into_iter().map(|(path, _)| path);
        let names: Vec<_> = names.map(|path| path.to_str().unwrap().to_owned()).collect();
        let count = |folder: &str, end: &str| {
            let is_one = |name: &&String| name.starts_with(folder) && name.ends_with(end);
            names.iter().filter(is_one).count() as u64
        };
        assert_eq!(count(ARCHIVE, ".seg"), archived, "{names:?}");
        assert_eq!(count(LOG, ".arc"), archived, "{names:?}");
        assert_eq!(count(LOG, ".seg"), 2, "{names:?}");
        assert_eq!(count("/", ".tmp"), 0, "{names:?}");
    }

    /// Lets it stop, or something fail, at every operation, and then the power be lost.
    fn at_every_operation(&self) {
        let mut random = Random::new(self.seed);
        for at in 0..=self.operations() {
            let any = *random.pick(&Operation::ALL).unwrap();
            for fault in faults_at(at + self.seed, [Fault::Stop, Fault::DiskFull, Fault::Io(any)]) {
                let disk = self.disk.process_kill();
                let log = self.open(&disk);
                let mut expected = payloads(&log);
                disk.fail_after(at, fault);
                let outcome = log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {});
                if let Err(error) = &outcome {
                    assert!(!disk.failures().is_empty(), "for no reason: {error:?}");
                }
                disk.disarm();
                if !disk.is_stopped() {
                    // The log goes on.
                    append(&log, 1);
                    assert_eq!(payloads(&log).len(), expected.len() + 2);
                    expected = payloads(&log);
                    self.check(&disk.process_kill(), &expected);
                }
                self.check(&disk.power_loss(random.number()), &expected);
            }
        }
    }

    /// Loses the power at every operation of an archiving that forgets something about the segments
    /// in the archive.
    fn at_every_operation_of_one_that_forgets(&self, forgotten: Forgotten) {
        let mut random = Random::new(self.seed);
        for at in 0..=self.operations() {
            let disk = self.disk.process_kill();
            let forgetful = Arc::new(Forgetful::new(&disk, ARCHIVE, forgotten));
            let log = Log::open(LOG, options(forgetful, self.seed)).unwrap();
            let expected = payloads(&log);
            disk.fail_after(at, Fault::Stop);
            // It may be done before it is stopped.
            let _ = log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {});
            disk.disarm();
            self.check(&disk.power_loss(random.number()), &expected);
        }
    }

    /// Lets it stop, or something fail, at every operation of bringing the segments back, and then
    /// the power be lost.
    fn back_at_every_operation(&self) {
        let mut random = Random::new(self.seed);
        let disk = self.disk.process_kill();
        let log = self.open(&disk);
        log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap();
        let expected = payloads(&log);
        log.close().unwrap();
        let archived = disk.process_kill();
        let back = |disk: &SimulatedDisk| {
            let options = options(Arc::new(disk.clone()), self.seed);
            bring_back_archive(LOG, &options, |done, all| assert!(done <= all))
        };
        let count = archived.process_kill();
        let before = count.operations();
        assert!(back(&count).unwrap().moved > 0);
        let operations = count.operations() - before;
        for at in 0..=operations {
            let any = *random.pick(&Operation::ALL).unwrap();
            for fault in faults_at(at + self.seed, [Fault::Stop, Fault::DiskFull, Fault::Io(any)]) {
                let disk = archived.process_kill();
                disk.fail_after(at, fault);
                let outcome = back(&disk);
                if let Err(error) = &outcome {
                    assert!(!disk.failures().is_empty(), "for no reason: {error:?}");
                }
                disk.disarm();
                if !disk.is_stopped() {
                    self.check_back(&disk.process_kill(), &expected);
                    // It can also be archived again.
                    self.check(&disk.process_kill(), &expected);
                }
                self.check_back(&disk.power_loss(random.number()), &expected);
            }
        }
    }

    /// After bringing segments back, which was cut off or not.
    fn check_back(&self, disk: &SimulatedDisk, expected: &[Vec<u8>]) {
        let log = self.open(disk);
        assert_eq!(payloads(&log), expected);
        let is_archived = log.blocking().stats().unwrap().archive.is_some();
        log.close().unwrap();
        let options = options(Arc::new(disk.clone()), self.seed);
        let back = bring_back_archive(LOG, &options, |_, _| {});
        assert_eq!(back.is_ok(), is_archived, "{back:?}");
        let log = self.open(disk);
        assert_eq!(payloads(&log), expected);
        assert_eq!(log.blocking().stats().unwrap().archive, None);
        log.close().unwrap();
        let names = disk.contents().into_iter().map(|(path, _)| path);
        let names: Vec<_> = names.map(|path| path.to_str().unwrap().to_owned()).collect();
        let left = |name: &&String| {
            let of_archive = name.starts_with(ARCHIVE) && name.ends_with(".seg");
            of_archive || name.ends_with(".arc") || name.ends_with(".tmp")
        };
        assert_eq!(names.iter().find(left), None);
        verify(LOG, &options, |_, _| {}).unwrap();
    }

    /// How many operations an archiving takes.
    fn operations(&self) -> u64 {
        let count = self.disk.process_kill();
        let log = self.open(&count);
        let before = count.operations();
        assert!(log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap().moved > 0);
        count.operations() - before
    }
}

#[test]
fn a_segment_or_its_copy_is_in_use_wherever_an_archiving_is_cut_off() {
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        Scene::new(seed).at_every_operation();
    }
}

#[test]
fn a_segment_or_its_copy_is_in_use_wherever_bringing_back_is_cut_off() {
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        Scene::new(seed).back_at_every_operation();
    }
}

/// The operations of `work` that change names or make something durable, with their files.
fn steps_of(disk: &SimulatedDisk, work: impl FnOnce(Arc<dyn Disk>)) -> Vec<String> {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let noted = steps.clone();
    let hooked = HookedDisk::new(disk, move |operation, path: &Path| {
        use Operation::{Remove, Rename, Sync, SyncDir};
        if [Remove, Rename, Sync, SyncDir].contains(&operation) {
            noted.lock().unwrap().push(format!("{operation:?} {}", path.display()));
        }
        Ok(())
    });
    work(Arc::new(hooked));
    steps.lock().unwrap().clone()
}

/// Checks that these steps follow each other, perhaps with others between them. Answers the rest.
fn in_order<'a>(mut steps: &'a [String], expected: &[String]) -> &'a [String] {
    for step in expected {
        let at = steps.iter().position(|found| found == step);
        let at = at.unwrap_or_else(|| panic!("{step} is missing in {steps:#?} of {expected:#?}"));
        steps = &steps[at + 1..];
    }
    steps
}

/// The tests that cut an archiving off find a wrong order only where a fault falls between the
/// steps.
#[test]
fn a_segment_leaves_only_after_its_copy_its_stub_and_the_manifest_are_durable() {
    let scene = Scene::new(1);
    let names = |disk: &SimulatedDisk, root: &str| {
        let paths = disk.contents().into_iter().map(|(path, _)| path);
        let paths = paths.filter(|path| path.starts_with(root) && is(path, ".seg"));
        paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let before: Vec<String> = names(&scene.disk, ARCHIVE);
    let steps = steps_of(&scene.disk, |disk| {
        let log = Log::open(LOG, options(disk, scene.seed)).unwrap();
        log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap();
        log.close().unwrap();
    });
    let after: Vec<String> = names(&scene.disk, ARCHIVE);
    let moved: Vec<&String> = after.iter().filter(|name| !before.contains(name)).collect();
    assert!(moved.len() > 2, "{moved:?}");
    let mut rest = &steps[..];
    for name in &moved {
        rest = in_order(
            rest,
            &[
                format!("Sync {ARCHIVE}/segments/{name}.tmp"),
                format!("Rename {ARCHIVE}/segments/{name}.tmp"),
                format!("SyncDir {ARCHIVE}/segments"),
                format!("Sync {LOG}/segments/{name}.tmp"),
                format!("Rename {LOG}/segments/{name}.tmp"),
                format!("SyncDir {LOG}/segments"),
                format!("Sync {LOG}/manifest.tmp"),
                format!("Rename {LOG}/manifest.tmp"),
                format!("SyncDir {LOG}"),
                format!("Remove {LOG}/segments/{name}.seg"),
            ],
        );
    }
    // A file is removed once, so nothing removes it before these steps.
    let is_removed_once = |steps: &[String], path: String| {
        let removed = format!("Remove {path}.seg");
        assert_eq!(steps.iter().filter(|step| **step == removed).count(), 1, "{path}");
    };
    moved.iter().for_each(|name| is_removed_once(&steps, format!("{LOG}/segments/{name}")));

    let steps = steps_of(&scene.disk, |disk| {
        bring_back_archive(LOG, &options(disk, scene.seed), |_, _| {}).unwrap();
    });
    let mut rest = &steps[..];
    for name in after.iter().rev() {
        rest = in_order(
            rest,
            &[
                format!("Sync {LOG}/segments/{name}.tmp"),
                format!("Rename {LOG}/segments/{name}.tmp"),
                format!("SyncDir {LOG}/segments"),
                format!("Sync {LOG}/manifest.tmp"),
                format!("Rename {LOG}/manifest.tmp"),
                format!("SyncDir {LOG}"),
                format!("Remove {ARCHIVE}/segments/{name}.seg"),
            ],
        );
        is_removed_once(&steps, format!("{ARCHIVE}/segments/{name}"));
    }
}

/// The checks above are worth something only if they fail where they should.
#[test]
fn an_archiving_that_forgets_to_sync_the_copy_is_noticed() {
    const AT_MOST: u64 = 5;
    Scene::new(0).at_every_operation_of_one_that_forgets(Forgotten::Nothing);
    for forgotten in [Forgotten::Folder, Forgotten::Content] {
        let failed = |seed: &u64| {
            let run = || Scene::new(*seed).at_every_operation_of_one_that_forgets(forgotten);
            catch_unwind(AssertUnwindSafe(run)).is_err()
        };
        let noticed = (0..AT_MOST).find(failed);
        let noticed = noticed.unwrap_or_else(|| panic!("{forgotten:?} goes unnoticed"));
        println!("{forgotten:?} is noticed by scene {} of {AT_MOST}", noticed + 1);
    }
}

/// A disk whose folder with the archive only takes what `allows` says.
fn hooked(
    disk: &SimulatedDisk,
    allows: impl Fn(Operation) -> io::Result<()> + Send + Sync + 'static,
) -> Arc<dyn Disk> {
    Arc::new(HookedDisk::new(disk, move |operation, path: &Path| {
        if path.starts_with("/archives") { allows(operation) } else { Ok(()) }
    }))
}

fn writes(operation: Operation) -> bool {
    use Operation::{Create, CreateDir, Lock, Remove, Rename, SetSize, Sync, SyncDir, Write};
    [Create, CreateDir, Lock, Remove, Rename, SetSize, Sync, SyncDir, Write].contains(&operation)
}

#[test]
fn an_archive_that_is_read_only_is_read_and_takes_nothing() {
    let scene = Scene::new(1);
    let log = scene.open(&scene.disk);
    append(&log, 60);
    let moved = log.archive(ARCHIVE, ArchiveLimit::KeepSegments(2), |_, _| {}).unwrap().moved;
    assert!(moved > 0);
    let expected = payloads(&log);
    log.close().unwrap();
    let disk = hooked(&scene.disk, |operation| match writes(operation) {
        true => Err(ErrorKind::ReadOnlyFilesystem.into()),
        false => Ok(()),
    });
    let log = Log::open(LOG, options(disk, scene.seed)).unwrap();
    assert_eq!(payloads(&log), expected);
    let error = log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap_err();
    let ArchiveError::Open(OpenError::Io { .. }) = &error else { panic!("{error:?}") };
    let said = error.to_string();
    assert!(said.contains(ARCHIVE) && said.contains("make it writable"), "{said}");
    append(&log, 3);
    log.close().unwrap();
    scene.check(&scene.disk, &[expected, payloads_after(&scene)].concat());
}

/// The last three commits.
fn payloads_after(scene: &Scene) -> Vec<Vec<u8>> {
    let log = scene.open(&scene.disk);
    let all = payloads(&log);
    all[all.len() - 6..].to_vec()
}

#[test]
fn an_archive_that_is_full_leaves_the_log_as_it_is() {
    let scene = Scene::new(2);
    let disk = hooked(&scene.disk, |operation| match operation {
        Operation::Write => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let log = Log::open(LOG, options(disk, scene.seed)).unwrap();
    let expected = payloads(&log);
    let error = log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(ARCHIVE) && said.contains("free space"), "{said}");
    assert_eq!(payloads(&log), expected);
    log.close().unwrap();
    scene.check(&scene.disk, &expected);
}

/// Otherwise a mount that hangs or costs money would be asked for every key that is new.
#[test]
fn a_look_up_of_an_absent_name_does_not_touch_the_archive() {
    let scene = Scene::new(3);
    let log = scene.open(&scene.disk);
    log.archive(ARCHIVE, ArchiveLimit::All, |_, _| {}).unwrap();
    let head = log.head().position();
    log.close().unwrap();
    let disk = hooked(&scene.disk, |operation| panic!("{operation:?} of the archive"));
    let options = options(disk, scene.seed);
    let log = Log::open(LOG, options.clone()).unwrap();
    let reader = ReadOnlyLog::open(LOG, options).unwrap();
    for name in ["3", "none"] {
        let tag = Tag::new("odd", name);
        assert_eq!(log.blocking().last(&Filter::tag(tag.clone()), head).unwrap(), None);
        assert_eq!(log.blocking().count(&tag, head).unwrap(), 0);
        assert_eq!(reader.blocking().last(&Filter::tag(tag.clone()), head).unwrap(), None);
        assert_eq!(log.blocking().keyed(name).unwrap(), None);
        assert_eq!(reader.blocking().keyed(name).unwrap(), None);
    }
    // Also the positions of those that are there.
    let odd = Tag::new("odd", 0);
    assert_eq!(log.blocking().count(&odd, head).unwrap(), head.get());
    append(&log, 40);
    log.close().unwrap();
}
