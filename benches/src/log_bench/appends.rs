//! Callers repeat one operation until the turn is over. Threads also record the duration of each
//! operation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych_benches::{
    engines::Engine,
    latency::Latencies,
    workload::{Entry, Numbers},
};
use tokio::runtime::Runtime;

/// Time before the clock starts, in which files, threads and batches reach a steady state.
const WARM_UP: Duration = Duration::from_millis(300);

pub(crate) struct CallReport {
    pub(crate) per_second: f64,
    pub(crate) latencies: Latencies,
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
pub(crate) fn threads(
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
    CallReport { per_second: latencies.count() as f64 / taken.as_secs_f64(), latencies }
}

/// Appends per second of `count` tasks together, each of which makes one append after another.
pub(crate) fn tasks(
    runtime: &Runtime,
    engine: &Arc<dyn Engine>,
    count: u64,
    round: u64,
    turn: Duration,
) -> f64 {
    let (phase, done) = (Arc::new(Phase::default()), Arc::new(AtomicU64::new(0)));
    let task = |caller| {
        let (engine, phase, done) = (engine.clone(), phase.clone(), done.clone());
        runtime.spawn(async move {
            let mut numbers = Numbers::of_caller(round, caller);
            while phase.goes_on() {
                engine.append_async(Entry::random(&mut numbers)).await;
                done.fetch_add(u64::from(phase.counts()), Ordering::Relaxed);
            }
        })
    };
    let tasks: Vec<_> = (0..count).map(task).collect();
    let taken = phase.pass(turn, || ());
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    done.load(Ordering::Relaxed) as f64 / taken.as_secs_f64()
}
