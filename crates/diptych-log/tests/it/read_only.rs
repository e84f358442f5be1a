//! A log that is opened for reading: beside its writer, after its writer was killed, and on disks
//! that cannot be written to.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use diptych_log::{
    Background, BackupOptions, Clustering, Follower, Log, LogOptions, OpenError, ReadOnlyLog,
    SealedSegments, Tuning, backup,
    disk::{
        Disk,
        simulated::{Fault, Operation, Random, SimulatedDisk},
    },
    restore, verify,
};
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, Digest, EventStore, Filter, Head, Key,
    KeyedCommit, Limits, LogIdentity, Position, RawEvent, Read, ReadCommits, ReadError, Store,
    SyncError, Tag, Tracking, Unavailable,
    testing::{Setup, TestStore},
};
use pollster::block_on;

use crate::{log_files::FOLDER, read_only_disk::ReadOnlyDisk};

/// A writer and a log that is opened for reading, as one store: the writer appends, and the reader
/// reads.
#[derive(Debug)]
struct Beside {
    writer: Log,
    reader: ReadOnlyLog,
}

impl Beside {
    fn open(dir: &Path, options: &LogOptions) -> Beside {
        let writer = Log::open(dir, options.clone()).unwrap();
        Beside { writer, reader: ReadOnlyLog::open(dir, options.clone()).unwrap() }
    }

    fn refreshed(&self) -> Result<&ReadOnlyLog, ReadError> {
        self.reader.refresh_now()?;
        Ok(&self.reader)
    }
}

impl EventStore for Beside {
    fn identity(&self) -> LogIdentity {
        self.reader.identity()
    }

    fn limits(&self) -> Limits {
        self.reader.limits()
    }

    fn head(&self) -> Head {
        // An error shows in the next read.
        let _ = self.reader.refresh_now();
        self.reader.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        let accepted = self.writer.append(append).await?;
        // The reader refreshes now, so that the head in a test moves at once and not with the next
        // check of the reader.
        self.writer.blocking().flush()?;
        let _ = self.reader.refresh_now();
        Ok(accepted)
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.refreshed()?.read(filter, read).await
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.refreshed()?.commits(read).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.refreshed()?.last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.refreshed()?.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.refreshed()?.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.refreshed()?.tracked(source).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.refreshed()?.types().await
    }

    async fn close(&self) -> Result<(), SyncError> {
        EventStore::close(&self.writer).await?;
        self.reader.close().await
    }
}

mod conformance {
    use super::*;

    fn fresh(setup: &Setup) -> Option<TestStore> {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            limits: setup.limits.clone(),
            time: setup.time,
            // Small, so that cases run over several segments and index files.
            segment_bytes: 64 << 10,
            index_bytes: 8 << 10,
            ..LogOptions::default()
        };
        let beside = Beside::open(dir.path(), &options);
        let (writer, reader) = (beside.writer.clone(), beside.reader.clone());
        let end = move || {
            writer.close().unwrap();
            block_on(reader.close()).unwrap();
        };
        let reopen = move || Store::new(Beside::open(dir.path(), &options));
        Some(TestStore::new(beside).end(end).reopen(reopen))
    }

    diptych_store::conformance!(fresh, lacks: [SecondHandle]);
}

const TAGS: u64 = 13;

fn small(disk: Arc<dyn Disk>) -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        index_bytes: 1024,
        background: Background::Inline,
        clustering: Clustering::Off,
        disk,
        ..LogOptions::default()
    }
}

fn append(log: &Log, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let event = RawEvent::new("noted", number.to_string()).tag(Tag::new("some", number % TAGS));
        let key = Key::new(format!("key {number}"), Digest([number as u8; 16]));
        log.blocking().commit(Append::event(event).key(key)).unwrap();
    }
}

/// Checks all answers of a log about the events 1 to `last`, which `append` wrote.
fn check(log: &ReadOnlyLog, last: u64) {
    assert_eq!(log.head().position(), Position::new(last));
    let log = log.blocking();
    for value in 0..=TAGS {
        let tag = Tag::new("some", value);
        let batch = log.read(&Filter::tag(tag.clone()), Read::all()).unwrap();
        let found: Vec<_> = batch.iter().map(|event| event.position().get()).collect();
        let expected: Vec<_> = (1..=last).filter(|number| number % TAGS == value).collect();
        assert_eq!(found, expected);
        for event in batch.iter() {
            assert_eq!(event.payload(), event.position().to_string().as_bytes());
        }
        assert_eq!(log.count(&tag, Position::MAX).unwrap(), expected.len() as u64);
        let found = log.last(&Filter::tag(tag), Position::MAX).unwrap();
        assert_eq!(found.map(Position::get), expected.last().copied());
    }
    let all = log.read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(all.len() as u64, last);
    for number in [1, last / 2, last].into_iter().filter(|number| *number > 0) {
        let commit = log.keyed(&format!("key {number}")).unwrap().unwrap();
        assert_eq!((commit.first.get(), commit.digest), (number, Digest([number as u8; 16])));
    }
    assert_eq!(log.keyed(&format!("key {}", last + 1)).unwrap(), None);
}

