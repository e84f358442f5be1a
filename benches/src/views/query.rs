//! Measures the cost of a query beyond the user's code, and how much readers slow down the folding.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych::{App, Log, LogOptions};
use pollster::block_on;

use crate::{
    events::{ACCOUNTS, BalanceOf, Balances, app, load, log_of},
    options::Options,
    table::{Contender, Table},
};

const READERS: usize = 8;
/// Queries per second of all readers together.
const QUERIES: u64 = 10_000;

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    vec![cost(options), beside(options)]
}

fn cost(options: &Options) -> Table {
    let folder = options.folder();
    log_of(folder.path(), 10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let app = runtime.block_on(app(folder.path()).view::<Balances>().start()).unwrap();
    let session = app.session();
    let asked = |ask: &dyn Fn(usize) -> i64| {
        let (began, mut queries) = (Instant::now(), 0_usize);
        while queries == 0 || began.elapsed() < options.turn() {
            for _ in 0..1_000 {
                black_box(ask(queries % ACCOUNTS));
                queries += 1;
            }
        }
        queries as f64 / began.elapsed().as_secs_f64()
    };
    let table = Table {
        title: "query: one reader, a view that is fresh",
        unit: "queries/s",
        baseline: "eventual",
        one_caller: true,
        notes: &["the user's code is one look-up in a vector; goal: below 1 us each"],
        rows: Vec::new(),
    };
    let contenders = vec![
        Contender::new("eventual", |_| {
            asked(&|account| *block_on(app.query(BalanceOf(account)).into_future()).unwrap())
        }),
        Contender::new("strong", |_| {
            asked(&|account| {
                *block_on(app.query(BalanceOf(account)).strong().into_future()).unwrap()
            })
        }),
        Contender::new("session", |_| {
            asked(&|account| {
                let ask = app.query(BalanceOf(account)).session(&session);
                *block_on(ask.into_future()).unwrap()
            })
        }),
        Contender::new("at most a second old", |_| {
            asked(&|account| {
                let ask = app.query(BalanceOf(account)).at_most(Duration::from_secs(1));
                *block_on(ask.into_future()).unwrap()
            })
        }),
    ];
    let table = table.measure(options, contenders);
    runtime.block_on(app.stop()).unwrap();
    table
}

fn beside(options: &Options) -> Table {
    let table = Table {
        title: "query: folding beside readers",
        unit: "events/s",
        baseline: "nobody reads",
        one_caller: false,
        notes: &[
            "a view that was paused while the log was written resumes, and catches up",
            "readers: 8 threads with 10,000 queries a second together; goal: 0.8",
        ],
        rows: Vec::new(),
    };
    let contenders = vec![
        Contender::new("nobody reads", |_| caught_up(options, 0)),
        Contender::new("8 readers", |_| caught_up(options, READERS)),
    ];
    table.measure(options, contenders)
}

/// Folds a log into a view while readers query it, and returns the events per second.
fn caught_up(options: &Options, readers: usize) -> f64 {
    let folder = options.folder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let app = App::over(log.clone()).view::<Balances>();
    let app = runtime.block_on(app.start()).unwrap();
    let view = app.view::<Balances>().unwrap();
    block_on(view.pause()).unwrap();
    load(&log, 0..options.events);
    let done = AtomicBool::new(false);
    let rate = thread::scope(|scope| {
        for reader in 0..readers {
            let (app, done) = (&app, &done);
            scope.spawn(move || {
                let pause = Duration::from_secs(1) * readers as u32 / QUERIES as u32;
                let mut account = reader;
                while !done.load(Ordering::Relaxed) {
                    account = (account + 7) % ACCOUNTS;
                    black_box(block_on(app.query(BalanceOf(account)).into_future()).unwrap());
                    thread::sleep(pause);
                }
            });
        }
        let began = Instant::now();
        block_on(view.resume()).unwrap();
        block_on(app.query(BalanceOf(0)).strong().into_future()).unwrap();
        let rate = options.events as f64 / began.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        rate
    });
    drop(view);
    runtime.block_on(app.stop()).unwrap();
    log.close().unwrap();
    rate
}
