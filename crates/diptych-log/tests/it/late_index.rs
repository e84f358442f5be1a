//! A log whose index cannot be written for some time.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    hooked::HookedDisk,
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
    let hooked = HookedDisk::new(&disk, move |operation, path| {
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

const LONG: Duration = Duration::from_secs(30);

/// A log that finds no space for its commits while there is none for its index, either. Each has
/// its own flag. An attempt counts when it begins, and waits while its gate is closed.
struct TwoPauses {
    log: Log,
    disk: SimulatedDisk,
    commits: Arc<FullPlace>,
    index: Arc<FullPlace>,
}

#[derive(Default)]
struct FullPlace {
    full: AtomicBool,
    attempts: AtomicU64,
    gate: Mutex<()>,
}

impl FullPlace {
    fn attempt(&self) -> io::Result<()> {
        if !self.full.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.attempts.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Waits until another attempt begins.
    fn wait_for_attempt(&self) {
        let (before, start) = (self.attempts(), Instant::now());
        while self.attempts() == before {
            assert!(start.elapsed() < LONG, "there is no attempt");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl TwoPauses {
    /// The last of the five commits finds no space.
    fn new() -> TwoPauses {
        let [commits, index] = [(); 2].map(|()| Arc::<FullPlace>::default());
        let (disk, of_commits, of_index) = (SimulatedDisk::new(1), commits.clone(), index.clone());
        let hooked = HookedDisk::new(&disk, move |operation, path| match operation {
            Operation::Write if path.starts_with("/data/log/index") => of_index.attempt(),
            Operation::Write if is(path, ".seg") => of_commits.attempt(),
            _ => Ok(()),
        });
        let options = LogOptions {
            index_bytes: 4 << 10,
            tuning: Tuning { index_patience: Duration::ZERO, ..Tuning::default() },
            disk: Arc::new(hooked),
            ..LogOptions::default()
        };
        let log = Log::open(FOLDER, options).unwrap();
        index.full.store(true, Ordering::SeqCst);
        let closed = index.gate.lock().unwrap();
        (0..4).for_each(|number| append(&log, number).unwrap());
        let start = Instant::now();
        while index.attempts() == 0 {
            assert!(start.elapsed() < LONG, "no part of the index is written");
            thread::sleep(Duration::from_millis(1));
        }
        // The index does not know yet that it finds no space.
        commits.full.store(true, Ordering::SeqCst);
        let error = append(&log, 4).unwrap_err();
        assert!(matches!(error, AppendError::OutcomeUnknown(_)), "{error}");
        drop(closed);
        index.wait_for_attempt();
        TwoPauses { log, disk, commits, index }
    }

    /// Waits until the log is published up to this position.
    fn wait_for(&self, position: u64) {
        let start = Instant::now();
        while self.log.head().position().get() < position {
            assert!(start.elapsed() < LONG, "the commit is not written");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_log_whose_index_finds_space_first_writes_its_commits_once_they_find_some() {
    let two = TwoPauses::new();
    two.index.full.store(false, Ordering::SeqCst);
    let start = Instant::now();
    while !two.disk.contents().iter().any(|(path, _)| is(path, ".run")) {
        assert!(start.elapsed() < LONG, "the index is not written");
        thread::sleep(Duration::from_millis(1));
    }
    two.commits.wait_for_attempt();
    two.commits.full.store(false, Ordering::SeqCst);
    two.wait_for(5);
    append(&two.log, 5).unwrap();
    two.log.close().unwrap();
}

/// The index is tried again at once for an append that waits for it, and not only at the end of a
/// pause of one second.
#[test]
fn a_log_whose_commits_find_space_first_still_hurries_its_index_for_an_append() {
    let two = TwoPauses::new();
    // The pauses get longer.
    while two.index.attempts() < 9 {
        two.index.wait_for_attempt();
    }
    let closed = two.commits.gate.lock().unwrap();
    two.commits.wait_for_attempt();
    two.index.wait_for_attempt();
    thread::sleep(Duration::from_millis(50));
    two.commits.full.store(false, Ordering::SeqCst);
    drop(closed);
    two.wait_for(5);
    let start = Instant::now();
    let error = append(&two.log, 5).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(Unavailable::Storage { .. })), "{error}");
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
    two.index.full.store(false, Ordering::SeqCst);
    append(&two.log, 5).unwrap();
    two.log.close().unwrap();
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