/// A simulated disk, the options of a writer on it, and the options of a reader whose disk refuses
/// every change.
fn on_simulated_disk() -> (SimulatedDisk, LogOptions, LogOptions) {
    let disk = SimulatedDisk::new(3);
    let reading = small(ReadOnlyDisk::new(Arc::new(disk.clone()), "/"));
    (disk.clone(), small(Arc::new(disk)), reading)
}

#[test]
fn the_writer_s_commits_are_read_beside_it_over_segments_and_index_files() {
    let (_disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=5);
    let reader = ReadOnlyLog::open(FOLDER, reading).unwrap();
    check(&reader, 5);
    assert_eq!(reader.identity(), writer.identity());
    for last in [6, 7, 20, 21, 150, 151, 400] {
        append(&writer, reader.head().position().get() + 1..=last);
        reader.refresh_now().unwrap();
        check(&reader, last);
    }
    writer.blocking().cluster().unwrap();
    check(&reader, 400);
    writer.close().unwrap();
    reader.refresh_now().unwrap();
    check(&reader, 400);
}

/// The reader keeps few files mapped, so it reads replaced files again.
#[test]
fn files_that_are_merged_and_clustered_under_a_reader_are_read_again() {
    let (_disk, writing, reading) = on_simulated_disk();
    let tuning = Tuning { mapped_files: 16, ..Tuning::default() };
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=1_000);
    let reader = ReadOnlyLog::open(FOLDER, LogOptions { tuning, ..reading }).unwrap();
    check(&reader, 1_000);
    writer.blocking().cluster().unwrap();
    check(&reader, 1_000);
    append(&writer, 1_001..=1_500);
    writer.blocking().cluster().unwrap();
    reader.refresh_now().unwrap();
    check(&reader, 1_500);
}

#[test]
fn without_index_files_and_published_head_a_log_is_read_and_nothing_is_written() {
    let (disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=300);
    writer.close().unwrap();
    for (path, _) in disk.contents() {
        let name = path.to_string_lossy();
        if name.contains("/index/") || name.ends_with("/head") || name.ends_with("/lock") {
            disk.remove(&path).unwrap();
        }
    }
    let before = disk.contents();
    let reader = ReadOnlyLog::open(FOLDER, reading).unwrap();
    check(&reader, 300);
    reader.refresh_now().unwrap();
    assert_eq!(disk.contents(), before);
}

/// The reader reads only whole commits. The next writer removes the unfinished end.
#[test]
fn a_log_whose_writer_was_killed_is_read_to_its_last_whole_commit() {
    let (disk, writing, _) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=203);
    let killed = disk.process_kill();
    let newest = |path: &PathBuf| path.to_string_lossy().ends_with(".seg");
    let segments = killed.contents().into_iter().filter(|(path, _)| newest(path));
    let (last, bytes) = segments.max().unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    killed.open(&last, 0).unwrap().write_at(end, b"half of a record").unwrap();
    let before = killed.contents();
    let reading = small(ReadOnlyDisk::new(Arc::new(killed.clone()), "/"));
    let reader = ReadOnlyLog::open(FOLDER, reading).unwrap();
    check(&reader, 203);
    assert_eq!(killed.contents(), before);
    let writer = Log::open(FOLDER, small(Arc::new(killed))).unwrap();
    append(&writer, 204..=230);
    reader.refresh_now().unwrap();
    check(&reader, 230);
}

