//! The file `head` is removed while the log is open, or cannot be written.
//!
//! The process that has the log open makes a removed file again only with one of its next commits.
//! Until then programs that follow find the end in the last segment. A file that cannot be written
//! is replaced. If that fails too, no commit is acknowledged that these programs would not find.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use diptych_log::{
    Background, BackupOptions, Durability, Follower, Log, LogOptions, ReadOnlyLog, backup,
    disk::{
        Disk,
        simulated::{Fault, Operation, SimulatedDisk},
    },
    scrub, verify,
};
use diptych_store::{
    Append, AppendError, EventStore, Filter, Position, RawEvent, Read, SyncError, Unavailable,
};
use pollster::block_on;
use tempfile::TempDir;

use crate::{
    backup::{append, options, payloads},
    hooked::HookedDisk,
    log_files::{FOLDER, is},
    read_only_disk::ReadOnlyDisk,
};

/// Everything from here on.
fn followed(follower: &mut Follower) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    loop {
        let batch = follower.next(&Filter::everything(), 100).unwrap();
        found.extend(batch.iter().map(|event| event.payload().to_vec()));
        if batch.upto() == follower.head() {
            return found;
        }
    }
}

fn read_from(reader: &ReadOnlyLog) -> Vec<Vec<u8>> {
    reader.refresh_now().unwrap();
    let batch = reader.blocking().read(&Filter::everything(), Read::all()).unwrap();
    batch.iter().map(|event| event.payload().to_vec()).collect()
}

/// Checks that programs that begin now, without the file or with it, find all these events.
fn found_by_newcomers(dir: &Path, to: &TempDir, number: usize, expected: &[Vec<u8>]) {
    let mut follower = Follower::open(dir, Position::START, options()).unwrap();
    assert_eq!(followed(&mut follower), expected);
    assert_eq!(read_from(&ReadOnlyLog::open(dir, options()).unwrap()), expected);
    assert_eq!(scrub(dir, &options(), 1 << 40, |_, _| ()).unwrap().events, expected.len() as u64);
    let copy = to.path().join(number.to_string());
    let report = backup(dir, &copy, &BackupOptions::default(), |_, _| ()).unwrap();
    assert_eq!(report.upto.get(), expected.len() as u64);
    assert_eq!(verify(copy, &options(), |_, _| ()).unwrap().events, expected.len() as u64);
}

/// Once, `Follower`, a backup from outside and a scrub failed or stood still until the log had made
/// the file again, which a log without new commits never does.
#[test]
fn without_the_published_head_everything_acknowledged_is_followed_and_backed_up() {
    const ROUNDS: usize = 12;
    let long = Durability::Interval { interval: Duration::from_secs(3_600) };
    for (background, durability) in [
        (Background::Threads, Durability::Synced),
        (Background::Inline, Durability::Synced),
        (Background::Threads, long),
    ] {
        let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let writing = LogOptions { background, durability, ..options() };
        let log = Log::open(dir.path(), writing).unwrap();
        append(&log, 3);
        let mut follower = Follower::open(dir.path(), Position::START, options()).unwrap();
        let reader = ReadOnlyLog::open(dir.path(), options()).unwrap();
        let mut found = followed(&mut follower);
        for round in 0..ROUNDS {
            // Whether the log has made the file again by now makes no difference.
            let _ = fs::remove_file(dir.path().join("head"));
            if round % 3 > 0 {
                append(&log, round as u64);
            }
            found.extend(followed(&mut follower));
            let expected = payloads(&log);
            assert_eq!(found, expected);
            assert_eq!(read_from(&reader), expected);
            found_by_newcomers(dir.path(), &copies, round, &expected);
        }
        log.close().unwrap();
        assert_eq!(read_from(&reader), found);
    }
}

#[test]
fn a_published_head_that_is_removed_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    append(&log, 3);
    let head = dir.path().join("head");
    fs::remove_file(&head).unwrap();
    while !head.exists() {
        append(&log, 1);
    }
    let mut follower = Follower::open(dir.path(), Position::START, options()).unwrap();
    append(&log, 2);
    assert_eq!(followed(&mut follower), payloads(&log));
    log.close().unwrap();
    Log::open(dir.path(), options()).unwrap().close().unwrap();
}

/// Without an open log, too: the file is lost in a copy, for example.
#[test]
fn a_closed_log_without_its_published_head_is_followed_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    append(&log, 30);
    let expected = payloads(&log);
    log.close().unwrap();
    fs::remove_file(dir.path().join("head")).unwrap();
    let mut follower = Follower::open(dir.path(), Position::START, options()).unwrap();
    assert_eq!(followed(&mut follower), expected);
    assert_eq!(followed(&mut follower), [] as [Vec<u8>; 0]);
    let log = Log::open(dir.path(), options()).unwrap();
    append(&log, 2);
    assert_eq!(followed(&mut follower).len(), 4);
}

