//! Measures the time from the sync of a commit until a query sees its event.

use std::time::Instant;

use diptych::{App, Event};
use diptych_store::Append;

use crate::{
    events::{BalanceOf, Balances, app, moved},
    options::Options,
    table::{Contender, Table},
};

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let folder = options.folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let app = runtime.block_on(app(folder.path()).view::<Balances>().start()).unwrap();
    let table = Table {
        title: "visible: from a commit's sync to a query that has it, one writer",
        unit: "1/s",
        baseline: "half of them (p50)",
        one_caller: true,
        notes: &[
            "from the answer of the append, which is after the sync, to the answer of a query",
            "us each is the time: the median of the rounds; goal of the half: 100 us",
        ],
        rows: Vec::new(),
    };
    let mut times = Vec::new();
    let mut quantile = |share: f64, round: u64| {
        if times.len() <= round as usize {
            times.push(runtime.block_on(run(&app, options)));
        }
        let times: &Vec<f64> = &times[round as usize];
        1.0 / times[((times.len() - 1) as f64 * share) as usize]
    };
    let quantile = std::cell::RefCell::new(&mut quantile);
    let contenders = vec![
        Contender::new("half of them (p50)", |round| quantile.borrow_mut()(0.5, round)),
        Contender::new("99 of 100 (p99)", |round| quantile.borrow_mut()(0.99, round)),
    ];
    let table = table.measure(options, contenders);
    runtime.block_on(app.stop()).unwrap();
    vec![table]
}

/// The durations of one turn in seconds, sorted.
async fn run(app: &App, options: &Options) -> Vec<f64> {
    let (app, turn) = (app.clone(), options.turn());
    let run = tokio::spawn(async move {
        let (mut times, start) = (Vec::new(), Instant::now());
        while times.is_empty() || start.elapsed() < turn {
            let append = Append::event(moved(times.len() as u64).encode().unwrap());
            let accepted = app.store().append(append).await.unwrap();
            accepted.synced().await.unwrap();
            let began = Instant::now();
            app.query(BalanceOf(1)).strong().await.unwrap();
            times.push(began.elapsed().as_secs_f64());
        }
        times
    });
    let mut times = run.await.unwrap();
    times.sort_by(f64::total_cmp);
    times
}