#[test]
fn a_verification_a_backup_and_a_restore_write_nothing_to_their_source() {
    let (disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing.clone()).unwrap();
    append(&writer, 1..=300);
    writer.close().unwrap();
    let before = disk.contents();
    verify(FOLDER, &reading, |_, _| {}).unwrap();
    ReadOnlyLog::open(FOLDER, reading.clone()).unwrap().blocking().stats().unwrap();
    assert_eq!(disk.contents(), before);
    let source = ReadOnlyDisk::new(Arc::new(disk.clone()), FOLDER);
    let options = BackupOptions { sealed: SealedSegments::Copy, disk: source };
    backup(FOLDER, "/data/backup", &options, |_, _| {}).unwrap();
    check(&ReadOnlyLog::open("/data/backup", reading).unwrap(), 300);
    let backup = ReadOnlyDisk::new(Arc::new(disk.clone()), "/data/backup");
    let options = LogOptions { disk: backup, ..writing.clone() };
    restore("/data/backup", "/data/restored", &options, |_, _| {}).unwrap();
    let in_source = |(path, _): &(PathBuf, Vec<u8>)| path.starts_with(FOLDER);
    assert_eq!(disk.contents().into_iter().filter(in_source).collect::<Vec<_>>(), before);
    let restored = Log::open("/data/restored", writing).unwrap();
    assert_eq!(restored.head().position(), Position::new(300));
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

/// A log on the real disk, for tests that change its folder.
fn real(dir: &Path) -> (Log, LogOptions) {
    let options = small(LogOptions::default().disk);
    let log = Log::open(dir, options.clone()).unwrap();
    append(&log, 1..=100);
    (log, options)
}

/// After a loss of power, and with no writer that would build the index again.
#[test]
fn a_read_gets_past_any_number_of_damaged_index_files() {
    let dir = tempfile::tempdir().unwrap();
    let (log, options) = real(dir.path());
    append(&log, 101..=1000);
    log.blocking().cluster().unwrap();
    log.close().unwrap();
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir.path().join("index")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "run") {
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 8, "{damaged} index files");
    let reader = ReadOnlyLog::open(dir.path(), options).unwrap();
    let some = Filter::tag(Tag::new("some", 1));
    let found = reader.blocking().read(&some, Read::all()).unwrap();
    assert_eq!(found.len() as u64, 1000_u64.div_ceil(TAGS));
}

#[test]
fn a_restored_folder_ends_the_head_with_the_change_of_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let (root, kept) = (dir.path().join("log"), dir.path().join("backup"));
    let (log, options) = real(&root);
    backup(&root, &kept, &BackupOptions::default(), |_, _| {}).unwrap();
    append(&log, 101..=110);
    log.close().unwrap();
    let reader = ReadOnlyLog::open(&root, options.clone()).unwrap();
    check(&reader, 110);
    for folder in [root.join("segments"), root.join("index"), root.clone()] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    restore(&kept, &root, &options, |_, _| {}).unwrap();
    let restored = Log::open(&root, options).unwrap();
    let error = reader.refresh_now().unwrap_err();
    let changed = |error: &ReadError| match error {
        ReadError::Unavailable(Unavailable::HistoryChanged(changed)) => Some(changed.is),
        _ => None,
    };
    assert_eq!(changed(&error), Some(restored.identity()), "{error}");
    assert!(matches!(reader.head().ended(), Some(Unavailable::HistoryChanged(_))));
    let error = reader.blocking().read(&Filter::everything(), Read::all()).unwrap_err();
    assert_eq!(changed(&error), Some(restored.identity()), "{error}");
}

#[test]
fn a_folder_that_is_moved_away_ends_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let (root, moved) = (dir.path().join("log"), dir.path().join("moved"));
    let (log, options) = real(&root);
    let reader = ReadOnlyLog::open(&root, options.clone()).unwrap();
    log.close().unwrap();
    std::fs::rename(&root, moved).unwrap();
    let other = Log::open(&root, options).unwrap();
    append(&other, 1..=200);
    let error = reader.refresh_now().unwrap_err().to_string();
    assert!(error.contains("moved, removed or replaced") && error.contains("open it again"));
    assert!(reader.head().is_ended());
    check(&reader, 100);
}

#[test]
fn appends_are_refused_with_advice() {
    let (_disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=3);
    let reader = ReadOnlyLog::open(FOLDER, reading).unwrap();
    let event = RawEvent::new("noted", b"no");
    let error = block_on(reader.append(Append::event(event))).unwrap_err();
    assert!(error.to_string().contains("opened for reading only; open it with"), "{error}");
    check(&reader, 3);
}

