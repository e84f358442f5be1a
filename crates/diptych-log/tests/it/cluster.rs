//! Clustering: what it does to files, and what it must never do to what is read from them.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych_log::{
    Background, BackupOptions, Clustering, Durability, Follower, Log, LogOptions, OpenError,
    SealedSegments, Tuning, VerifyError, backup,
    disk::{
        Disk,
        simulated::{Fault, Operation, Random, SimulatedDisk},
    },
    restore, verify,
};
use diptych_store::{Append, EventStore, Filter, Position, RawEvent, Read, ReadError, Tag};

use crate::{
    check,
    crash::TestChild,
    forgetful::{Forgetful, Forgotten},
    seeds::{faults_at, seeds},
};

const LOG: &str = "/data/log";
const SEEDS: u64 = 6;
/// Where a segment says what its order is.
const KIND: usize = 10;

fn options(disk: Arc<dyn Disk>, clustering: Clustering) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 500,
        background: Background::Inline,
        clustering,
        disk,
        ..LogOptions::default()
    }
}

fn on(disk: &SimulatedDisk, clustering: Clustering) -> LogOptions {
    options(Arc::new(disk.clone()), clustering)
}

fn on_files(clustering: Clustering) -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        index_bytes: 1500,
        clustering,
        durability: Durability::Interval { interval: Duration::from_millis(20) },
        ..LogOptions::default()
    }
}

/// Commits so many times a few events, whose accounts take turns.
fn append(log: &Log, commits: u64, random: &mut Random) {
    for _ in 0..commits {
        let number = log.head().position().get();
        let events = (1..=1 + random.below(3)).map(|at| {
            let account = Tag::new("account", (number + at) % 5);
            RawEvent::new("counted", (number + at).to_string()).tag(account).tag(Tag::new("all", 1))
        });
        log.blocking().commit(Append::events(events)).unwrap();
    }
}

fn read(log: &Log, filter: &Filter) -> Result<Vec<u64>, ReadError> {
    let (mut found, mut after) = (Vec::new(), Position::START);
    while after < log.head().position() {
        let batch = log.blocking().read(filter, Read::after(after).limit(17))?;
        for event in batch.iter() {
            let payload = std::str::from_utf8(event.payload()).unwrap();
            assert_eq!(payload, event.position().to_string(), "another event than asked for");
            found.push(event.position().get());
        }
        after = batch.upto();
    }
    Ok(found)
}

/// The log holds what `append` has put into it, up to its head, and finds it.
fn holds(log: &Log) -> Result<(), ReadError> {
    let head = log.head().position().get();
    assert_eq!(read(log, &Filter::everything())?, (1..=head).collect::<Vec<_>>());
    for account in 0..5 {
        let filter = Filter::tag(Tag::new("account", account));
        let expected: Vec<u64> = (1..=head).filter(|at| at % 5 == account).collect();
        assert_eq!(read(log, &filter)?, expected);
    }
    Ok(())
}

/// Whether each segment is clustered, in order.
fn kinds(disk: &SimulatedDisk) -> Vec<bool> {
    kinds_in(LOG, &disk.contents())
}

fn kinds_in(root: &str, files: &[(PathBuf, Vec<u8>)]) -> Vec<bool> {
    let in_log = |path: &Path| path.starts_with(root) && path.extension() == Some("seg".as_ref());
    files.iter().filter(|(path, _)| in_log(path)).map(|(_, bytes)| is_clustered(bytes)).collect()
}

pub(crate) fn is_clustered(segment: &[u8]) -> bool {
    segment.get(KIND) == Some(&1)
}

fn kinds_of(root: &Path) -> Vec<bool> {
    let entries = fs::read_dir(root.join("segments")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension() == Some("seg".as_ref()));
    files.sort();
    files.iter().map(|path| is_clustered(&fs::read(path).unwrap())).collect()
}

/// All but the last two are clustered.
fn all_but_two(kinds: &[bool]) -> bool {
    let (clustered, rest) = kinds.split_at(kinds.len().saturating_sub(2));
    clustered.iter().all(|is| *is) && rest.iter().all(|is| !is)
}

