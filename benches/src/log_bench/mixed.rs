//! Measures everything at once: appends, reads of accounts, scans, and a hundred subscribers.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych_benches::{
    engines::{
        COMMIT, Engine,
        diptych::{Diptych, event},
        load,
    },
    latency::Latencies,
    options::Options,
    table::{Table, progress},
    workload::{ACCOUNTS, Entry, Numbers},
};
use diptych_store::{Append, Delivery, EventStore, Filter, Position, Store, SubscribeOptions};
use tokio::runtime::Runtime;

const APPENDING: u64 = 8;
const READING: u64 = 8;
const SUBSCRIBERS: usize = 100;

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let seconds = options.number("--mixed-seconds");
    let rate = options.number("--mixed-rate");
    let mut tables = run(options, seconds, None);
    if rate > 0 {
        tables.extend(run(options, seconds, Some(rate)));
    }
    tables
}

/// Runs for `seconds`. All threads together make `rate` appends and `rate` reads per second, or as
/// many as they can if there is no rate.
fn run(options: &Options, seconds: u64, rate: Option<u64>) -> Vec<Table> {
    let folder = options.folder();
    let engine = Diptych::open(folder.path());
    load(&engine, 1, options.events, ACCOUNTS, COMMIT);
    engine.settle();
    let how =
        rate.map_or("as fast as they can".to_owned(), |rate| format!("{rate} of each a second"));
    progress(&format!("mixed: {how}, {seconds} seconds"));
    let mix = Mix { engine, rate, over: AtomicBool::new(false), clock: Instant::now() };
    let kinds = mix.run(Duration::from_secs(seconds));
    Box::new(mix.engine).close();
    progress("");
    let table = |what: &str, unit, figure: &dyn Fn(&Latencies) -> f64| {
        let title = format!("mixed: {how}, {what}").leak();
        Table::once(title, unit, "", kinds.iter().map(|(name, all)| (*name, figure(all))))
    };
    let took = "ms, less is better";
    let mut tables = vec![
        table("p50", took, &|all| all.quantile(0.5) / 1e3),
        table("p99", took, &|all| all.quantile(0.99) / 1e3),
        table("p99.9", took, &|all| all.quantile(0.999) / 1e3),
        table("longest", took, &|all| all.most() / 1e3),
        table("how much was done", "1/s", &|all| all.count() as f64 / seconds as f64),
    ];
    tables[0].notes = &[
        "8 threads append, 8 read accounts, one reads everything again and again, 100 tasks \
         subscribe",
        "at a rate, a time counts from its scheduled start, so that waiting counts too",
        "a delivery is a batch: from the append of its first event until a task has it",
        "every subscriber was checked to see every event in its order",
    ];
    tables
}

struct Mix {
    engine: Diptych,
    /// Appends per second of all threads together; reads have an equal rate. Without a rate, the
    /// threads do as many as they can.
    rate: Option<u64>,
    over: AtomicBool,
    /// The instant that the times in the payloads count from.
    clock: Instant,
}

