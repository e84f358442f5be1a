//! Scrubs: verifying a log that is open and written to.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use diptych_log::{
    ArchiveLimit, Background, Clustering, Damage, Durability, Log, LogOptions, OpenError,
    ScrubOutcome, ScrubSchedule, VerifyError,
    disk::{
        Disk,
        simulated::{Fault, Operation, SimulatedDisk},
    },
    scrub,
};
use diptych_store::{Append, EventStore, RawEvent, Tag};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};

use crate::hooked::HookedDisk;

/// Faster than any test needs.
const FAST: u64 = 1 << 40;

fn small(clustering: Clustering) -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        index_bytes: 1500,
        clustering,
        durability: Durability::Interval { interval: Duration::from_millis(20) },
        ..LogOptions::default()
    }
}

fn append(log: &Log, commits: u64) {
    for number in 0..commits {
        let event =
            RawEvent::new("counted", number.to_string()).tag(Tag::new("account", number % 5));
        let _ = log.blocking().commit(Append::event(event)).unwrap();
    }
}

fn files_in(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(ending))).collect();
    files.sort();
    files
}

fn damage_of<T: std::fmt::Debug>(scrubbed: Result<T, VerifyError>) -> Vec<Damage> {
    match scrubbed {
        Err(VerifyError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

fn change_byte(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_log_is_scrubbed_while_it_is_written_and_clustered() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small(Clustering::Background)).unwrap();
    append(&log, 100);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clusterer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                log.blocking().cluster().unwrap();
            }
        });
        let scrubber = scope.spawn(|| {
            let (mut events, mut rounds) = (0, 0);
            while rounds < 3 || !stop.load(Ordering::Relaxed) {
                let before = log.head().position().get();
                let inside = log.scrub(FAST, |_, _| {}).unwrap();
                assert!(inside.events >= events.max(before), "{inside:?} {events} {before}");
                let outside = scrub(dir.path(), &small(Clustering::Off), FAST, |_, _| {}).unwrap();
                assert!(outside.events >= inside.events, "{outside:?} {inside:?}");
                (events, rounds) = (outside.events, rounds + 1);
            }
        });
        append(&log, 1_500);
        stop.store(true, Ordering::Relaxed);
        clusterer.join().unwrap();
        scrubber.join().unwrap();
    });
    let mut seen = Vec::new();
    let report = log.scrub(FAST, |done, all| seen.push((done, all))).unwrap();
    assert_eq!((report.events, report.commits), (1_600, 1_600));
    assert_eq!(report.segments as usize, files_in(&dir.path().join("segments"), ".seg").len());
    assert!(report.index_files > report.segments / 2, "{report:?}");
    assert_eq!(seen.len() as u64, report.segments);
    assert!(seen.is_sorted() && seen.last().unwrap().0 == report.bytes, "{seen:?}");
    let last = log.last_scrub().unwrap();
    assert_eq!(last.outcome, ScrubOutcome::Whole(report));
}

#[test]
fn a_scrub_names_each_damaged_file_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small(Clustering::Off)).unwrap();
    append(&log, 600);
    log.blocking().cluster().unwrap();
    assert!(log.scrub(FAST, |_, _| {}).is_ok());
    let (segment, index) = {
        let segments = files_in(&dir.path().join("segments"), ".seg");
        let index = files_in(&dir.path().join("index"), ".run");
        (segments[2].clone(), index[4].clone())
    };
    change_byte(&segment, 200);
    change_byte(&index, 100);
    let expect = [&segment, &index];
    for damage in [
        damage_of(log.scrub(FAST, |_, _| {})),
        damage_of(scrub(dir.path(), &small(Clustering::Off), FAST, |_, _| {})),
    ] {
        let mut files: Vec<&PathBuf> = damage.iter().map(|damage| &damage.file).collect();
        files.sort_by_key(|file| *file == &index);
        assert_eq!(files, expect, "{damage:?}");
    }
    let ScrubOutcome::Damaged(noted) = log.last_scrub().unwrap().outcome else { panic!() };
    assert_eq!(noted.len(), 2);
    append(&log, 10);
    assert_eq!(log.head().position().get(), 610);
}

#[test]
fn a_segment_that_is_gone_is_damage_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small(Clustering::Off)).unwrap();
    append(&log, 300);
    let segments = files_in(&dir.path().join("segments"), ".seg");
    fs::remove_file(&segments[1]).unwrap();
    let damage = damage_of(log.scrub(FAST, |_, _| {}));
    assert!(
        damage.iter().any(|damage| damage.what == "segment 2 before it is missing"),
        "{damage:?}"
    );
}

