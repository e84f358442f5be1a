//! Measures many timers.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use diptych::{App, Log, LogOptions, process::ProcessOptions, testing::Clock};
use diptych_benches::device::memory_kib;

use crate::{
    durable::{grown_to, runtime},
    options::Options,
    orders::{Deadlines, WITHIN, app, append_plainly, place},
    table::{Contender, Table},
};

/// The argument of a program that only starts with pending timers.
pub(crate) const CHILD: &str = "child-of-pending";

pub(crate) fn due(options: &Options) -> Table {
    let timers = options.number("--timers");
    let table = Table::new(
        format!("due: {timers} timers that are due at once, until all have fired durably"),
        "timers/s",
        "plain appends, one for each",
    );
    let table = table.notes(&[
        "goal: 50,000 a second, which is 100,000 within 2 s",
        "plain appends: as many events, one a commit, 64 in flight",
    ]);
    let contenders = vec![
        Contender::new("plain appends, one for each", |_| {
            let folder = options.folder();
            let log = Log::open(folder.path(), LogOptions::default()).unwrap();
            let began = Instant::now();
            runtime().block_on(append_plainly(&log, timers));
            let rate = timers as f64 / began.elapsed().as_secs_f64();
            log.close().unwrap();
            rate
        }),
        Contender::new("timers", |_| fired(options, timers)),
    ];
    table.measure(options, contenders)
}

fn fired(options: &Options, timers: u64) -> f64 {
    let (folder, clock) = (options.folder(), Clock::new());
    runtime().block_on(async {
        let app = set(folder.path(), &clock, timers).await;
        let head = app.head();
        clock.advance(WITHIN);
        let began = Instant::now();
        grown_to(app.store(), head.plus(timers)).await;
        let rate = timers as f64 / began.elapsed().as_secs_f64();
        app.stop().await.unwrap();
        rate
    })
}

/// An app with this number of pending timers.
async fn set(folder: &Path, clock: &Clock, timers: u64) -> App {
    let mut options = ProcessOptions::default();
    options.timer_check = Duration::from_millis(10);
    let app = app::<Deadlines>(folder, clock, options).start().await.unwrap();
    place(app.store(), 0..timers).await;
    all_pending(&app, timers).await;
    app
}

async fn all_pending(app: &App, timers: u64) {
    while app.processes()[0].timers as u64 != timers {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn pending(options: &Options) -> Table {
    let timers = options.number("--pending");
    let folder = options.folder();
    runtime().block_on(async {
        set(folder.path(), &Clock::new(), timers).await.stop().await.unwrap();
    });
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child.arg(CHILD).arg(folder.path()).env(TIMERS, timers.to_string());
    let told = String::from_utf8(child.output().unwrap().stdout).unwrap();
    let figures: Vec<f64> = told.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let [seconds, started, most, before] = figures[..] else { panic!("{told}") };
    let title = format!("pending: a program that starts with {timers} pending timers").leak();
    let mut table = Table::once(
        title,
        "",
        "memory before the start, RssAnon, MiB",
        [
            ("memory before the start, RssAnon, MiB", before),
            ("memory with all timers, RssAnon, MiB", started),
            ("most memory on the way, RssAnon, MiB", most),
            ("seconds until all are known", seconds),
        ],
    );
    table.notes = &["goal: a million pending timers in less than 256 MiB"];
    table
}

const TIMERS: &str = "TIMERS";

/// Starts with the pending timers of a log, and prints the time and the memory that it takes.
pub(crate) fn child(folder: &Path) {
    let timers: u64 = std::env::var(TIMERS).unwrap().parse().unwrap();
    let mib = |name: &str| memory_kib(name) as f64 / 1_024.0;
    runtime().block_on(async {
        let before = mib("RssAnon");
        let began = Instant::now();
        let options = ProcessOptions::default();
        let app = app::<Deadlines>(folder, &Clock::new(), options).start().await.unwrap();
        let mut most = 0.0_f64;
        while app.processes()[0].timers as u64 != timers {
            most = most.max(mib("RssAnon"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{seconds} {} {most} {before}", mib("RssAnon"));
        app.stop().await.unwrap();
    });
}