type Kinds = Vec<(&'static str, Latencies)>;

impl Mix {
    fn run(&self, time: Duration) -> Kinds {
        let runtime = Runtime::new().unwrap();
        let store = Store::new(self.engine.log.clone());
        let head = store.head().position();
        // Position of the last event, once it is known.
        let end = std::sync::Arc::new(AtomicU64::new(u64::MAX));
        let spawn = |_| {
            let (store, end) = (store.clone(), end.clone());
            runtime.spawn(subscriber(store, head, self.clock, end))
        };
        let subscribers: Vec<_> = (0..SUBSCRIBERS).map(spawn).collect();
        let mut kinds = thread::scope(|scope| {
            let appends: Vec<_> = (0..APPENDING)
                .map(|caller| scope.spawn(move || self.paced(caller, |n| self.append(n))))
                .collect();
            let reads: Vec<_> = (0..READING)
                .map(|caller| scope.spawn(move || self.paced(100 + caller, |n| self.read(n))))
                .collect();
            let scan = scope.spawn(|| {
                self.repeated(0, |_| {
                    self.engine.replay();
                })
            });
            thread::sleep(time);
            self.over.store(true, Ordering::Relaxed);
            vec![
                ("append", merged(appends.into_iter().map(|thread| thread.join().unwrap()))),
                ("read of an account", merged(reads.into_iter().map(|one| one.join().unwrap()))),
                ("scan of everything", scan.join().unwrap()),
            ]
        });
        // One more event wakes every subscriber, which then sees that this was the last one.
        end.store(self.engine.log.head().position().get() + 1, Ordering::SeqCst);
        self.append(&mut Numbers::new(9));
        let delivered: Vec<_> = runtime.block_on(async {
            let mut delivered = Vec::new();
            for subscriber in subscribers {
                delivered.push(subscriber.await.unwrap());
            }
            delivered
        });
        let slowest = delivered.iter().max_by(|one, other| one.most().total_cmp(&other.most()));
        let slowest = slowest.cloned().unwrap_or_default();
        kinds.push(("delivery to any subscriber", merged(delivered.into_iter())));
        kinds.push(("delivery to the slowest", slowest));
        kinds
    }

    /// Runs `one` at this thread's share of the rate, or without pauses if there is no rate.
    fn paced(&self, caller: u64, one: impl Fn(&mut Numbers)) -> Latencies {
        let Some(rate) = self.rate else { return self.repeated(caller, one) };
        let between = Duration::from_secs_f64(APPENDING as f64 / rate as f64);
        let (mut numbers, mut latencies) = (Numbers::of_caller(0, caller), Latencies::default());
        // Staggers the threads, so that they do not all start at once.
        let mut due = Instant::now() + between.mul_f64((caller % APPENDING) as f64 / 8.0);
        while !self.over.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A sleep ends a little late. The log does not cause this delay, so it does not count.
            // A delay of a whole interval comes from the log: the previous operation was slow. Then
            // this operation counts from the time at which it was due.
            let begun = if due.elapsed() < between { Instant::now() } else { due };
            one(&mut numbers);
            latencies.add(begun.elapsed());
            due += between;
        }
        latencies
    }

    fn repeated(&self, caller: u64, mut one: impl FnMut(&mut Numbers)) -> Latencies {
        let mut numbers = Numbers::of_caller(0, caller);
        let mut latencies = Latencies::default();
        while !self.over.load(Ordering::Relaxed) {
            let start = Instant::now();
            one(&mut numbers);
            latencies.add(start.elapsed());
        }
        latencies
    }

    /// Puts the current time into the payload.
    fn append(&self, numbers: &mut Numbers) {
        let mut event = event(&Entry::random(numbers));
        let now = self.clock.elapsed().as_nanos() as u64;
        event.payload[..8].copy_from_slice(&now.to_le_bytes());
        self.engine.log.blocking().commit(Append::event(event)).unwrap();
    }

    fn read(&self, numbers: &mut Numbers) {
        assert!(self.engine.read_account(numbers.draw() % ACCOUNTS) > 0);
    }
}

fn merged(all: impl Iterator<Item = Latencies>) -> Latencies {
    let mut merged = Latencies::default();
    all.for_each(|one| merged.merge(&one));
    merged
}

async fn subscriber(
    store: Store,
    head: Position,
    clock: Instant,
    end: std::sync::Arc<AtomicU64>,
) -> Latencies {
    let mut subscription = store.subscribe(Filter::everything(), head, SubscribeOptions::default());
    let (mut seen, mut latencies) = (head, Latencies::default());
    while seen.get() < end.load(Ordering::SeqCst) {
        let Delivery::Batch(batch) = subscription.next().await.unwrap() else { continue };
        let now = clock.elapsed();
        if let Some(first) = batch.get(0) {
            let stamp = first.payload()[..8].try_into().unwrap();
            latencies.add(now.saturating_sub(Duration::from_nanos(u64::from_le_bytes(stamp))));
        }
        for event in batch.iter() {
            assert_eq!(event.position(), seen.plus(1), "a subscriber missed an event");
            seen = event.position();
        }
    }
    latencies
}