#[test]
fn archived_segments_are_scrubbed_and_an_archive_that_is_not_there_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, archive) = (dir.path().join("log"), dir.path().join("archive"));
    let log = Log::open(&folder, small(Clustering::Off)).unwrap();
    append(&log, 600);
    log.blocking().cluster().unwrap();
    let whole = log.scrub(FAST, |_, _| {}).unwrap();
    assert!(log.archive(&archive, ArchiveLimit::All, |_, _| {}).unwrap().moved > 3);
    assert_eq!(log.scrub(FAST, |_, _| {}).unwrap(), whole);

    let stub = &files_in(&folder.join("segments"), ".arc")[1];
    let kept = fs::read(stub).unwrap();
    change_byte(stub, kept.len() / 2);
    let damage = damage_of(log.scrub(FAST, |_, _| {}));
    assert_eq!((damage.len(), &damage[0].file), (1, stub), "{damage:?}");
    fs::write(stub, kept).unwrap();

    // A log that is open holds the folder of its archive, wherever that is moved.
    drop(log);
    let gone = dir.path().join("gone");
    fs::rename(&archive, &gone).unwrap();
    let log = Log::open(&folder, small(Clustering::Off)).unwrap();
    let unreachable = log.scrub(FAST, |_, _| {}).unwrap_err();
    assert!(matches!(unreachable, VerifyError::Open(OpenError::Io { .. })), "{unreachable:?}");
    let said = unreachable.to_string();
    assert!(said.contains("archive --relocated"), "{said}");
    let ScrubOutcome::Failed(_) = log.last_scrub().unwrap().outcome else { panic!() };

    fs::rename(&gone, &archive).unwrap();
    let lost = &files_in(&archive.join("segments"), ".seg")[2];
    fs::remove_file(lost).unwrap();
    let damage = damage_of(log.scrub(FAST, |_, _| {}));
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].file.file_name(), lost.file_name());
}

fn on(disk: Arc<dyn Disk>) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 500,
        background: Background::Inline,
        disk,
        ..LogOptions::default()
    }
}

#[test]
fn an_error_that_passes_is_no_damage() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open("/data/log", on(Arc::new(disk.clone()))).unwrap();
    append(&log, 100);
    let before = disk.operations();
    let whole = log.scrub(FAST, |_, _| {}).unwrap();
    assert!(whole.segments > 4);
    let (mut passed, mut refused) = (0, 0);
    for after in 0..disk.operations() - before {
        for operation in [Operation::Read, Operation::Open, Operation::List, Operation::Map] {
            disk.fail_after(after, Fault::Io(operation));
            match log.scrub(FAST, |_, _| {}) {
                Ok(report) => {
                    assert_eq!(report, whole);
                    passed += 1;
                }
                Err(VerifyError::Open(OpenError::Io { .. })) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            disk.disarm();
        }
    }
    assert!(passed > 0 && refused > 0, "{passed} {refused}");
    let ScrubOutcome::Whole(_) = log.last_scrub().unwrap().outcome else { panic!() };
}

#[test]
fn a_segment_that_cannot_be_read_is_damage_and_the_others_are_verified() {
    let fails = Arc::new(AtomicBool::new(false));
    let disk = HookedDisk::new(&SimulatedDisk::new(1), {
        let fails = fails.clone();
        move |operation, path| {
            let is_second = path.to_string_lossy().contains("segments/00000002");
            match operation == Operation::Read && is_second && fails.load(Ordering::Relaxed) {
                true => Err(io::Error::from_raw_os_error(5)),
                false => Ok(()),
            }
        }
    });
    let log = Log::open("/data/log", on(Arc::new(disk))).unwrap();
    append(&log, 100);
    let segments = log.scrub(FAST, |_, _| {}).unwrap().segments;
    fails.store(true, Ordering::Relaxed);
    let mut verified = 0;
    let damage = damage_of(log.scrub(FAST, |_, _| verified += 1));
    assert_eq!((damage.len(), verified), (1, segments), "{damage:?}");
    assert!(damage[0].what.starts_with("it cannot be read"), "{damage:?}");
}