/// A log whose last batch of five commits found no space in the middle, and whose published head
/// was removed.
struct FailedBatch {
    disk: SimulatedDisk,
    log: Log,
    published: u64,
}

fn on(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn head_path() -> PathBuf {
    Path::new(FOLDER).join("head")
}

/// Accepts five commits of one event.
fn append_unwritten(log: &Log) {
    for number in 0..5 {
        let event = RawEvent::new("counted", format!("unpublished {number}"));
        let _not_synced = log.blocking().append(Append::event(event)).unwrap();
    }
}

/// Removes the published head, and answers its bytes.
fn take_head(disk: &SimulatedDisk) -> Vec<u8> {
    let files = disk.contents();
    let (_, head) = files.into_iter().find(|(path, _)| *path == head_path()).unwrap();
    disk.remove(&head_path()).unwrap();
    head
}

impl FailedBatch {
    fn new(seed: u64) -> FailedBatch {
        let disk = SimulatedDisk::new(seed);
        let log = Log::open(FOLDER, on(&disk)).unwrap();
        append(&log, 10);
        let published = log.head().position().get();
        append_unwritten(&log);
        disk.fail_after(0, Fault::DiskFull);
        log.blocking().flush().unwrap_err();
        disk.disarm();
        take_head(&disk);
        FailedBatch { disk, log, published }
    }

    /// The bytes of the last segment without the zeros at its end.
    fn written(&self) -> usize {
        let files = self.disk.contents();
        let (_, bytes) = files.into_iter().rfind(|(path, _)| is(path, ".seg")).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap()
    }
}

/// The log may cut such a batch off again when it is closed. Its first record proves that the batch
/// before is durable. If not even the header of that record is there, nothing proves it, and the
/// batch before is followed later.
#[test]
fn a_batch_that_was_written_in_part_is_not_followed() {
    const HEADER: usize = 16;
    let before = {
        let disk = SimulatedDisk::new(0);
        let log = Log::open(FOLDER, on(&disk)).unwrap();
        append(&log, 10);
        FailedBatch { disk, published: 20, log }.written()
    };
    let mut with_whole_commits = 0;
    for seed in 0..20 {
        let failed = FailedBatch::new(seed);
        let written = failed.written() - before;
        with_whole_commits += u64::from(written > 100);
        let unproven = if written > HEADER { 0 } else { 2 };
        let options = on(&failed.disk);
        let mut follower = Follower::open(FOLDER, Position::START, options.clone()).unwrap();
        let found = followed(&mut follower).len() as u64;
        assert!((failed.published - unproven..=failed.published).contains(&found), "seed {seed}");
        let reader = ReadOnlyLog::open(FOLDER, options.clone()).unwrap();
        assert_eq!(read_from(&reader).len() as u64, found, "seed {seed}");
        // There is space again.
        failed.log.blocking().flush().unwrap();
        let all = failed.published + 5;
        assert_eq!(followed(&mut follower).len() as u64, all - found, "seed {seed}");
        assert_eq!(read_from(&reader).len() as u64, all, "seed {seed}");
        failed.log.close().unwrap();
    }
    assert!(with_whole_commits > 3, "{with_whole_commits} batches have a whole commit");
}

/// Writes a batch of five commits to a log without its published head, and calls `check` when the
/// bytes are written and not synced. Its arguments are the number of events that are published, and
/// the bytes of the published head.
fn between_write_and_sync(seed: u64, check: fn(&SimulatedDisk, u64, &[u8])) {
    let disk = SimulatedDisk::new(seed);
    let head = Arc::new(Mutex::new(None::<Vec<u8>>));
    let hooked = HookedDisk::new(&disk, {
        let (disk, head) = (disk.clone(), head.clone());
        move |operation, path| {
            if operation == Operation::Sync && is(path, ".seg") {
                let taken = head.lock().unwrap().take();
                taken.iter().for_each(|head| check(&disk, 20, head));
            }
            Ok(())
        }
    });
    let log = Log::open(FOLDER, LogOptions { disk: Arc::new(hooked), ..on(&disk) }).unwrap();
    append(&log, 10);
    append_unwritten(&log);
    *head.lock().unwrap() = Some(take_head(&disk));
    log.blocking().flush().unwrap();
    assert!(head.lock().unwrap().is_none(), "nothing was checked");
}

/// A reader of the end has synced it: no loss of power takes back what was followed.
#[test]
fn a_commit_that_is_found_without_the_published_head_is_durable() {
    for seed in 0..20 {
        between_write_and_sync(seed, |disk, published, _| {
            let mut follower = Follower::open(FOLDER, Position::START, on(disk)).unwrap();
            let found = followed(&mut follower).len() as u64;
            assert!(found >= published);
            let log = Log::open(FOLDER, on(&disk.power_loss(published))).unwrap();
            assert!(log.head().position().get() >= found, "{found} were followed");
        });
    }
}

/// The log makes the file again, as of the batch before. Its end is behind what was found.
#[test]
fn a_published_head_behind_the_end_that_was_found_ends_no_reader() {
    between_write_and_sync(3, |disk, published, head| {
        let make_again = || disk.create(&head_path(), 64).unwrap().write_at(0, head).unwrap();
        make_again();
        let mut follower = Follower::open(FOLDER, Position::START, on(disk)).unwrap();
        let reader = ReadOnlyLog::open(FOLDER, on(disk)).unwrap();
        assert_eq!(read_from(&reader).len() as u64, published);
        assert_eq!(followed(&mut follower).len() as u64, published);
        disk.remove(&head_path()).unwrap();
        assert_eq!(read_from(&reader).len() as u64, published + 5);
        assert_eq!(followed(&mut follower).len(), 5);
        make_again();
        assert_eq!(read_from(&reader).len() as u64, published + 5);
        assert_eq!(followed(&mut follower), [] as [Vec<u8>; 0]);
        assert!(!reader.head().is_ended());
    });
}

/// Nothing in a read-only place was written lately, and nothing can be synced there.
#[test]
fn the_end_is_found_in_a_read_only_place() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, on(&disk)).unwrap();
    append(&log, 10);
    disk.remove(&head_path()).unwrap();
    let reading = LogOptions { disk: ReadOnlyDisk::new(Arc::new(disk.clone()), "/"), ..on(&disk) };
    let mut follower = Follower::open(FOLDER, Position::START, reading.clone()).unwrap();
    assert_eq!(followed(&mut follower), payloads(&log));
    assert_eq!(read_from(&ReadOnlyLog::open(FOLDER, reading).unwrap()), payloads(&log));
}

