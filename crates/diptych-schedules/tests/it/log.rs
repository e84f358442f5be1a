//! A log on a simulated disk, and commits that show whether they are whole.

use std::{ops::Deref, path::Path, sync::Arc, thread, time::Duration};

use diptych_log::{Background, Log, LogOptions, Tuning, disk::simulated::SimulatedDisk};
use diptych_store::{Append, Batch, Filter, RawEvent, Read, SyncedCommit, Tag};
use shuttle::rand::{Rng, thread_rng};

use crate::explore::reached;

const FOLDER: &str = "/data/log";

/// A log with the threads that a real one has. It is closed when it is dropped, but not after a
/// failure, because its threads do not run any more.
pub(crate) struct OpenLog {
    log: Option<Log>,
    /// Bytes that callers add to each event. In a log of small segments they fill some.
    pub(crate) more_bytes: usize,
    pub(crate) disk: SimulatedDisk,
}

impl OpenLog {
    /// A log in one segment.
    pub(crate) fn new() -> OpenLog {
        OpenLog::with(options())
    }

    pub(crate) fn with(options: LogOptions) -> OpenLog {
        let disk = SimulatedDisk::new(1);
        let options = LogOptions { disk: Arc::new(disk.clone()), ..options };
        let more_bytes = if options.segment_bytes < 2_048 { 200 } else { 0 };
        OpenLog { log: Some(Log::open(FOLDER, options).unwrap()), more_bytes, disk }
    }

    /// A handle for another thread.
    pub(crate) fn handle(&self) -> Log {
        Log::clone(self)
    }

    /// Notes whether a segment was sealed.
    pub(crate) fn note_segments(&self) {
        if self.blocking().stats().unwrap().segments > 1 {
            reached("a segment is sealed");
        }
    }

    /// Whether a segment is clustered.
    pub(crate) fn is_any_clustered(&self) -> bool {
        let is_clustered = |bytes: &[u8]| bytes.get(10..12) == Some(&[1, 0]);
        let is_segment = |path: &Path| path.extension().is_some_and(|ending| ending == "seg");
        let files = self.disk.contents();
        files.iter().any(|(path, bytes)| is_segment(path) && is_clustered(bytes))
    }

    /// Everything that is left after a loss of power at this moment.
    pub(crate) fn after_power_loss(&self) -> Vec<String> {
        OpenLog::left_on(&self.disk)
    }

    /// The same, of the log on a disk.
    pub(crate) fn left_on(disk: &SimulatedDisk) -> Vec<String> {
        let disk = Arc::new(disk.power_loss(thread_rng().r#gen()));
        let options = LogOptions { disk, background: Background::Inline, ..options() };
        let log = Log::open(FOLDER, options).unwrap();
        let all = texts(&log.blocking().read(&Filter::everything(), Read::all()).unwrap());
        log.close().unwrap();
        all
    }
}

impl Deref for OpenLog {
    type Target = Log;

    fn deref(&self) -> &Log {
        self.log.as_ref().unwrap()
    }
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        if thread::panicking() {
            std::mem::forget(self.log.take());
        }
    }
}

/// A log in one segment, with one index part, that prepares no space.
pub(crate) fn options() -> LogOptions {
    let tuning = Tuning { prepared_bytes: 0, ..Tuning::default() };
    LogOptions { tuning, ..LogOptions::default() }
}

/// A log that begins a part of the index with about every second commit, and a segment with about
/// every fifth.
pub(crate) fn small() -> LogOptions {
    LogOptions { segment_bytes: 1024, index_bytes: 250, ..options() }
}

/// The same, with segments that are clustered soon. At most this many files stay mapped.
pub(crate) fn tidying(mapped_files: usize) -> LogOptions {
    let tuning = Tuning {
        tidy_after: Duration::from_millis(1),
        cluster_pause: 0,
        waiting_parts: 2,
        mapped_files,
        ..small().tuning
    };
    LogOptions { tuning, ..small() }
}

/// A commit of some events. Each says which commit it belongs to, its number in it, and how many
/// there are.
pub(crate) fn commit(name: &str, events: usize) -> Append {
    commit_of(name, events, 0)
}

/// The same, with this many more bytes in each event.
pub(crate) fn commit_of(name: &str, events: usize, bytes: usize) -> Append {
    Append::events((1..=events).map(|number| {
        let mut text = format!("{name} {number}/{events};").into_bytes();
        text.resize(text.len() + bytes, b'.');
        RawEvent::new("noted", text).tag(Tag::new("commit", name))
    }))
}

/// The events of a batch, as [`commit`] wrote them.
pub(crate) fn texts(batch: &Batch) -> Vec<String> {
    let text = |payload: &[u8]| {
        let text = String::from_utf8(payload.to_vec()).unwrap();
        text.split(';').next().unwrap().to_owned()
    };
    batch.iter().map(|event| text(event.payload())).collect()
}

/// Asserts that events from the beginning of a log are whole commits.
#[track_caller]
pub(crate) fn assert_whole(texts: &[String]) {
    let mut rest = texts.iter();
    while let Some(first) = rest.next() {
        let (name, place) = first.split_once(' ').unwrap();
        let (number, events) = place.split_once('/').unwrap();
        assert_eq!(number, "1", "{texts:?} has a part of a commit");
        for number in 2..=events.parse().unwrap() {
            let expected = format!("{name} {number}/{events}");
            assert_eq!(rest.next(), Some(&expected), "{texts:?} has a part of a commit");
        }
    }
}

/// Asserts that a commit has these events at its positions.
#[track_caller]
pub(crate) fn assert_at(all: &[String], synced: &SyncedCommit, name: &str, events: usize) {
    assert_eq!(synced.last.get() + 1 - synced.first.get(), events as u64);
    for number in 1..=events {
        let at = synced.first.get() as usize - 1 + number - 1;
        assert_eq!(all[at], format!("{name} {number}/{events}"));
    }
}

pub(crate) fn read_all(log: &Log) -> Vec<String> {
    texts(&log.blocking().read(&Filter::everything(), Read::all()).unwrap())
}