#[test]
fn a_schedule_scrubs_again_and_again_and_ends_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let every = Duration::from_millis(5);
    let schedule = |bytes_per_second| Some(ScrubSchedule { every, bytes_per_second });
    let log = Log::open(dir.path(), LogOptions { scrub: schedule(FAST), ..small(Clustering::Off) })
        .unwrap();
    append(&log, 100);
    let start = Instant::now();
    let scrubbed = |at_least: u64| loop {
        if let Some(report) = log.last_scrub() {
            match report.outcome {
                ScrubOutcome::Whole(whole) if whole.events >= at_least => break,
                ScrubOutcome::Whole(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(1));
    };
    scrubbed(100);
    append(&log, 100);
    scrubbed(200);
    log.close().unwrap();

    // At this rate a scrub takes hours.
    let log =
        Log::open(dir.path(), LogOptions { scrub: schedule(1), ..small(Clustering::Off) }).unwrap();
    thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    log.close().unwrap();
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn closing_the_log_stops_a_scrub_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small(Clustering::Off)).unwrap();
    append(&log, 100);
    let scrubbing = thread::spawn({
        let log = log.clone();
        move || log.scrub(1, |_, _| {})
    });
    thread::sleep(Duration::from_millis(50));
    log.close().unwrap();
    let stopped = scrubbing.join().unwrap().unwrap_err().to_string();
    assert!(stopped.contains("the scrub was stopped"), "{stopped}");
}

/// A recorder of counters and gauges, by name.
#[derive(Default)]
struct Figures(Mutex<BTreeMap<String, Arc<Figure>>>);

#[derive(Default)]
struct Figure(Mutex<f64>);

impl CounterFn for Figure {
    fn increment(&self, value: u64) {
        *self.0.lock().unwrap() += value as f64;
    }

    fn absolute(&self, value: u64) {
        *self.0.lock().unwrap() = value as f64;
    }
}

impl GaugeFn for Figure {
    fn increment(&self, value: f64) {
        *self.0.lock().unwrap() += value;
    }

    fn decrement(&self, value: f64) {
        *self.0.lock().unwrap() -= value;
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl Figures {
    fn figure(&self, key: &Key) -> Arc<Figure> {
        self.0.lock().unwrap().entry(key.name().to_owned()).or_default().clone()
    }

    fn of(&self, name: &str) -> f64 {
        let figures = self.0.lock().unwrap();
        let figure = figures.get(name).unwrap_or_else(|| panic!("no {name}"));
        *figure.0.lock().unwrap()
    }

    /// Bytes read, damaged places, and whether the last scrub failed.
    fn of_scrubs(&self) -> (f64, f64, f64) {
        let [bytes, damaged, failed] =
            ["bytes_total", "damaged_files", "failed"].map(|name| format!("diptych_scrub_{name}"));
        (self.of(&bytes), self.of(&damaged), self.of(&failed))
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.figure(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.figure(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn scrubs_report_to_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, archive) = (dir.path().join("log"), dir.path().join("archive"));
    let figures = Figures::default();
    let scrub = |log: &Log| metrics::with_local_recorder(&figures, || log.scrub(FAST, |_, _| {}));
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let log = Log::open(&folder, small(Clustering::Off)).unwrap();
    append(&log, 600);
    let begun = now();
    let whole = scrub(&log).unwrap().bytes as f64;
    assert_eq!(figures.of_scrubs(), (whole, 0.0, 0.0));
    let finished = figures.of("diptych_scrub_finished_seconds");
    // The clock of the log has microseconds.
    assert!((begun - 1e-3..=now() + 1e-3).contains(&finished), "{begun} {finished}");
    assert_eq!(scrub(&log).unwrap().bytes as f64, whole);
    assert_eq!(figures.of_scrubs(), (2.0 * whole, 0.0, 0.0));

    let segments = files_in(&folder.join("segments"), ".seg");
    for segment in &segments[1..3] {
        change_byte(segment, 200);
    }
    assert_eq!(damage_of(scrub(&log)).len(), 2);
    let (bytes, damaged, failed) = figures.of_scrubs();
    assert!(bytes > 2.0 * whole, "{bytes} of {whole}");
    assert_eq!((damaged, failed), (2.0, 0.0));
    assert!(figures.of("diptych_scrub_finished_seconds") > finished);
    for segment in &segments[1..3] {
        change_byte(segment, 200);
    }

    // A log that is open holds the folder of its archive, wherever that is moved.
    assert!(log.archive(&archive, ArchiveLimit::All, |_, _| {}).unwrap().moved > 3);
    log.close().unwrap();
    let gone = dir.path().join("gone");
    fs::rename(&archive, &gone).unwrap();
    let log = Log::open(&folder, small(Clustering::Off)).unwrap();
    scrub(&log).unwrap_err();
    let (_, damaged, failed) = figures.of_scrubs();
    assert_eq!((damaged, failed), (0.0, 1.0));
    fs::rename(&gone, &archive).unwrap();
    scrub(&log).unwrap();
    let (_, damaged, failed) = figures.of_scrubs();
    assert_eq!((damaged, failed), (0.0, 0.0));
}
