//! Measures how long a warm log takes to open, after it was closed and after its process was
//! killed.

use std::{path::Path, time::Instant};

use diptych_benches::{
    engines::{COMMIT, DIPTYCH, KINDS, Kind, TEPHRA, load},
    options::Options,
    table::{Contender, Table},
    workload::ACCOUNTS,
};

use crate::{child, plots::Plots};

pub(crate) fn tables(options: &Options, plots: &mut Plots) -> Vec<Table> {
    let folder = options.folder();
    let sizes = options.numbers("--open-sizes").unwrap_or_default();
    let mut loaded = [0; KINDS.len()];
    let mut tables = Vec::new();
    for (number, events) in sizes.into_iter().enumerate() {
        // Other logs are measured at the first size only, because they take long to load.
        let kinds = KINDS.into_iter().zip(&mut loaded);
        let kinds: Vec<_> = kinds.filter(|(kind, _)| number == 0 || kind.name == DIPTYCH).collect();
        let mut contenders = Vec::new();
        for (kind, loaded) in kinds {
            let folder = folder.path().join(kind.name.replace(' ', "-"));
            let engine = (kind.open)(&folder);
            load(&*engine, events, events.saturating_sub(*loaded), ACCOUNTS, COMMIT);
            engine.settle();
            engine.close();
            *loaded = events;
            contenders.push(Contender::several(kind.name, move |round| turn(kind, &folder, round)));
        }
        let opened = Table::measure_all(empty(events), options, contenders);
        plots.opened(events, &opened[0], &opened[2]);
        tables.extend(opened);
    }
    tables
}

fn empty(events: u64) -> Vec<Table> {
    let table = |what| {
        Table::new(format!("open: a log of {events} events, {what}"), "ms, less is better", TEPHRA)
    };
    vec![
        table("after it was closed"),
        table("after it was closed, and the first read of an account"),
        table("after a kill").notes(&[
            "the killed process appended 1,000 events at a time, for 100 to 200 ms",
            "the log is larger by what those processes appended",
        ]),
        table("after a kill, and the first read of an account"),
    ]
}

fn turn(kind: Kind, folder: &Path, round: u64) -> Vec<f64> {
    let mut figures = open(kind, folder);
    child::append_and_kill(kind, folder, round);
    figures.extend(open(kind, folder));
    figures
}

/// Milliseconds until the log is open, and until it has answered.
fn open(kind: Kind, folder: &Path) -> Vec<f64> {
    let start = Instant::now();
    let engine = (kind.open)(folder);
    let opened = start.elapsed();
    assert!(engine.read_account(1) > 0);
    let read = start.elapsed();
    engine.close();
    [opened, read].map(|time| time.as_secs_f64() * 1e3).to_vec()
}
