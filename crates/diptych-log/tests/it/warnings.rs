//! The warnings and errors that a log reports to the program that opened it.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use diptych_log::{
    Background, BackupOptions, Log, LogOptions, ReadOnlyLog, backup,
    disk::simulated::SimulatedDisk, restore,
};
use diptych_store::{Append, Filter, RawEvent, Read, Tag};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::log_files::{FOLDER, disk_of, is};

/// The warnings and errors of this thread.
#[derive(Clone, Default)]
pub(crate) struct ThreadWarnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for ThreadWarnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs `run`, and returns the warnings and errors that this thread logs meanwhile.
pub(crate) fn told(run: impl FnOnce()) -> Vec<String> {
    let told = ThreadWarnings::default();
    tracing::subscriber::with_default(told.clone(), run);
    let told = told.0.lock().unwrap();
    told.clone()
}

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn filled() -> (SimulatedDisk, Log) {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    for number in 0..100 {
        let event = RawEvent::new("noted", vec![7; 100]).tag(Tag::new("number", number));
        log.blocking().commit(Append::event(event)).unwrap();
    }
    (disk, log)
}

fn read_all(log: &Log) {
    assert_eq!(log.blocking().read(&Filter::everything(), Read::all()).unwrap().len(), 100);
    let found = log.blocking().read(&Filter::tag(Tag::new("number", 50)), Read::all()).unwrap();
    assert_eq!(found.len(), 1);
}

/// Once, the first open after a restore warned for each segment.
#[test]
fn rebuilt_index_files_cause_one_warning() {
    let (disk, log) = filled();
    log.close().unwrap();
    let segments = disk.contents().iter().filter(|(path, _)| is(path, ".seg")).count();
    assert!(segments > 10);
    for ending in [".run", ".group"] {
        let mut files = disk.contents();
        match ending {
            ".run" => files.retain(|(path, _)| !is(path, ending)),
            _ => files.iter_mut().filter(|(path, _)| is(path, ending)).for_each(|(_, bytes)| {
                bytes[20] ^= 1;
            }),
        }
        let told = told(|| {
            let log = Log::open(FOLDER, options(&disk_of(&files))).unwrap();
            read_all(&log);
            log.close().unwrap();
        });
        assert_eq!(told.len(), 1, "{told:#?}");
        let kind = if ending == ".run" { "an index file" } else { "a group file" };
        assert!(told[0].starts_with("WARN") && told[0].contains(kind), "{told:#?}");
    }
}

/// A backup has no index files, so the first open of a restored log finds none.
#[test]
fn the_first_open_of_a_restored_log_causes_one_warning() {
    let (disk, log) = filled();
    log.close().unwrap();
    let copying = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    backup(FOLDER, "/data/backup", &copying, |_, _| ()).unwrap();
    let segments = disk.contents().iter().filter(|(path, _)| is(path, ".seg")).count();
    assert!(segments > 20);
    let mut told = told(|| {
        restore("/data/backup", "/data/restored", &options(&disk), |_, _| ()).unwrap();
        let log = Log::open("/data/restored", options(&disk)).unwrap();
        read_all(&log);
        log.close().unwrap();
    });
    told.retain(|told| !told.contains("a group file"));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("WARN") && told[0].contains("an index file"), "{told:#?}");
}

/// Once, `diptych read` on a full disk printed that the log stops taking commits, and failed with
/// an unknown outcome. Only commits need space.
#[test]
fn reading_on_a_full_disk_is_no_error() {
    let (disk, _log) = filled();
    let disk = disk.process_kill();
    disk.set_capacity(disk.used_bytes());
    let told = told(|| {
        let log = ReadOnlyLog::open(FOLDER, options(&disk)).unwrap();
        let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
        assert_eq!(batch.len(), 100);
    });
    assert!(told.is_empty(), "{told:#?}");
    assert!(disk.failures().is_empty(), "it wrote");
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    read_all(&log);
    let refused = log.blocking().commit(Append::event(RawEvent::new("noted", "")));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no space") && refused.contains("free space"), "{refused}");
}
