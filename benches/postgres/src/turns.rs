//! The tables in which the contenders take turns.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use diptych_postgres_benches::{
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
};

use crate::{
    aggregates::Aggregates,
    ours::Ours,
    place::{Bench, EVENTS_OF_THING, Place, THINGS},
    plain::Plain,
    streams::Streams,
};

const NAMES: [&str; 3] = ["diptych-postgres", "postgres-es 0.5", "disintegrate-postgres 4.0"];
const PLAIN: &str = "a plain table";

/// The calls a second of callers that each wait for one call after another.
fn rate<B, F>(
    place: &Place,
    store: &B,
    callers: u64,
    turn: Duration,
    call: fn(B, u64, u64) -> F,
) -> f64
where
    B: Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = store.clone();
            place.runtime.spawn(async move {
                let mut calls = 0_u64;
                while began.elapsed() < turn {
                    call(store.clone(), caller, calls).await;
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let calls: u64 = tasks.into_iter().map(|task| place.runtime.block_on(task).unwrap()).sum();
    calls as f64 / began.elapsed().as_secs_f64()
}

/// A number that no turn before had.
fn fresh() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// One contender of each store, whose turn is this work.
macro_rules! contenders {
    ($place:expr, $callers:expr, |$store:ident| $work:expr) => {{
        let ours = Ours::open($place, $callers);
        let aggregates = Aggregates::open($place, $callers);
        let streams = Streams::open($place, $callers);
        vec![
            Contender::new(NAMES[0], move |_| {
                let $store = &ours;
                $work
            }),
            Contender::new(NAMES[1], move |_| {
                let $store = &aggregates;
                $work
            }),
            Contender::new(NAMES[2], move |_| {
                let $store = &streams;
                $work
            }),
        ]
    }};
}

pub(crate) fn appends(place: &Place, options: &Options) -> Vec<Table> {
    let of = |callers: u64| {
        let title = format!("appends of one event of 256 bytes, {callers} writers");
        let table = Table::new(title, "events/s", NAMES[0]);
        let turn = options.turn();
        let mut all = contenders!(place, callers as usize, |store| rate(
            place,
            store,
            callers,
            turn,
            |store, writer, number| async move { store.append(writer, number, 1).await }
        ));
        let plain = Plain::open(place, callers as usize);
        all.push(Contender::new(PLAIN, move |_| {
            rate(place, &plain, callers, turn, |plain, _, _| async move { plain.append(1).await })
        }));
        table.measure(options, all)
    };
    [1, 8, 64].map(of).into()
}

/// The callers of decisions.
const CALLERS: u64 = 64;

pub(crate) fn hot(place: &Place, options: &Options) -> Table {
    let title = format!("decisions on one hot boundary, {CALLERS} callers, in one process");
    let table = Table::new(title, "decisions/s", NAMES[0]).notes(&[
        "each turn has a boundary without events at first; the peers fold all its events anew for \
         each decision, as they do without snapshots",
        "the callers of diptych-postgres go through a gate and keep the fold, as commands of an \
         app do",
        "a caller whose decision conflicts tries again at once",
    ]);
    let turn = options.turn();
    table.measure(
        options,
        contenders!(place, CALLERS as usize, |store| {
            let hot = (store.clone(), fresh());
            rate(place, &hot, CALLERS, turn, |(store, boundary), _, _| async move {
                store.decide(boundary).await;
            })
        }),
    )
}

pub(crate) fn boundaries(place: &Place, options: &Options) -> Table {
    let title = format!("decisions of {CALLERS} callers, each on a boundary of its own");
    let table = Table::new(title, "decisions/s", NAMES[0]).notes(&[
        "each turn has boundaries without events at first; the peers fold all events of a boundary \
         anew for each decision, as they do without snapshots",
        "a serializable transaction that conflicts with one of another boundary is tried again",
    ]);
    let turn = options.turn();
    table.measure(
        options,
        contenders!(place, CALLERS as usize, |store| {
            let cold = (store.clone(), fresh() << 16);
            rate(place, &cold, CALLERS, turn, |(store, first), caller, _| async move {
                store.decide(first + caller).await;
            })
        }),
    )
}

pub(crate) fn batches(place: &Place, options: &Options) -> Table {
    const EVENTS: u64 = 1_000;
    let title = "commits of 1,000 events of 256 bytes, 1 writer".to_owned();
    let table = Table::new(title, "events/s", NAMES[0]);
    let turn = options.turn();
    let mut all = contenders!(place, 2, |store| {
        let commits = rate(place, store, 1, turn, |store, writer, number| async move {
            store.append(writer, number, EVENTS).await;
        });
        commits * EVENTS as f64
    });
    let plain = Plain::open(place, 2);
    all.push(Contender::new(PLAIN, move |_| {
        let insert = |plain: Plain, _, _| async move { plain.append(EVENTS).await };
        rate(place, &plain, 1, turn, insert) * EVENTS as f64
    }));
    table.measure(options, all)
}

pub(crate) fn reads(place: &Place, options: &Options) -> Vec<Table> {
    let events = options.number("--log");
    let title = |part: &str| format!("read of the 100 events of one thing, of {events}: {part}");
    let tables = ["p50", "p99"].map(|part| Table::new(title(part), "ms", NAMES[0])).into();
    let turn = options.turn();
    let (ours, aggregates, streams) =
        (Ours::open(place, 2), Aggregates::open(place, 2), Streams::open(place, 2));
    place.runtime.block_on(async {
        ours.fill(events).await;
        aggregates.fill(events).await;
        streams.fill(events).await;
    });
    for database in ["ours", "aggregates", "streams"] {
        place.server.execute(database, "vacuum (analyze)");
    }
    let contenders = vec![
        Contender::several(NAMES[0], move |_| read_times(place, &ours, turn)),
        Contender::several(NAMES[1], move |_| read_times(place, &aggregates, turn)),
        Contender::several(NAMES[2], move |_| read_times(place, &streams, turn)),
    ];
    Table::measure_all(tables, options, contenders)
}

/// The times of reads in milliseconds: the median, and the 99th of 100.
pub(crate) fn read_times(place: &Place, store: &impl Bench, turn: Duration) -> Vec<f64> {
    place.runtime.block_on(async {
        let (mut latencies, began) = (Latencies::default(), Instant::now());
        for number in 0.. {
            let start = Instant::now();
            assert_eq!(store.read(number % THINGS).await, EVENTS_OF_THING);
            latencies.add(start.elapsed());
            if began.elapsed() >= turn {
                break;
            }
        }
        [0.5, 0.99].map(|part| latencies.quantile(part) / 1e3).into()
    })
}
