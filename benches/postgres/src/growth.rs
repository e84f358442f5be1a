//! A log that grows: its speed and its size at some points.

use std::time::Instant;

use diptych_postgres_benches::{latency::Latencies, options::Options, table::Table};
use diptych_store::{Append, Filter, RawEvent, Read, Tag};

use crate::{ours, place::Place};

const POINTS: [(u64, &str); 8] = [
    (100_000, "100,000 events"),
    (250_000, "250,000 events"),
    (500_000, "500,000 events"),
    (1_000_000, "1 million events"),
    (2_000_000, "2 million events"),
    (4_000_000, "4 million events"),
    (7_000_000, "7 million events"),
    (10_000_000, "10 million events"),
];

/// The events of a tag grow with the log. A read of this number of them has equal work at every
/// point.
const NEWEST: usize = 10;

/// Tables over the points up to `--events`.
pub(crate) fn tables(place: &Place, options: &Options) -> Vec<Table> {
    let store = &ours::grown(place, options.number("--partition"));
    let points: Vec<_> = POINTS.iter().filter(|(events, _)| *events <= options.events).collect();
    let [mut fills, mut reads, mut late, mut newest, mut appends] = [(); 5].map(|()| Vec::new());
    let first = points[0].1;
    let mut from = 0;
    for (upto, name) in points {
        let began = Instant::now();
        place.runtime.block_on(ours::grow(store, from, *upto));
        fills.push((*name, (upto - from) as f64 / began.elapsed().as_secs_f64()));
        from = *upto;
        let [mut read_times, mut newest_times, mut append_times] =
            [(); 3].map(|()| Latencies::default());
        place.runtime.block_on(async {
            for number in 0..500 {
                // The second read is of another account than the first, which is in memory now.
                let account =
                    |number: u64| Filter::tag(Tag::new("account", number * 193 % 100_000));
                let start = Instant::now();
                let batch = store.read(&account(number), Read::all()).await.unwrap();
                read_times.add(start.elapsed());
                assert!(batch.len() as u64 <= upto / 100_000 + 1);
                let read = Read::backwards().limit(NEWEST);
                let start = Instant::now();
                let batch = store.read(&account(number + 500), read).await.unwrap();
                newest_times.add(start.elapsed());
                assert!(batch.len() <= NEWEST);
                let event =
                    RawEvent::new("measured", ours::payload()).tag(Tag::new("lone", number));
                let start = Instant::now();
                let accepted = store.append(Append::event(event)).await.unwrap();
                accepted.synced().await.unwrap();
                append_times.add(start.elapsed());
            }
        });
        reads.push((*name, read_times.quantile(0.5) / 1e3));
        late.push((*name, read_times.quantile(0.99) / 1e3));
        newest.push((*name, newest_times.quantile(0.5) / 1e3));
        appends.push((*name, append_times.quantile(0.5) / 1e3));
    }
    vec![
        Table::once("growth: commits of 1,000 events, 4 at a time", "events/s", first, fills),
        Table::once("growth: the events of one of 100,000 tags, p50", "ms", first, reads),
        Table::once("growth: the events of one of 100,000 tags, p99", "ms", first, late),
        Table::once(
            "growth: the newest 10 events of one of 100,000 tags, p50",
            "ms",
            first,
            newest,
        ),
        Table::once("growth: an append of one event, p50", "ms", first, appends),
    ]
}
