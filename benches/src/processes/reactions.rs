//! Measures reactions with one command each.

use std::time::Instant;

use diptych::{Log, LogOptions, process::ProcessOptions, testing::Clock};

use crate::{
    durable::{grown_to, runtime},
    options::Options,
    orders::{Shipping, app, append_plainly, place},
    table::{Contender, Table},
};

pub(crate) fn table(options: &Options) -> Table {
    let triggers = options.number("--triggers");
    let table = Table::new(
        "reactions: with one command each, durable".to_owned(),
        "1/s",
        "plain appends, two for each",
    );
    let table = table.notes(&[
        "a reaction and the event of its command are two events; goal: 10,000 reactions a second",
        "plain appends: two events for each of the same number, one a commit, 64 in flight",
    ]);
    let contenders = vec![
        Contender::new("plain appends, two for each", |_| plainly(options, triggers)),
        Contender::new("reactions, one shard", |_| reactions(options, triggers, 1)),
        Contender::new("reactions, two shards", |_| reactions(options, triggers, 2)),
    ];
    table.measure(options, contenders)
}

fn plainly(options: &Options, triggers: u64) -> f64 {
    let folder = options.folder();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let rate = runtime().block_on(async {
        let began = Instant::now();
        append_plainly(&log, triggers * 2).await;
        triggers as f64 / began.elapsed().as_secs_f64()
    });
    log.close().unwrap();
    rate
}

/// The process reacts to orders that are in the log before it starts.
fn reactions(options: &Options, triggers: u64, shards: u32) -> f64 {
    let folder = options.folder();
    runtime().block_on(async {
        let mut process = ProcessOptions::default();
        process.shards = shards;
        let placing = diptych::App::open(folder.path()).unwrap().start().await.unwrap();
        place(placing.store(), 0..triggers).await;
        placing.stop().await.unwrap();
        let app = app::<Shipping>(folder.path(), &Clock::new(), process).start().await.unwrap();
        let began = Instant::now();
        let head = app.head();
        grown_to(app.store(), head.plus(triggers * 2)).await;
        let rate = triggers as f64 / began.elapsed().as_secs_f64();
        app.stop().await.unwrap();
        rate
    })
}
