//! Measures the time from a durable trigger to the durable event of its command.

use std::time::{Duration, Instant};

use diptych::{process::ProcessOptions, testing::Clock};
use diptych_benches::latency::Latencies;
use diptych_store::{Append, Position, Store};

use crate::{
    durable::{grown_to, runtime},
    options::Options,
    orders::{Shipping, app, place, placed},
    table::{Row, Table},
};

/// The time that a command of a process may take beside three syncs.
const BESIDE: f64 = 300.0;

pub(crate) fn table(options: &Options) -> Table {
    let table = Table::new(
        "latency: from a durable trigger to the durable event of its command, one at a time"
            .to_owned(),
        "us",
        "a durable append (p50)",
    );
    let mut table = table.notes(&[
        "the sync of the trigger is not counted, those of the reaction and of the command are",
        "goal of the half: three durable appends of the same run and 300 us",
    ]);
    let (mut appends, mut half, mut most) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (append, command) = run(options);
        appends.push(append.quantile(0.5));
        half.push(command.quantile(0.5));
        most.push(command.quantile(0.99));
    }
    let goal = appends.iter().map(|append| 3.0 * append + BESIDE).collect();
    let against = "a durable append (p50)";
    let row = |name, rates| Row { name, against, rates };
    table.rows = vec![
        row(against, appends),
        row("to the command's event (p50)", half),
        row("to the command's event (p99)", most),
        row("the goal of the half", goal),
    ];
    table
}

/// The durations of plain appends, and those from a trigger to the event of its command, in turns.
fn run(options: &Options) -> (Latencies, Latencies) {
    let folder = options.folder();
    runtime().block_on(async {
        let processes = ProcessOptions::default();
        let app = app::<Shipping>(folder.path(), &Clock::new(), processes).start().await.unwrap();
        let plain = tempfile::tempdir_in(folder.path()).unwrap();
        let beside = diptych::App::open(plain.path()).unwrap().start().await.unwrap();
        place(app.store(), 0..1_000).await;
        grown_to(app.store(), Position::new(3_001)).await;
        let (mut appends, mut commands) = (Latencies::default(), Latencies::default());
        let (mut order, start) = (1_000, Instant::now());
        while start.elapsed() < options.turn() {
            appends.add(appended(beside.store(), order).await.1);
            let (at, _) = appended(app.store(), order).await;
            let began = Instant::now();
            grown_to(app.store(), at.plus(2)).await;
            commands.add(began.elapsed());
            order += 1;
        }
        app.stop().await.unwrap();
        beside.stop().await.unwrap();
        (appends, commands)
    })
}

async fn appended(store: &Store, order: u64) -> (Position, Duration) {
    let began = Instant::now();
    let accepted = store.append(Append::event(placed(order))).await.unwrap();
    let at = accepted.last;
    accepted.synced().await.unwrap();
    (at, began.elapsed())
}
