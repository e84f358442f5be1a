//! Measures appends of one event.

use std::time::Duration;

use diptych_benches::{
    appends,
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
    workload::{Entry, Numbers},
};

use crate::{
    RUNTIME,
    served::{ABOUT, SERVED, ServerKind, UMADB, on_fresh_log},
};

/// Numbers of clients and of their connections.
const CLIENTS: [(u64, u64); 3] = [(1, 1), (64, 8), (256, 8)];
const IN_FLIGHT: usize = 1_024;

/// Tables of the rate, the median and the 99th percentile of an operation.
pub(crate) fn with_latencies(title: &str, unit: &'static str) -> Vec<Table> {
    let table = |what, unit| Table::new(format!("{title}{what}"), unit, UMADB);
    vec![
        table("", unit).notes(ABOUT),
        table(", p50", "us, less is better"),
        table(", p99", "us, less is better"),
    ]
}

pub(crate) fn appends(options: &Options) -> Vec<Table> {
    let with = |(clients, connections): (u64, u64)| {
        let contender = |kind: &ServerKind| {
            let kind = *kind;
            Contender::several(kind.name, move |round| {
                on_fresh_log(options, kind, connections, |_, connected| {
                    appends::tasks(&RUNTIME, connected, clients, round, options.turn()).figures()
                })
            })
        };
        let title = format!("appends: {clients} clients (tasks) over {connections} connections");
        let tables = with_latencies(&title, "events/s, each synced");
        Table::measure_all(tables, options, SERVED.iter().map(contender).collect())
    };
    CLIENTS.into_iter().flat_map(with).collect()
}

pub(crate) fn pipelined(options: &Options) -> Vec<Table> {
    const TOGETHER: usize = 20_000;
    let contender = |kind: &ServerKind| {
        let kind = *kind;
        Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, 1, |_, connected| {
                let (mut numbers, mut latencies) =
                    (Numbers::of_caller(round, 0), Latencies::default());
                let mut taken = Duration::ZERO;
                while taken < options.turn() {
                    let entries: Vec<_> =
                        (0..TOGETHER).map(|_| Entry::random(&mut numbers)).collect();
                    taken += connected[0].flow(&entries, IN_FLIGHT, &mut latencies);
                }
                appends::CallReport::new(latencies, taken).figures()
            })
        })
    };
    let title = "pipelined: 1 client (a task) with 1,024 appends of 1 event in flight";
    let tables = with_latencies(title, "events/s, each synced");
    Table::measure_all(tables, options, SERVED.iter().map(contender).collect())
}
