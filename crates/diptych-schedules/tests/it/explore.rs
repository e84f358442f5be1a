//! Runs a test in one schedule after another.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

/// Schedules of each scheduler, if `DIPTYCH_SCHEDULES` has no other number.
const SCHEDULES: usize = 200;
/// The seed of the schedulers, if `DIPTYCH_SCHEDULE_SEED` has no other number.
const SEED: u64 = 1;
/// The depth of the mistakes that the PCT scheduler looks for. It lowers a priority at one place
/// less.
const DEPTH: usize = 3;
/// Steps of one schedule after which its threads count as running for ever.
const MOST_STEPS: usize = 200_000;
/// The engine needs more than the default of 60 KiB.
const STACK_BYTES: usize = 1 << 20;

std::thread_local! {
    /// The situations that some schedule of the test came to.
    static REACHED: RefCell<BTreeSet<&'static str>> = RefCell::default();
}

/// Notes that a schedule came to this situation.
pub(crate) fn reached(situation: &'static str) {
    REACHED.with_borrow_mut(|reached| reached.insert(situation));
}

/// Explores the test, and asserts that schedules came to each of these situations. Without this, a
/// property could hold because the case that it is about never occurs.
pub(crate) fn explore_and_reach(
    situations: &[&'static str],
    test: impl Fn() + Send + Sync + 'static,
) {
    explore(test);
    let is_whole = env::var("DIPTYCH_SCHEDULE").is_err() && count() >= SCHEDULES;
    let missing = REACHED.with_borrow(|reached| {
        let missing = situations.iter().filter(|situation| !reached.contains(*situation));
        missing.copied().collect::<Vec<_>>()
    });
    assert!(!is_whole || missing.is_empty(), "no schedule came to: {missing:?}");
}

/// Runs the test in every schedule that there is.
pub(crate) fn explore_all(test: impl Fn() + Send + Sync + 'static) {
    let scheduler = DfsScheduler::new(None, false);
    let run = Runner::new(scheduler, config(FailurePersistence::Print)).run(test);
    println!("{run} schedules, which are all");
}

/// Runs the test under a scheduler that chooses each step at random, and under one that runs the
/// thread of the highest priority and lowers priorities at a few places (PCT).
///
/// If a schedule fails, Shuttle prints it. If `DIPTYCH_SCHEDULE` names a file with that text, only
/// this schedule is run.
pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
    if let Ok(file) = env::var("DIPTYCH_SCHEDULE") {
        let replay = ReplayScheduler::new_from_encoded(fs::read_to_string(file).unwrap().trim());
        Runner::new(replay, config(FailurePersistence::Print)).run(test);
        return;
    }
    let (count, test) = (count(), Arc::new(test));
    for scheduler in schedulers(seed(), count) {
        let test = test.clone();
        let run = Runner::new(scheduler, config(FailurePersistence::Print)).run(move || test());
        assert_eq!(run, count);
    }
}

/// The number of schedules until one fails, among at most this many of each scheduler, and its
/// message.
pub(crate) fn schedules_to_fail(
    most: usize,
    test: impl Fn() + Send + Sync + 'static,
) -> Option<(u64, String)> {
    let (run, test) = (Arc::new(AtomicU64::new(0)), Arc::new(test));
    for scheduler in schedulers(seed(), most) {
        let (count, test) = (run.clone(), test.clone());
        let runner = Runner::new(scheduler, config(FailurePersistence::None));
        let explored = catch_unwind(AssertUnwindSafe(|| {
            runner.run(move || {
                count.fetch_add(1, Ordering::SeqCst);
                test();
            });
        }));
        if let Err(panic) = explored {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            return Some((run.load(Ordering::SeqCst), text.unwrap_or_default()));
        }
    }
    None
}

/// How Shuttle runs a schedule.
pub(crate) fn config(persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = persistence;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    // Shuttle takes each operation on an atomic for sequentially consistent.
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    config
}

pub(crate) fn seed() -> u64 {
    number("DIPTYCH_SCHEDULE_SEED", SEED as usize) as u64
}

/// Schedules of each scheduler.
fn count() -> usize {
    number("DIPTYCH_SCHEDULES", SCHEDULES)
}

fn schedulers(seed: u64, count: usize) -> [Box<dyn Scheduler + Send>; 2] {
    [
        Box::new(RandomScheduler::new_from_seed(seed, count)),
        Box::new(PctScheduler::new_from_seed(seed, DEPTH, count)),
    ]
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}