#[test]
fn all_complete_segments_but_the_last_of_them_are_clustered() {
    let disk = SimulatedDisk::new(1);
    let mut random = Random::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Background)).unwrap();
    for segments in 1..12 {
        while kinds(&disk).len() < segments {
            append(&log, 1, &mut random);
        }
        assert!(all_but_two(&kinds(&disk)), "{:?}", kinds(&disk));
        holds(&log).unwrap();
    }
    log.close().unwrap();
    assert!(all_but_two(&kinds(&disk)));
    let verified = verify(LOG, &on(&disk, Clustering::Off), |_, _| {}).unwrap();
    assert_eq!(verified.segments, 11);
    let log = Log::open(LOG, on(&disk, Clustering::Background)).unwrap();
    holds(&log).unwrap();
}

/// Clustering held three copies of a segment, and a group the names of eight. A named bound says
/// how much memory they may take.
#[test]
fn what_would_take_more_memory_than_it_may_is_left_as_it_is() {
    let groups = |disk: &SimulatedDisk| {
        let paths = disk.contents().into_iter().map(|(path, _)| path);
        paths.filter(|path| path.extension().is_some_and(|is| is == "group")).count()
    };
    for (tidy_bytes, tidied) in [(100, false), (1 << 20, true)] {
        let disk = SimulatedDisk::new(1);
        let tuning = Tuning { tidy_bytes, ..Tuning::default() };
        let options = LogOptions { tuning, ..on(&disk, Clustering::Background) };
        let log = Log::open(LOG, options).unwrap();
        append(&log, 150, &mut Random::new(1));
        holds(&log).unwrap();
        assert_eq!(kinds(&disk).contains(&true), tidied);
        assert_eq!(groups(&disk) > 0, tidied);
    }
}

#[test]
fn clustering_that_is_off_waits_until_it_is_asked_for() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    append(&log, 100, &mut Random::new(1));
    assert!(kinds(&disk).iter().all(|clustered| !clustered));
    for _ in 0..2 {
        log.blocking().cluster().unwrap();
        assert!(all_but_two(&kinds(&disk)));
        holds(&log).unwrap();
    }
    let other = log.clone();
    log.close().unwrap();
    assert!(matches!(other.blocking().cluster(), Err(ReadError::Unavailable(_))));
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    holds(&log).unwrap();
    append(&log, 100, &mut Random::new(2));
    holds(&log).unwrap();
    assert!(!all_but_two(&kinds(&disk)));
}

/// An index that is built from a clustered segment is the one that clustering wrote, and files of
/// the time before are not used.
#[test]
fn an_index_that_is_gone_or_of_the_other_order_is_built_again() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    append(&log, 60, &mut Random::new(1));
    log.close().unwrap();
    let index = |disk: &SimulatedDisk| {
        let mut files = disk.contents();
        // The last two segments do not change, and missing files are built in other pieces.
        let last = kinds(disk).len() - 1;
        let sequence = |path: &Path| path.file_name()?.to_str()?.get(..8)?.parse::<usize>().ok();
        files.retain(|(path, _)| path.extension() == Some("run".as_ref()));
        files.retain(|(path, _)| sequence(path).unwrap() < last);
        files
    };
    let before = index(&disk);
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    log.blocking().cluster().unwrap();
    log.close().unwrap();
    let after = index(&disk);
    assert_ne!(before, after);
    for (left, is_gone) in [(&before, false), (&before, true)] {
        for (path, bytes) in left {
            let _ = disk.remove(path);
            if !is_gone {
                disk.create(path, 0).unwrap().write_at(0, bytes).unwrap();
            }
        }
        if !is_gone {
            verify(LOG, &on(&disk, Clustering::Off), |_, _| {}).unwrap();
        }
        let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
        holds(&log).unwrap();
        log.close().unwrap();
        assert_eq!(index(&disk), after);
    }
}

