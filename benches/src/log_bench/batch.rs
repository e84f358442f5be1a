//! Measures appends of a thousand events each, to a log that starts empty.

use std::time::Duration;

use diptych_benches::{
    engines::{COMMIT, KINDS, Kind, TEPHRA, batches},
    options::Options,
    table::{Contender, Table},
    workload::{ACCOUNTS, Numbers},
};

use crate::writes::{Raw, on_fresh_log, raw_name};

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let contender = |kind: Kind| {
        Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, |engine| {
                let mut numbers = Numbers::of_caller(round, 0);
                let fifth = options.events / 5;
                let taken: Vec<_> = (0..5)
                    .map(|_| {
                        let batches = batches(&mut numbers, fifth, ACCOUNTS, COMMIT);
                        engine.append_batches(&batches).as_secs_f64()
                    })
                    .collect();
                let all = Duration::from_secs_f64(taken.iter().sum());
                vec![5.0 * fifth as f64 / all.as_secs_f64(), taken[0] / taken[4]]
            })
        })
    };
    let raw = raw_name(COMMIT);
    let mut contenders = vec![Contender::several(raw, |_| vec![Raw::rate(options, COMMIT)])];
    contenders.extend(KINDS.into_iter().map(contender));
    let title = "batch: 1 thread, 1,000 events in an append, up to --events";
    let tables = vec![
        Table::new(title.into(), "events/s, each append synced", TEPHRA)
            .notes(&["events are made before the clock starts, a fifth of them at a time"]),
        Table::new(
            "batch: the rate of the last fifth against the first".into(),
            "last/first, 1 is as fast",
            TEPHRA,
        ),
    ];
    Table::measure_all(tables, options, contenders)
}
