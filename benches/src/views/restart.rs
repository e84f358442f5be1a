//! Measures a restart from a snapshot that covers a long history, with a short tail to fold.

use std::{hint::black_box, time::Instant};

use diptych::{AppBuilder, Log, LogOptions, Position, snapshot::SnapshotOptions};
use tokio::runtime::Runtime;

use crate::{
    events::{ABOUT, BalanceOf, Balances, app, load, log_of},
    options::Options,
    table::{Contender, Table, progress},
};

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let (behind, tail) = (options.events * 10, options.events / 10);
    let folder = options.folder();
    progress("restart: writing the log");
    log_of(folder.path(), behind);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let snapshots = SnapshotOptions::every(options.events);
    let view = || app(folder.path()).view::<Balances>().snapshots::<Balances>(snapshots);
    progress("restart: folding all of it");
    let began = Instant::now();
    let first = runtime.block_on(view().start()).unwrap();
    let without = began.elapsed();
    runtime.block_on(first.stop()).unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    load(&log, behind..behind + tail);
    log.close().unwrap();
    let saved = folder.path().join("snapshots");
    let kept = folder.path().join("kept");
    copy(&saved, &kept);
    let table = Table {
        title: "restart: a snapshot with ten times --events behind it, and a tenth of them to go",
        unit: "1/s",
        baseline: "with the snapshot",
        one_caller: true,
        notes: &[
            ABOUT,
            "us each is the time until `start` answers; goal: 5,000,000 at the default size",
        ],
        rows: Vec::new(),
    };
    let contenders = vec![
        Contender::new("with the snapshot", |_| {
            // A snapshot that the previous round saved when it stopped would leave less to fold.
            let _ = std::fs::remove_dir_all(&saved);
            copy(&kept, &saved);
            let began = Instant::now();
            let app = runtime.block_on(view().start()).unwrap();
            let rate = 1.0 / began.elapsed().as_secs_f64();
            assert!(app.view::<Balances>().unwrap().status().events <= tail);
            runtime.block_on(app.stop()).unwrap();
            rate
        }),
        Contender::new("without one, once", move |_| 1.0 / without.as_secs_f64()),
    ];
    let restart = table.measure(options, contenders);
    vec![restart, past(options, &runtime, view())]
}

/// Measures queries as of an earlier position, for which the app rebuilds the view.
fn past(options: &Options, runtime: &Runtime, view: AppBuilder) -> Table {
    let app = runtime.block_on(view.start()).unwrap();
    let head = app.head().get();
    let table = Table {
        title: "restart: the whole view as it was, in a log of ten times --events",
        unit: "1/s",
        baseline: "near a snapshot",
        one_caller: true,
        notes: &[
            "a random position in the newest twentieth of the log: goal 1,000,000 us each",
            "anywhere: snapshots are thinned out with their age, so the distance grows",
        ],
        rows: Vec::new(),
    };
    let asked = |position: u64| {
        let began = Instant::now();
        let ask = app.query(BalanceOf(0)).as_of(Position::new(position));
        black_box(runtime.block_on(ask.into_future()).unwrap());
        1.0 / began.elapsed().as_secs_f64()
    };
    let contenders = vec![
        Contender::new("near a snapshot", |round| asked(head - head / 20 * (round % 10 + 1) / 10)),
        Contender::new("anywhere", |round| asked(head / 11 * (round * 7 % 10 + 1))),
    ];
    let table = table.measure(options, contenders);
    runtime.block_on(app.stop()).unwrap();
    table
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