/// Whatever becomes of the segment that is written to, the one before it can be gone on with.
#[test]
fn an_open_never_goes_on_in_a_clustered_segment() {
    for seed in 0..40 {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        let log = Log::open(LOG, on(&disk, Clustering::Background)).unwrap();
        let mut manifests = Vec::new();
        for _ in 0..20 + random.below(40) {
            append(&log, 1, &mut random);
            let manifest = disk.open(&manifest(), 0).unwrap().read_at(0, 1000).unwrap();
            manifests.push(manifest);
        }
        manifests.dedup();
        let after = disk.power_loss(seed);
        let segments = kinds(&after).len();
        let name = |path: &PathBuf| path.extension() == Some("seg".as_ref());
        let last = after.contents().into_iter().map(|(path, _)| path).rfind(name).unwrap();
        // As if it had been created and the power was lost before anything was in it.
        let mut bytes = after.open(&last, 0).unwrap().read_at(0, 64).unwrap();
        bytes.truncate(64);
        after.remove(&last).unwrap();
        after.create(&last, 0).unwrap().write_at(0, &bytes).unwrap();
        // The manifest did not know of it yet.
        let manifest = after.open(&manifest(), 0).unwrap();
        manifest.write_at(0, &manifests[manifests.len() - 2]).unwrap();
        for path in [PathBuf::from(LOG).join("head")].into_iter().chain(runs_of(&after, &last)) {
            let _ = after.remove(&path);
        }
        let log = Log::open(LOG, on(&after, Clustering::Background)).unwrap();
        holds(&log).unwrap();
        append(&log, 30, &mut random);
        holds(&log).unwrap();
        assert!(kinds(&after).len() > segments && all_but_two(&kinds(&after)));
    }
}

fn manifest() -> PathBuf {
    Path::new(LOG).join("manifest")
}

fn runs_of(disk: &SimulatedDisk, segment: &Path) -> Vec<PathBuf> {
    let sequence = &segment.file_name().unwrap().to_str().unwrap()[..8];
    let index = Path::new(LOG).join("index");
    let names = disk.list(&index).unwrap().into_iter();
    names.filter(|name| name.starts_with(sequence)).map(|name| index.join(name)).collect()
}

/// Only a hand can make a log end in a clustered segment: what came after it is missing.
#[test]
fn a_log_that_ends_in_a_clustered_segment_is_refused() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Background)).unwrap();
    append(&log, 40, &mut Random::new(1));
    log.close().unwrap();
    let clustered = kinds(&disk).iter().filter(|is| **is).count();
    for (path, _) in disk.contents() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let sequence = name.get(..8).and_then(|number| number.parse::<usize>().ok());
        if name == "head" || sequence.is_some_and(|number| number > clustered) {
            disk.remove(&path).unwrap();
        }
    }
    assert!(kinds(&disk).iter().all(|is| *is));
    let error = Log::open(LOG, on(&disk, Clustering::Background)).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
    let target = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    backup(LOG, "/backup", &target, |_, _| {}).unwrap_err();
}

#[test]
fn a_damaged_segment_is_left_as_it_is_and_others_are_clustered() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    append(&log, 60, &mut Random::new(1));
    log.close().unwrap();
    let (path, mut bytes) = disk.contents().into_iter().find(|(path, _)| is_second(path)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.remove(&path).unwrap();
    disk.create(&path, 0).unwrap().write_at(0, &bytes).unwrap();
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    let error = log.blocking().cluster().unwrap_err();
    assert!(matches!(&error, ReadError::Corrupt(found) if found.place.contains("00000002-")));
    let found = kinds(&disk);
    assert!(!found[1] && found[0] && all_but_two(&found[2..]));
    let (_, left) = disk.contents().into_iter().find(|(path, _)| is_second(path)).unwrap();
    assert_eq!(left, bytes);
    append(&log, 10, &mut Random::new(2));
}

fn is_second(path: &Path) -> bool {
    path.to_string_lossy().contains("segments/00000002-")
}

#[test]
fn what_reads_differently_from_what_was_written_takes_no_place() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    append(&log, 60, &mut Random::new(1));
    log.close().unwrap();
    let before = disk.contents();
    let careless = Arc::new(Forgetful::new(&disk, LOG, Forgotten::Look));
    let log = Log::open(LOG, options(careless, Clustering::Off)).unwrap();
    let error = log.blocking().cluster().unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(_)), "{error}");
    holds(&log).unwrap();
    drop(log);
    assert_eq!(segments(&disk.contents()), segments(&before));
}

