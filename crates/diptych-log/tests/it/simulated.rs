//! Runs on the simulated disk, each of which follows from a seed: commits, reads, faults and
//! crashes. After each open the log is compared with the model.
//!
//! A run with the same seed fails in the same way, and prints its steps. A single run prints its
//! steps, too.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use diptych_log::{
    Background, Durability, Log, LogOptions,
    disk::simulated::{Fault, Operation, Random, Sabotage, SimulatedDisk},
};
use diptych_store::{EventStore, TimeSource};

use crate::{
    crash::compare,
    model::{MayLose, Model},
    requests::Requests,
    run::{FOLDER, Run, Trace, limits, options},
    seeds::{only, seeds},
    witness,
    writers::Writer,
};

const SEEDS: u64 = 50;
/// An interval that never ends during a run, so that the log syncs only for other reasons.
const LONG: Durability = Durability::Interval { interval: Duration::from_secs(3600) };

#[test]
fn synced_commits_survive_everything() {
    let (segments, clustered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for_each_seed("synced_commits_survive_everything", |seed, trace| {
        let mut run = Run::new(seed, Durability::Synced, None, trace);
        run.run();
        let (all, some) = run.segments();
        segments.fetch_add(all, Ordering::Relaxed);
        clustered.fetch_add(some, Ordering::Relaxed);
    });
    let (segments, clustered) = (segments.into_inner(), clustered.into_inner());
    println!("{segments} segments, of which {clustered} are clustered");
    assert!(clustered * 3 > segments, "too few of the tested segments were clustered");
}

#[test]
fn a_prefix_of_commits_synced_at_intervals_survives() {
    for_each_seed("a_prefix_of_commits_synced_at_intervals_survives", |seed, trace| {
        Run::new(seed, LONG, None, trace).run();
    });
}

#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        let traces = [(); 2].map(|()| {
            let trace = Trace::default();
            Run::new(seed, Durability::Synced, None, trace.clone()).run();
            trace.take()
        });
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
}