#[test]
fn a_folder_without_a_log_is_not_opened_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = ReadOnlyLog::open(&dir, LogOptions::default()).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert!(error.to_string().contains("there is no log"), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Writer and reader have their own threads. The reader keeps few files mapped, so it comes across
/// replaced files.
#[test]
fn readers_agree_with_a_log_that_is_written_merged_and_clustered_beside_them() {
    const EVENTS: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning {
        tidy_after: Duration::ZERO,
        cluster_pause: 0,
        mapped_files: 16,
        ..Tuning::default()
    };
    let options = LogOptions {
        background: Background::Threads,
        clustering: Clustering::Background,
        tuning,
        ..small(LogOptions::default().disk)
    };
    let writer = Log::open(dir.path(), options.clone()).unwrap();
    append(&writer, 1..=1);
    let reader = ReadOnlyLog::open(dir.path(), options).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (reader, done) = (&reader, &done);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !done.load(Ordering::Relaxed) {
                    check_some(reader, &mut random);
                }
            });
        }
        append(&writer, 2..=EVENTS);
        writer.blocking().cluster().unwrap();
        let end = Position::new(EVENTS);
        block_on(reader.head().after(end.before())).unwrap();
        done.store(true, Ordering::Relaxed);
    });
    check(&reader, EVENTS);
}

fn check_some(reader: &ReadOnlyLog, random: &mut Random) {
    let (head, value) = (reader.head().position(), random.below(TAGS));
    let read = Read::all().upto(head);
    let batch = reader.blocking().read(&Filter::tag(Tag::new("some", value)), read).unwrap();
    let found: Vec<_> = batch.iter().map(|event| event.position().get()).collect();
    let expected: Vec<_> = (1..=head.get()).filter(|number| number % TAGS == value).collect();
    assert_eq!(found, expected);
    for event in batch.iter() {
        assert_eq!(event.payload(), event.position().to_string().as_bytes());
    }
    let number = 1 + random.below(head.get());
    let commit = reader.blocking().keyed(&format!("key {number}")).unwrap().unwrap();
    assert_eq!(commit.first, Position::new(number));
}

/// The environment variable with the folder of the process that has no right to write.
const FOREIGN: &str = "DIPTYCH_FOREIGN_FOLDER";

/// Reads, verifies, backs up and restores from a folder that this process cannot write to. As a
/// test of its own it does nothing.
#[test]
fn child_without_the_right_to_write() {
    let Some(root) = std::env::var_os(FOREIGN).map(PathBuf::from) else { return };
    let (log, options) = (root.join("log"), small(LogOptions::default().disk));
    let refused = std::fs::write(log.join("file"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(Log::open(&log, options.clone()).is_err());
    let reader = ReadOnlyLog::open(&log, options.clone()).unwrap();
    check(&reader, 100);
    assert!(reader.blocking().stats().unwrap().segments > 1);
    let mut follower = Follower::open(&log, Position::START, options.clone()).unwrap();
    assert_eq!(follower.next(&Filter::everything(), 1_000).unwrap().len(), 100);
    assert_eq!(verify(&log, &options, |_, _| {}).unwrap().events, 100);
    let (kept, restored) = (root.join("writable/backup"), root.join("writable/restored"));
    backup(&log, &kept, &BackupOptions::default(), |_, _| {}).unwrap();
    check(&ReadOnlyLog::open(&kept, options.clone()).unwrap(), 100);
    restore(&log, &restored, &options, |_, _| {}).unwrap();
    let restored = Log::open(&restored, options).unwrap();
    assert_eq!(restored.head().position(), Position::new(100));
}

/// Once, each of these operations took the lock for writing and opened files for writing.
#[test]
fn a_folder_of_another_user_is_read_verified_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (root, writable) = (dir.path().join("log"), dir.path().join("writable"));
    drop(real(&root).0);
    std::fs::create_dir(&writable).unwrap();
    let may = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for folder in [root.join("segments"), root.join("index"), root] {
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            may(&entry, if entry.is_dir() { 0o555 } else { 0o444 });
        }
        may(&folder, 0o555);
    }
    may(&writable, 0o777);
    may(dir.path(), 0o755);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "read_only::child_without_the_right_to_write", "--nocapture"]);
    if std::fs::metadata(&writable).unwrap().uid() == 0 {
        // The superuser may write everywhere. This user may not, on any system.
        child.uid(65_534).gid(65_534);
    }
    let ended = child.env(FOREIGN, dir.path()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", said(&ended.stdout), said(&ended.stderr));
    assert!(said(&ended.stdout).contains("1 passed"));
    // The folder is made writable again, so that any user who runs the test can remove it.
    for folder in ["log", "log/segments", "log/index"] {
        may(&dir.path().join(folder), 0o755);
    }
}