fn segments(files: &[(PathBuf, Vec<u8>)]) -> Vec<&(PathBuf, Vec<u8>)> {
    files.iter().filter(|(path, _)| path.to_string_lossy().contains("/segments/")).collect()
}

#[test]
fn a_full_disk_costs_the_clustering_and_nothing_else() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    let mut random = Random::new(1);
    append(&log, 60, &mut random);
    log.close().unwrap();
    let log = Log::open(LOG, on(&disk, Clustering::Background)).unwrap();
    // Room for commits and their index, but not for a second copy of each segment that waits.
    for _ in 0..12 {
        disk.set_capacity(disk.used_bytes() + 900);
        append(&log, 1, &mut random);
    }
    holds(&log).unwrap();
    assert!(!disk.failures().is_empty() && !all_but_two(&kinds(&disk)));
    assert!(!disk.contents().iter().any(|(path, _)| path.extension() == Some("tmp".as_ref())));
    disk.set_capacity(u64::MAX);
    append(&log, 30, &mut random);
    assert!(all_but_two(&kinds(&disk)), "it is tried again when the next segment is complete");
    holds(&log).unwrap();
}

#[test]
fn what_a_killed_clustering_left_is_removed() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(LOG, on(&disk, Clustering::Background)).unwrap();
    append(&log, 30, &mut Random::new(1));
    let left = Path::new(LOG).join("segments/00000002-00000000000000000009.tmp");
    disk.create(&left, 0).unwrap().write_at(0, b"left").unwrap();
    let disk = disk.process_kill();
    let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
    assert!(!disk.contents().iter().any(|(path, _)| *path == left));
    holds(&log).unwrap();
}

/// A log whose segments are not clustered, as it is found after its process is gone.
struct Scene {
    seed: u64,
    disk: SimulatedDisk,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
        append(&log, 20 + random.below(25), &mut random);
        if random.chance(50) {
            log.close().unwrap();
        }
        Scene { seed, disk: disk.process_kill() }
    }

    fn at_every_operation(&self, forgotten: Forgotten) -> usize {
        let run = |disk: &SimulatedDisk, fault: Option<(u64, Fault)>| {
            let careless = Arc::new(Forgetful::new(disk, LOG, forgotten));
            let log = Log::open(LOG, options(careless, Clustering::Off)).unwrap();
            let before = disk.operations();
            if let Some((at, fault)) = fault {
                disk.fail_after(at, fault);
            }
            let done = log.blocking().cluster().is_ok();
            let operations = disk.operations() - before;
            disk.disarm();
            if !disk.is_stopped() {
                holds(&log).unwrap();
            }
            // Not closed: it is gone.
            let after = disk.process_kill();
            drop(log);
            (after, done, operations)
        };
        let (_, _, operations) = run(&self.disk.process_kill(), None);
        let mut random = Random::new(self.seed);
        for at in 0..=operations {
            let any = *random.pick(&Operation::ALL).unwrap();
            for fault in faults_at(at + self.seed, [Fault::Stop, Fault::DiskFull, Fault::Io(any)]) {
                let disk = self.disk.process_kill();
                let (killed, done, _) = run(&disk, Some((at, fault)));
                let clustered = if done { kinds(&killed).len().saturating_sub(2) } else { 0 };
                let lost = killed.power_loss(random.number());
                for after in [killed, lost] {
                    let found = kinds(&after).iter().filter(|is| **is).count();
                    self.check(&after);
                    assert!(found >= clustered, "it was done, and is not");
                }
            }
        }
        operations as usize
    }

    fn check(&self, disk: &SimulatedDisk) {
        // Before an open could repair something.
        match verify(LOG, &on(disk, Clustering::Off), |_, _| {}) {
            Ok(_) => {}
            Err(VerifyError::Damaged(damage)) => {
                // Index files are not synced, and may hold anything.
                let index = Path::new(LOG).join("index");
                assert!(damage.iter().all(|damage| damage.file.starts_with(&index)), "{damage:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
        let log = Log::open(LOG, on(disk, Clustering::Off)).unwrap();
        holds(&log).unwrap();
        log.blocking().cluster().unwrap();
        assert!(all_but_two(&kinds(disk)));
        holds(&log).unwrap();
        log.close().unwrap();
        verify(LOG, &on(disk, Clustering::Off), |_, _| {}).unwrap();
    }
}

#[test]
fn power_is_lost_at_every_operation_of_a_clustering() {
    let mut operations = 0;
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        operations += Scene::new(seed).at_every_operation(Forgotten::Nothing);
    }
    println!("{operations} operations, at each of which something went wrong");
}

/// The check above is worth something only if it fails where it should.
#[test]
fn a_clustering_that_forgets_to_sync_is_noticed() {
    const SCENES: u64 = 10;
    for forgotten in [Forgotten::Content, Forgotten::Folder] {
        let run = |seed: u64| Scene::new(seed).at_every_operation(forgotten);
        let failed = |seed: &u64| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err();
        let noticed = (0..SCENES).filter(failed).count();
        println!("{forgotten:?} is noticed by {noticed} scenes of {SCENES}");
        assert!(noticed * 2 > SCENES as usize, "{forgotten:?} goes unnoticed");
    }
}

#[test]
fn readers_see_the_same_while_segments_are_clustered() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), on_files(Clustering::Background)).unwrap();
    let (stop, mut random) = (AtomicBool::new(false), Random::new(1));
    append(&log, 50, &mut random);
    let kept = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    let copy: Vec<RawEvent> = kept.iter().map(|event| event.to_raw()).collect();
    thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    // The head moves on meanwhile, so that the end is compared with what is read.
                    let all = read(&log, &Filter::everything()).unwrap();
                    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
                    let some = read(&log, &Filter::tag(Tag::new("account", 3))).unwrap();
                    assert!(some.iter().zip(0..).all(|(at, nth)| *at == nth * 5 + 3));
                    rounds += 1;
                }
                rounds
            })
        });
        let clusterer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                log.blocking().cluster().unwrap();
            }
        });
        append(&log, 1_500, &mut random);
        stop.store(true, Ordering::Relaxed);
        clusterer.join().unwrap();
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    log.blocking().cluster().unwrap();
    assert_eq!(kept.iter().map(|event| event.to_raw()).collect::<Vec<_>>(), copy);
    let found = kinds_of(dir.path());
    assert!(found.len() > 20 && all_but_two(&found), "{found:?}");
    holds(&log).unwrap();
    let scan = check::scan(&log).unwrap();
    check::indexes(&log, &scan, &mut random).unwrap();
    log.close().unwrap();
    verify(dir.path(), &on_files(Clustering::Off), |_, _| {}).unwrap();
}