/// The manifest says up to where the log was durable when it was closed.
#[test]
fn a_log_that_is_cut_off_is_not_followed_without_its_published_head() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    append(&log, 30);
    log.close().unwrap();
    fs::remove_file(dir.path().join("head")).unwrap();
    let segments = fs::read_dir(dir.path().join("segments")).unwrap();
    let last = segments.map(|entry| entry.unwrap().path()).max().unwrap();
    let file = fs::File::options().write(true).open(last).unwrap();
    file.set_len(file.metadata().unwrap().len() - 40).unwrap();
    let error = Follower::open(dir.path(), Position::START, options()).unwrap_err().to_string();
    assert!(error.contains("before the place that its manifest promises"), "{error}");
}

/// The error of each write of a file whose name begins as that of the published head.
#[derive(Default)]
struct Refusals {
    in_place: Option<ErrorKind>,
    by_replacing: Option<ErrorKind>,
}

/// A log whose published head cannot be written from some time on, and a reader beside it.
struct Unwritable {
    disk: SimulatedDisk,
    refusals: Arc<Mutex<Refusals>>,
    log: Log,
    reader: ReadOnlyLog,
    follower: Follower,
}

impl Unwritable {
    fn new(durability: Durability) -> Unwritable {
        let disk = SimulatedDisk::new(5);
        let refusals = Arc::<Mutex<Refusals>>::default();
        let hooked = HookedDisk::new(&disk, {
            let refusals = refusals.clone();
            move |operation, path| {
                let refusals = refusals.lock().unwrap();
                let refusal = match operation {
                    Operation::Write if path == head_path() => refusals.in_place,
                    Operation::Create if path == head_path().with_extension("tmp") => {
                        refusals.by_replacing
                    }
                    _ => None,
                };
                refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
            }
        });
        let writing = LogOptions { durability, disk: Arc::new(hooked), ..on(&disk) };
        let log = Log::open(FOLDER, writing).unwrap();
        append(&log, 3);
        let reader = ReadOnlyLog::open(FOLDER, on(&disk)).unwrap();
        let follower = Follower::open(FOLDER, Position::START, on(&disk)).unwrap();
        Unwritable { disk, refusals, log, reader, follower }
    }

    fn refuse(&self, in_place: Option<ErrorKind>, by_replacing: Option<ErrorKind>) {
        *self.refusals.lock().unwrap() = Refusals { in_place, by_replacing };
    }

    fn commit(&self) -> Result<Position, AppendError> {
        let event = RawEvent::new("counted", "one more");
        self.log.blocking().commit(Append::event(event)).map(|committed| committed.last)
    }

