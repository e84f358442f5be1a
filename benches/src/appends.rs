//! Callers repeat one operation until the turn is over, and record the duration of each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use crate::{
    engines::Engine,
    latency::Latencies,
    workload::{Entry, Numbers},
};

/// Time before the clock starts, in which files, threads and batches reach a steady state.
pub const WARM_UP: Duration = Duration::from_millis(300);

pub struct CallReport {
    pub per_second: f64,
    pub latencies: Latencies,
}

impl CallReport {
    pub fn new(latencies: Latencies, taken: Duration) -> CallReport {
        CallReport { per_second: latencies.count() as f64 / taken.as_secs_f64(), latencies }
    }

    /// The rate, then the median and the 99th percentile of the durations in microseconds.
    pub fn figures(&self) -> Vec<f64> {
        vec![self.per_second, self.latencies.quantile(0.5), self.latencies.quantile(0.99)]
    }
}

/// Tells the callers whether they warm up, are measured, or stop.
#[derive(Default)]
struct Phase {
    measured: AtomicBool,
    over: AtomicBool,
}

impl Phase {
    /// Goes through all phases, and returns how long the measured phase was. Calls `mark` just
    /// before that phase.
    fn pass(&self, turn: Duration, mark: impl FnOnce()) -> Duration {
        thread::sleep(WARM_UP);
        mark();
        self.measured.store(true, Ordering::Relaxed);
        let start = Instant::now();
        thread::sleep(turn);
        self.over.store(true, Ordering::Relaxed);
        start.elapsed()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Whether an operation that ends now counts.
    fn counts(&self) -> bool {
        self.measured.load(Ordering::Relaxed) && self.goes_on()
    }
}

/// Runs `one` in a loop on `count` threads, each with its own sequence of numbers. Calls `mark`
/// just before the measured phase.
pub fn threads(
    count: u64,
    round: u64,
    turn: Duration,
    mark: impl FnOnce(),
    one: impl Fn(&mut Numbers) + Sync,
) -> CallReport {
    let phase = Phase::default();
    let mut latencies = Latencies::default();
    let taken = thread::scope(|scope| {
        let caller = |caller| {
            let (phase, one) = (&phase, &one);
            scope.spawn(move || {
                let mut numbers = Numbers::of_caller(round, caller);
                let mut latencies = Latencies::default();
                while phase.goes_on() {
                    let start = Instant::now();
                    one(&mut numbers);
                    if phase.counts() {
                        latencies.add(start.elapsed());
                    }
                }
                latencies
            })
        };
        let callers: Vec<_> = (0..count).map(caller).collect();
        let taken = phase.pass(turn, mark);
        for caller in callers {
            latencies.merge(&caller.join().unwrap());
        }
        taken
    });
    CallReport::new(latencies, taken)
}

/// Runs `count` tasks, each of which makes one append after another. They share the engines evenly.
pub fn tasks<E: Engine + ?Sized + 'static>(
    runtime: &Runtime,
    engines: &[Arc<E>],
    count: u64,
    round: u64,
    turn: Duration,
) -> CallReport {
    let phase = Arc::new(Phase::default());
    let task = |(caller, engine): (u64, &Arc<E>)| {
        let (engine, phase) = (engine.clone(), phase.clone());
        runtime.spawn(async move {
            let (mut numbers, mut latencies) =
                (Numbers::of_caller(round, caller), Latencies::default());
            while phase.goes_on() {
                let start = Instant::now();
                engine.append_async(Entry::random(&mut numbers)).await;
                if phase.counts() {
                    latencies.add(start.elapsed());
                }
            }
            latencies
        })
    };
    let tasks: Vec<_> = (0..count).zip(engines.iter().cycle()).map(task).collect();
    let taken = phase.pass(turn, || ());
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.merge(&runtime.block_on(task).unwrap());
    }
    CallReport::new(latencies, taken)
}