/// Waits until the background has clustered all that it can.
fn wait_until_clustered(dir: &Path) {
    let start = Instant::now();
    while !all_but_two(&kinds_of(dir)) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", kinds_of(dir));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_an_open_finds_is_clustered_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), on_files(Clustering::Off)).unwrap();
    append(&log, 300, &mut Random::new(1));
    log.close().unwrap();
    assert!(kinds_of(dir.path()).iter().all(|clustered| !clustered));
    let log = Log::open(dir.path(), on_files(Clustering::Background)).unwrap();
    wait_until_clustered(dir.path());
    // And what comes later.
    append(&log, 300, &mut Random::new(2));
    wait_until_clustered(dir.path());
    holds(&log).unwrap();
    log.close().unwrap();
}

#[test]
fn a_close_does_not_wait_for_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let off = |bytes| LogOptions { segment_bytes: bytes, ..on_files(Clustering::Off) };
    let log = Log::open(dir.path(), off(4 << 20)).unwrap();
    for number in 0..80_000_u64 {
        let event = RawEvent::new("counted", vec![7; 200]).tag(Tag::new("account", number % 999));
        let _ = log.blocking().append(Append::event(event)).unwrap();
    }
    log.close().unwrap();
    let background = LogOptions { clustering: Clustering::Background, ..off(4 << 20) };
    let log = Log::open(dir.path(), background).unwrap();
    let start = Instant::now();
    while !kinds_of(dir.path())[0] {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let took = start.elapsed();
    log.close().unwrap();
    let closing = start.elapsed() - took;
    let clustered = kinds_of(dir.path()).iter().filter(|is| **is).count();
    // The one that was under way, if at all: not one that would have come after the pause.
    assert!(clustered <= 2, "{clustered} segments are clustered");
    println!("clustering began, and the first was done, after {took:?}; closing took {closing:?}");
}