/// Each run above has one thread. Here several threads write, and the log has its own threads. The
/// order of operations differs each time, but the same promises must be kept.
#[test]
fn power_is_lost_while_threads_write() {
    for seed in 0..8 {
        let disk = SimulatedDisk::new(seed);
        let options = |disk: SimulatedDisk, background| LogOptions {
            background,
            time: TimeSource::Clock,
            disk: Arc::new(disk),
            ..options(&mut Random::new(seed), Durability::Synced)
        };
        let log = Log::open(FOLDER, options(disk.clone(), Background::Threads)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        let (stop, mut random) = (AtomicBool::new(false), Random::new(seed));
        thread::scope(|scope| {
            // This stops the writers even if a check fails, because the scope waits for them.
            let _stop = StopOnDrop(&stop);
            let stop = &stop;
            let start = |mut writer: Writer| scope.spawn(move || writer.write_until(stop));
            let writers: Vec<_> =
                Writer::several(&log, &path, seed, seed).into_iter().map(start).collect();
            for crash in 1..=10 {
                while witness::read(&path).len() < crash * 12 {
                    assert!(!writers.iter().any(|writer| writer.is_finished()), "a writer failed");
                    thread::yield_now();
                }
                // The commits that are acknowledged now have to survive the next loss of power.
                let witnessed = witness::read(&path);
                let after = disk.power_loss(random.number());
                let log = Log::open(FOLDER, options(after, Background::Inline)).unwrap();
                compare(&log, &witnessed, seed, &mut random);
            }
        });
        log.close().unwrap();
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn acknowledging_before_the_sync_is_noticed() {
    is_noticed(Sabotage::AcknowledgeBeforeSync);
}

#[test]
fn continuing_after_a_failed_sync_is_noticed() {
    is_noticed(Sabotage::ForgetFailedSync);
}

#[test]
fn forgetting_to_sync_the_folder_is_noticed() {
    is_noticed(Sabotage::ForgetDirSync);
}

#[test]
fn preparing_space_over_commits_is_noticed() {
    is_noticed(Sabotage::ZerosTooEarly);
}

#[test]
fn acknowledging_before_the_manifest_is_replaced_is_noticed() {
    is_noticed(Sabotage::ForgetManifest);
}

/// The checks above are useful only if they fail for an engine with a mistake.
fn is_noticed(sabotage: Sabotage) {
    const AT_MOST: u64 = 500;
    for seed in 0..AT_MOST {
        let run = || Run::new(seed, Durability::Synced, Some(sabotage), Trace::default()).run();
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            return println!("{sabotage:?} is noticed by run {} of {AT_MOST}", seed + 1);
        }
    }
    panic!("{sabotage:?} is not noticed in {AT_MOST} runs");
}

#[test]
fn one_sync_makes_a_whole_batch_durable() {
    let disk = SimulatedDisk::new(1);
    let mut options = options(&mut Random::new(1), Durability::Synced);
    (options.segment_bytes, options.index_bytes) = (1 << 20, 1 << 20);
    options.disk = Arc::new(disk.clone());
    let log = Log::open(FOLDER, options).unwrap();
    let mut requests = Requests::default();
    let mut random = Random::new(2);
    // The first commit has a time that is far from the clock, so it begins a new segment.
    let _ = log.blocking().append(requests.plain(&mut random)).unwrap();
    log.blocking().flush().unwrap();
    let before = disk.count(Operation::Sync);
    for _ in 0..10 {
        let append = requests.plain(&mut random);
        let _ = log.blocking().append(append).unwrap();
    }
    log.blocking().flush().unwrap();
    assert_eq!(disk.count(Operation::Sync), before + 1);
}

/// Once, an index part in the middle of a segment could not be written. The parts before and after
/// it were then merged as if they were consecutive.
#[test]
fn reads_are_right_if_an_index_file_cannot_be_written() {
    for index_bytes in [600, 900, 1200] {
        for after in 0..60 {
            fail_to_write_index(index_bytes, after);
        }
    }
}

fn fail_to_write_index(index_bytes: u64, after: u64) {
    let disk = SimulatedDisk::new(1);
    let mut random = Random::new(3);
    let mut options = options(&mut random, Durability::Synced);
    (options.segment_bytes, options.index_bytes) = (3 << 10, index_bytes);
    (options.queue_bytes, options.disk) = (1 << 20, Arc::new(disk.clone()));
    let log = Log::open(FOLDER, options.clone()).unwrap();
    let (mut model, mut requests) = (Model::new(limits()), Requests::default());
    disk.fail_after(after, Fault::Io(Operation::Map));
    for _ in 0..20 {
        let append = requests.plain(&mut random);
        let Ok(accepted) = log.blocking().append(append.clone()) else { break };
        model.decided(append, Ok(accepted.into()));
    }
    let _ = log.blocking().flush();
    let _ = model.settle();
    disk.disarm();
    model.check_published(&log, &mut random).unwrap();
    drop(log);
    let log = Log::open(FOLDER, options).unwrap();
    model.recover(&log, MayLose::Unacknowledged, &mut random);
}

/// Once, an open used a file that a failed open before it had written, but could not make durable.
#[test]
fn a_failed_first_open_loses_no_later_commit() {
    for kind in [Operation::Write, Operation::Sync, Operation::SyncDir, Operation::CreateDir] {
        for (after, time) in (0..20).flat_map(|n| [(n, TimeSource::Clock), (n, TimeSource::Caller)])
        {
            let disk = SimulatedDisk::new(after);
            let options = || LogOptions {
                time,
                disk: Arc::new(disk.clone()),
                ..options(&mut Random::new(1), Durability::Synced)
            };
            disk.fail_after(after, Fault::Io(kind));
            drop(Log::open(FOLDER, options()));
            disk.disarm();
            let log = Log::open(FOLDER, options()).unwrap();
            let mut append = Requests::default().plain(&mut Random::new(2));
            append.recorded_at = append.recorded_at.filter(|_| time == TimeSource::Caller);
            let committed = log.blocking().commit(append).unwrap();
            for seed in 0..40 {
                let disk = Arc::new(disk.power_loss(seed));
                let log = Log::open(FOLDER, LogOptions { disk, ..options() }).unwrap();
                let head = EventStore::head(&log).position();
                assert_eq!(head, committed.last, "{kind:?} after {after}, seed {seed}");
            }
        }
    }
}

fn for_each_seed(test: &str, run: impl Fn(u64, Trace)) {
    for seed in seeds(SEEDS) {
        let trace = Trace::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, trace.clone())));
        if outcome.is_err() || only().is_some() {
            eprintln!("seed {seed}:\n  {}", trace.borrow().join("\n  "));
        }
        assert!(
            outcome.is_ok(),
            "seed {seed} fails; again: DIPTYCH_SIM_SEED={seed} cargo test -p diptych-log \
             --features testing --test it simulated::{test} -- --exact --nocapture"
        );
    }
}