    /// Checks what other processes are told: everything up to `acknowledged`, without an error.
    fn found_beside(&mut self, acknowledged: Position) {
        let fresh = block_on(self.reader.fresh_head()).unwrap();
        assert!(fresh >= acknowledged, "{fresh} is told, and {acknowledged} is acknowledged");
        assert_eq!(read_from(&self.reader).len() as u64, fresh.get());
        followed(&mut self.follower);
        assert_eq!(self.follower.head(), fresh);
        assert_eq!(block_on(self.reader.fresh_head()).unwrap(), fresh);
    }

    /// Checks that a crash now loses nothing that was acknowledged, and changes no epoch.
    fn kept_by_crashes(&self, acknowledged: Position, durability: Durability) {
        for crashed in [self.disk.process_kill(), self.disk.power_loss(acknowledged.get())] {
            let again = Log::open(FOLDER, on(&crashed)).unwrap();
            assert!(again.head().position() >= acknowledged);
            assert_eq!(again.identity(), self.log.identity());
            again.close().unwrap();
            if durability != Durability::Synced {
                return;
            }
        }
    }
}

const LONG: Durability = Durability::Interval { interval: Duration::from_secs(3_600) };

/// Once, a published head that could not be written was a warning of the writer: commits were
/// acknowledged, and a reader in another process answered without them, however fresh it was to be.
#[test]
fn a_published_head_that_cannot_be_written_is_replaced() {
    for durability in [Durability::Synced, LONG] {
        let mut beside = Unwritable::new(durability);
        beside.refuse(Some(ErrorKind::Other), None);
        for _ in 0..5 {
            let acknowledged = beside.commit().unwrap();
            beside.found_beside(acknowledged);
            beside.kept_by_crashes(acknowledged, durability);
        }
        beside.refuse(None, None);
        let acknowledged = beside.commit().unwrap();
        beside.found_beside(acknowledged);
        let identity = beside.log.identity();
        beside.log.clone().close().unwrap();
        beside.found_beside(acknowledged);
        let again = Log::open(FOLDER, on(&beside.disk)).unwrap();
        assert_eq!((again.head().position(), again.identity()), (acknowledged, identity));
    }
}

/// The commit is in the log, and its outcome is unknown to its caller, as after any other write
/// that fails.
#[test]
fn a_log_stops_when_its_published_head_can_be_neither_written_nor_replaced() {
    for durability in [Durability::Synced, LONG] {
        let mut beside = Unwritable::new(durability);
        let acknowledged = beside.commit().unwrap();
        beside.refuse(Some(ErrorKind::Other), Some(ErrorKind::Other));
        let error = beside.commit().unwrap_err();
        let AppendError::OutcomeUnknown(SyncError { cause: Unavailable::Failed { .. } }) = &error
        else {
            panic!("another error: {error:?}")
        };
        let said = error.to_string();
        assert!(said.contains("cannot replace /data/log/head"), "{said}");
        beside.found_beside(acknowledged);
        let refused = beside.commit().unwrap_err();
        assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
        beside.kept_by_crashes(acknowledged, durability);
        let (disk, identity) = (beside.disk.process_kill(), beside.log.identity());
        let again = Log::open(FOLDER, on(&disk)).unwrap();
        assert_eq!(again.head().position(), acknowledged.plus(1));
        assert_eq!(again.identity(), identity);
    }
}

/// The log waits for space, as for a commit that finds none, and goes on by itself.
#[test]
fn a_log_waits_when_there_is_no_space_for_its_published_head() {
    for durability in [Durability::Synced, LONG] {
        let mut beside = Unwritable::new(durability);
        let acknowledged = beside.commit().unwrap();
        for [in_place, by_replacing] in [
            [ErrorKind::StorageFull, ErrorKind::StorageFull],
            [ErrorKind::StorageFull, ErrorKind::Other],
            [ErrorKind::Other, ErrorKind::StorageFull],
        ] {
            let before = beside.log.head().position().max(acknowledged);
            beside.refuse(Some(in_place), Some(by_replacing));
            let error = beside.commit().unwrap_err();
            let AppendError::OutcomeUnknown(SyncError { cause: Unavailable::Storage { .. } }) =
                &error
            else {
                panic!("another error: {error:?}")
            };
            let said = error.to_string();
            assert!(said.contains("/data/log/head") && said.contains("free space"), "{said}");
            beside.found_beside(before);
            let refused = beside.commit().unwrap_err();
            assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
            beside.kept_by_crashes(before, durability);
            // There is space again.
            beside.refuse(None, None);
            let acknowledged = beside.commit().unwrap();
            assert_eq!(acknowledged, before.plus(2), "the commit that waited is there once");
            beside.found_beside(acknowledged);
            beside.kept_by_crashes(acknowledged, durability);
        }
        beside.log.close().unwrap();
    }
}