/// Another process writes and clusters, and is killed.
#[test]
fn a_follower_reads_clustered_segments_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let small = || LogOptions { segment_bytes: 8 << 10, ..LogOptions::default() };
    let everything = Filter::everything();
    let (mut seen, mut met) = (Vec::new(), 0);
    for round in 0..6 {
        let child = TestChild::spawn("write", folder.path(), 100 + round, round);
        let end = Instant::now() + Duration::from_millis(250);
        let from_start = round == 3;
        if from_start {
            seen.clear();
        }
        let after = seen.last().map_or(Position::START, |(position, _)| *position);
        let mut follower = Follower::open(&dir, after, small()).unwrap();
        while Instant::now() < end {
            let batch = follower.next(&everything, 50).unwrap();
            let found = batch.iter().map(|event| (event.position(), event.payload().to_vec()));
            seen.extend(found);
        }
        child.kill();
        met += kinds_of(&dir).iter().filter(|clustered| **clustered).count();
        let log = Log::open(&dir, small()).unwrap();
        let scan = check::scan(&log).unwrap();
        assert!(seen.len() <= scan.len());
        for ((position, payload), (number, scanned)) in seen.iter().zip((1..).zip(&scan)) {
            assert_eq!(position.get(), number);
            assert_eq!(payload, &scanned.event.payload, "position {position}");
        }
        log.close().unwrap();
        // All of it, with whatever is clustered now, also from the middle of a segment.
        for after in [0, seen.len() as u64 / 2] {
            let mut follower = Follower::open(&dir, Position::new(after), small()).unwrap();
            let mut next = after;
            while follower.upto() < follower.head() {
                for event in follower.next(&everything, 33).unwrap().iter() {
                    next += 1;
                    assert_eq!(event.position().get(), next);
                    assert_eq!(event.payload(), &scan[next as usize - 1].event.payload[..]);
                }
            }
            assert_eq!(next, scan.len() as u64);
        }
    }
    println!("{} events followed, {met} clustered segments met", seen.len());
    assert!(met > 10 && !seen.is_empty(), "{met}");
}

/// An older backup and the log may have a segment in different orders: it is the same history.
#[test]
fn backups_go_on_whichever_of_the_two_is_clustered() {
    let mut clustered = 0;
    for (seed, sealed) in
        (0..30).flat_map(|seed| [(seed, SealedSegments::Link), (seed, SealedSegments::Copy)])
    {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        let log = Log::open(LOG, on(&disk, Clustering::Off)).unwrap();
        for _ in 0..4 {
            append(&log, random.below(60), &mut random);
            if random.chance(50) {
                log.blocking().cluster().unwrap();
            }
            let done = log.backup_to("/backup", sealed, |_, _| {}).unwrap();
            log.blocking().cluster().unwrap();
            let verified = verify("/backup", &on(&disk, Clustering::Off), |_, _| {}).unwrap();
            assert_eq!(verified.events, done.upto.get());
            let again = log.backup_to("/backup", sealed, |_, _| {}).unwrap();
            assert_eq!((again.copied, again.linked), (0, 0), "{again:?}");
        }
        clustered += kinds_in("/backup", &disk.contents()).iter().filter(|is| **is).count();
        let copy = Log::open("/backup", on(&disk, Clustering::Background)).unwrap();
        holds(&copy).unwrap();
        let before = disk.contents();
        assert!(copy.blocking().cluster().is_err(), "a backup is only read");
        assert_eq!(segments(&disk.contents()), segments(&before));
        copy.close().unwrap();
        restore("/backup", "/restored", &on(&disk, Clustering::Background), |_, _| {}).unwrap();
        let restored = Log::open("/restored", on(&disk, Clustering::Background)).unwrap();
        holds(&restored).unwrap();
        append(&restored, 40, &mut random);
        holds(&restored).unwrap();
        assert!(all_but_two(&kinds_in("/restored", &disk.contents())));
        log.close().unwrap();
    }
    assert!(clustered > 60, "{clustered} clustered segments were linked or copied");
}
