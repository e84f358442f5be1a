//! Everything at once for a while: appends, reads of accounts, scans, and a hundred subscribers.

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
    let folder = options.folder();
    let engine = Diptych::open(folder.path());
    load(&engine, 1, options.events, ACCOUNTS, COMMIT);
    engine.settle();
    let seconds = options.number("--mixed-seconds");
    progress(&format!("mixed: {seconds} seconds"));
    let mix = Mix { engine, over: AtomicBool::new(false), clock: Instant::now() };
    let kinds = mix.run(Duration::from_secs(seconds));
    Box::new(mix.engine).close();
    progress("");
    let table = |title, unit, figure: &dyn Fn(&Latencies) -> f64| {
        Table::once(title, unit, "", kinds.iter().map(|(name, all)| (*name, figure(all))))
    };
    let took = "ms, less is better";
    let mut tables = vec![
        table("mixed: everything at once, p50", took, &|all| all.quantile(0.5) / 1e3),
        table("mixed: everything at once, p99", took, &|all| all.quantile(0.99) / 1e3),
        table("mixed: everything at once, p99.9", took, &|all| all.quantile(0.999) / 1e3),
        table("mixed: everything at once, longest", took, &|all| all.most() / 1e3),
        table("mixed: how much was done", "1/s", &|all| all.count() as f64 / seconds as f64),
    ];
    tables[0].notes = &[
        "8 threads append, 8 read accounts, one reads everything again and again, 100 tasks \
         subscribe",
        "a delivery is a batch: from the append of its first event until a task has it",
        "every subscriber was checked to see every event in its order",
    ];
    tables
}

struct Mix {
    engine: Diptych,
    over: AtomicBool,
    /// What the times in the payloads are counted from.
    clock: Instant,
}

type Kinds = Vec<(&'static str, Latencies)>;

impl Mix {
    fn run(&self, time: Duration) -> Kinds {
        let runtime = Runtime::new().unwrap();
        let store = Store::new(self.engine.log.clone());
        let head = store.head().position();
        // Where the last event will be, once that is known.
        let end = std::sync::Arc::new(AtomicU64::new(u64::MAX));
        let spawn = |_| {
            let (store, end) = (store.clone(), end.clone());
            runtime.spawn(subscriber(store, head, self.clock, end))
        };
        let subscribers: Vec<_> = (0..SUBSCRIBERS).map(spawn).collect();
        let mut kinds = thread::scope(|scope| {
            let appends: Vec<_> = (0..APPENDING)
                .map(|caller| scope.spawn(move || self.repeated(caller, |n| self.append(n))))
                .collect();
            let reads: Vec<_> = (0..READING)
                .map(|caller| scope.spawn(move || self.repeated(100 + caller, |n| self.read(n))))
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
        // One more event, so that every subscriber wakes up and sees that it was the last.
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

    /// The payload says when.
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
