//! A log whose index cannot be written for some time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych_log::{
    Log, LogOptions, Tuning,
    disk::simulated::{Operation, SimulatedDisk},
};
use diptych_store::{Append, AppendError, EventStore, Filter, RawEvent, Read, Tag, Unavailable};

use crate::{
    hooked::Hooked,
    log_files::{FOLDER, is},
    warnings::told,
};

/// A log of one segment. Its index files cannot be written while the flag is set. An index part has
/// four events.
fn log(full: &Arc<AtomicBool>, tuning: Tuning) -> (SimulatedDisk, Log) {
    log_with(full, io::ErrorKind::StorageFull, tuning)
}

/// The same, with another error.
fn log_with(full: &Arc<AtomicBool>, error: io::ErrorKind, tuning: Tuning) -> (SimulatedDisk, Log) {
    let (disk, full) = (SimulatedDisk::new(1), full.clone());
    let hooked = Hooked::new(&disk, move |operation, path| {
        let is_index = path.starts_with("/data/log/index") && operation == Operation::Write;
        match full.load(Ordering::SeqCst) && is_index {
            true => Err(error.into()),
            false => Ok(()),
        }
    });
    let options = LogOptions {
        index_bytes: 4 << 10,
        tuning,
        disk: Arc::new(hooked),
        ..LogOptions::default()
    };
    (disk, Log::open(FOLDER, options).unwrap())
}

fn append(log: &Log, number: u64) -> Result<(), AppendError> {
    let event = RawEvent::new("noted", vec![7; 1_000]).tag(Tag::new("number", number));
    log.blocking().commit(Append::event(event)).map(drop)
}

/// Once, the first failure to write an index file stopped the log until it was opened again.
#[test]
fn a_log_continues_when_its_index_can_be_written_again() {
    let full = Arc::new(AtomicBool::new(true));
    let (disk, log) = log(&full, Tuning::default());
    let freed = thread::spawn({
        let full = full.clone();
        move || {
            thread::sleep(Duration::from_millis(300));
            full.store(false, Ordering::SeqCst);
        }
    });
    // These are more events than may wait in memory, so some appends wait until there is space.
    for number in 0..100 {
        append(&log, number).unwrap();
    }
    freed.join().unwrap();
    for number in [0, 50, 99] {
        let tag = Filter::tag(Tag::new("number", number));
        assert_eq!(log.blocking().read(&tag, Read::all()).unwrap().len(), 1);
    }
    log.close().unwrap();
    assert!(disk.contents().iter().any(|(path, _)| is(path, ".run")));
    let log = Log::open(FOLDER, LogOptions { disk: Arc::new(disk), ..LogOptions::default() });
    let all = log.unwrap().blocking().read(&Filter::everything(), Read::all()).unwrap().len();
    assert_eq!(all, 100);
}

#[test]
fn a_log_stops_when_its_index_cannot_be_written_for_too_long() {
    let broken = Arc::new(AtomicBool::new(true));
    let tuning = Tuning { index_patience: Duration::from_millis(200), ..Tuning::default() };
    let (_, log) = log_with(&broken, io::ErrorKind::Other, tuning);
    let error = (0..).find_map(|number| append(&log, number).err()).unwrap();
    assert!(error.to_string().contains("/data/log/index"), "{error}");
    broken.store(false, Ordering::SeqCst);
    let again = append(&log, 0).unwrap_err();
    assert!(matches!(again, AppendError::Unavailable(Unavailable::Failed { .. })), "{again}");
    assert!(!log.blocking().read(&Filter::everything(), Read::all()).unwrap().is_empty());
}

/// Once, the log stopped until it was opened again.
#[test]
fn a_log_without_space_for_its_index_refuses_commits_until_there_is_some() {
    let full = Arc::new(AtomicBool::new(true));
    let tuning = Tuning { index_patience: Duration::from_millis(200), ..Tuning::default() };
    let (_, log) = log(&full, tuning);
    let taken = (0..).find(|number| match append(&log, *number) {
        Ok(()) => false,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("/data/log/index") && text.contains("free space"), "{text}");
            assert!(matches!(error, AppendError::Unavailable(Unavailable::Storage { .. })));
            true
        }
    });
    let taken = taken.unwrap();
    let said = log.blocking().stats().unwrap().takes_no_commits.unwrap();
    assert!(said.contains("free space"), "{said}");
    assert!(log.head().ended().is_none());
    full.store(false, Ordering::SeqCst);
    append(&log, taken).unwrap();
    assert_eq!(log.blocking().stats().unwrap().takes_no_commits, None);
    let all = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(all.len() as u64, taken + 1);
    log.close().unwrap();
}

#[test]
fn a_late_index_makes_appends_slower_before_they_wait() {
    const LATE: Duration = Duration::from_millis(1_100);
    let full = Arc::new(AtomicBool::new(true));
    let (_, log) = log(&full, Tuning { waiting_parts: 8, ..Tuning::default() });
    for number in 0..20 {
        append(&log, number).unwrap();
    }
    thread::sleep(LATE);
    // From the second of these appends on, each takes at least five milliseconds longer.
    let start = Instant::now();
    let told = told(|| (0..5).for_each(|number| append(&log, number).unwrap()));
    assert!(start.elapsed() >= Duration::from_millis(20), "{:?}", start.elapsed());
    let is_about_lateness = |told: &&String| told.contains("the index is late");
    let told: Vec<_> = told.iter().filter(is_about_lateness).collect();
    assert_eq!(told.len(), 1, "the operator is told once: {told:#?}");
    assert!(told[0].starts_with("WARN") && told[0].contains("appends are slowed down"), "{told:?}");
    assert!(told[0].contains("parts="), "{told:?}");
    full.store(false, Ordering::SeqCst);
    log.close().unwrap();
}
