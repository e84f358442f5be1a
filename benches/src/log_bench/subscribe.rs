//! Measures the time from an append until a waiting subscriber has its event, next to the time
//! until the append is acknowledged.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use diptych_benches::{
    engines::{Engine, KINDS, Kind, Subscriber, TEPHRA},
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
    workload::{Entry, Numbers},
};

use crate::writes::on_fresh_log;

/// Appends at the beginning that are not counted.
const WARM_UP: u64 = 1_000;

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let contender = |kind: Kind| {
        Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, |engine| turn(options, engine, round))
        })
    };
    let table =
        |what, part| Table::new(format!("subscribe: {what}, {part}"), "us, less is better", TEPHRA);
    let tables = vec![
        table("append to its own acknowledgement", "p50"),
        table("append to its own acknowledgement", "p99"),
        table("append to a subscriber", "p50").notes(&[
            "one thread appends, another subscribes",
            "SQLite is asked every 50 us; UmaDB's subscriber waits for its head and reads",
        ]),
        table("append to a subscriber", "p99"),
        Table::new(
            "subscribe: the subscriber against the acknowledgement, p50".into(),
            "times, less is better",
            TEPHRA,
        ),
    ];
    Table::measure_all(tables, options, KINDS.into_iter().map(contender).collect())
}

fn turn(options: &Options, engine: &dyn Engine, round: u64) -> Vec<f64> {
    let Some(subscriber) = engine.subscribe() else {
        return Vec::new();
    };
    let (appends, begun) = mpsc::channel::<Instant>();
    // The total number of appends, once it is known.
    let total = &AtomicU64::new(u64::MAX);
    thread::scope(|scope| {
        let delivered = scope.spawn(move || deliveries(subscriber, &begun, total));
        let (mut numbers, mut acknowledged) = (Numbers::of_caller(round, 0), Latencies::default());
        let (mut count, start) = (0, Instant::now());
        loop {
            let last = count > WARM_UP && start.elapsed() > options.turn();
            if last {
                // Set before the last append, because that append wakes the subscriber for the last
                // time.
                total.store(count + 1, Ordering::SeqCst);
            }
            let entry = Entry::random(&mut numbers);
            let began = Instant::now();
            appends.send(began).unwrap();
            engine.append(&entry);
            if count >= WARM_UP {
                acknowledged.add(began.elapsed());
            }
            count += 1;
            if last {
                break;
            }
        }
        let delivered = delivered.join().unwrap();
        let of = |latencies: &Latencies| [0.5, 0.99].map(|part| latencies.quantile(part));
        let (ack, delivery) = (of(&acknowledged), of(&delivered));
        vec![ack[0], ack[1], delivery[0], delivery[1], delivery[0] / ack[0]]
    })
}

fn deliveries(
    mut subscriber: Subscriber,
    begun: &mpsc::Receiver<Instant>,
    total: &AtomicU64,
) -> Latencies {
    let (mut seen, mut latencies) = (0, Latencies::default());
    while seen < total.load(Ordering::SeqCst) {
        for _ in 0..subscriber() {
            let took = begun.recv().unwrap().elapsed();
            if seen >= WARM_UP {
                latencies.add(took);
            }
            seen += 1;
        }
    }
    latencies
}
