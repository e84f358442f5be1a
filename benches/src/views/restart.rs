//! Starting again with a snapshot far behind, and a tail to go.

use std::time::Instant;

use diptych::{Log, LogOptions, ViewSnapshots};

use crate::{
    events::{ABOUT, Balances, app, load, log_of},
    options::Options,
    table::{Contender, Table, progress},
};

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let (behind, tail) = (options.events * 10, options.events / 10);
    let folder = options.folder();
    progress("restart: writing the log");
    log_of(folder.path(), behind);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let snapshots = ViewSnapshots { every_events: u64::MAX, ..ViewSnapshots::default() };
    let view = || app(folder.path()).view::<Balances>().view_snapshots::<Balances>(snapshots);
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
            // What the round before kept at its end would make this one too easy.
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
    vec![table.measure(options, contenders)]
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
