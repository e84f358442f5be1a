//! A log that is opened for reading: beside its writer, and after its writer was killed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use diptych_log::{
    Background, Clustering, Log, LogOptions, OpenError, ReadOnlyLog, Tuning,
    disk::{
        Disk,
        simulated::{Operation, Random, SimulatedDisk},
    },
};
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, Digest, EventStore, Filter, Head, Key,
    KeyedCommit, Limits, LogIdentity, Position, RawEvent, Read, ReadCommits, ReadError, Store,
    SyncError, Tag, Tracking,
    testing::{Setup, TestStore},
};
use pollster::block_on;

use crate::{
    hooked::HookedDisk,
    log_files::{FOLDER, is},
    read_only_disk::ReadOnlyDisk,
};

/// A writer and a log that is opened for reading, as one store: the writer appends, and the reader
/// reads.
#[derive(Debug)]
struct WriterAndReader {
    writer: Log,
    reader: ReadOnlyLog,
}

impl WriterAndReader {
    fn open(dir: &Path, options: &LogOptions) -> WriterAndReader {
        let writer = Log::open(dir, options.clone()).unwrap();
        WriterAndReader { writer, reader: ReadOnlyLog::open(dir, options.clone()).unwrap() }
    }

    fn refreshed(&self) -> Result<&ReadOnlyLog, ReadError> {
        self.reader.refresh_now()?;
        Ok(&self.reader)
    }
}

impl EventStore for WriterAndReader {
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
        let beside = WriterAndReader::open(dir.path(), &options);
        let (writer, reader) = (beside.writer.clone(), beside.reader.clone());
        let end = move || {
            writer.close().unwrap();
            block_on(reader.close()).unwrap();
        };
        let reopen = move || Store::new(WriterAndReader::open(dir.path(), &options));
        Some(TestStore::new(beside).end(end).reopen(reopen))
    }

    diptych_store::conformance!(fresh, lacks: [SecondHandle]);
}

pub(crate) const TAGS: u64 = 13;

pub(crate) fn small(disk: Arc<dyn Disk>) -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        index_bytes: 1024,
        background: Background::Inline,
        clustering: Clustering::Off,
        disk,
        ..LogOptions::default()
    }
}

pub(crate) fn append(log: &Log, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let event = RawEvent::new("noted", number.to_string()).tag(Tag::new("some", number % TAGS));
        let key = Key::new(format!("key {number}"), Digest([number as u8; 16]));
        log.blocking().commit(Append::event(event).key(key)).unwrap();
    }
}

/// Checks all answers of a log about the events 1 to `last`, which `append` wrote.
pub(crate) fn check(log: &ReadOnlyLog, last: u64) {
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
pub(crate) fn on_simulated_disk() -> (SimulatedDisk, LogOptions, LogOptions) {
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

/// The writer may replace or remove a file between two operations of a reader.
#[test]
fn a_reader_tries_again_when_an_operation_fails_once() {
    let (disk, writing, _) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=5);
    let fails = Arc::new(AtomicBool::new(false));
    let hook = {
        let fails = fails.clone();
        move |operation, path: &Path| {
            let is_head = operation == Operation::Read && is(path, "/head");
            match is_head && fails.swap(false, Ordering::SeqCst) {
                true => Err(std::io::ErrorKind::Other.into()),
                false => Ok(()),
            }
        }
    };
    let reader = ReadOnlyLog::open(FOLDER, small(Arc::new(HookedDisk::new(&disk, hook)))).unwrap();
    append(&writer, 6..=9);
    fails.store(true, Ordering::SeqCst);
    reader.refresh_now().unwrap();
    assert!(!fails.load(Ordering::SeqCst), "the head was not read");
    check(&reader, 9);
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

/// A log on the real disk, for tests that change its folder.
pub(crate) fn real(dir: &Path) -> (Log, LogOptions) {
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
