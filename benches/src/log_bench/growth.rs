//! Measures which costs rise as the log grows: one log with a million accounts, at several sizes.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use diptych_benches::{
    appends,
    device::{memory_kib, open_files},
    engines::{DIPTYCH, Engine, diptych::Diptych, kind},
    latency::Latencies,
    options::Options,
    table::{Row, Table, progress},
    workload::{Entry, Numbers},
};
use diptych_store::{EventStore, Filter, Tag};

use crate::{
    child::{Task, figure},
    plots::Plots,
};

const ACCOUNTS: u64 = 1_000_000;
const THREADS: u64 = 64;
const LOOKS: u64 = 2_000;

/// The figures that are measured: name, title of the table, unit.
const FIGURES: [(&str, &str, &str); 13] = [
    ("rate", "growth: 1,000 events in an append, 1 thread, up to this size", "events/s"),
    ("threads", "growth: 64 threads append", "events/s, each synced"),
    ("one-p50", "growth: read an account that has one event, p50", "us, less is better"),
    ("account-p50", "growth: read one account, which grows too, p50", "us, less is better"),
    ("account-p99", "growth: read one account, which grows too, p99", "us, less is better"),
    ("key-p50", "growth: look for an idempotency key that is not there, p50", "us"),
    ("tag-p50", "growth: look for a tag that is not there, p50", "us, less is better"),
    ("open", "growth: open", "ms, less is better"),
    ("anonymous", "growth: memory of the process after the reads, RssAnon", "MiB"),
    ("busy", "growth: memory of the process after the appends of threads, RssAnon", "MiB"),
    ("mapped", "growth: memory of mapped files, RssFile", "MiB"),
    ("files", "growth: open files", "files"),
    ("each", "growth: events of an account that was read", "events"),
];

pub(crate) fn tables(options: &Options, plots: &mut Plots) -> Vec<Table> {
    let folder = options.folder();
    let log = folder.path().join("log");
    let sizes = options.numbers("--growth-sizes").unwrap_or_default();
    let diptych = kind(DIPTYCH).unwrap();
    let mut looked: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    let baseline = name_of(sizes.first().copied().unwrap_or(0));
    let mut before = 0;
    for size in sizes {
        progress(&format!("growth: loading up to {size} events"));
        let number = size.saturating_sub(before);
        let (folder, turn) = (&*log, options.turn());
        let task = |what| Task { what, kind: diptych, folder, number, accounts: ACCOUNTS, turn };
        let mut all = task("load").figures();
        progress(&format!("growth: looking at {size} events"));
        all.extend(task("look").figures());
        before = size + figure(&all, "appended") as u64;
        for (figure_name, ..) in FIGURES {
            let (name, rates) = (name_of(size), vec![figure(&all, figure_name)]);
            looked.entry(figure_name).or_default().push(Row { name, against: baseline, rates });
        }
        plots.grown(size, figure(&all, "rate"), figure(&all, "threads"), figure(&all, "open"));
    }
    progress("");
    let table = |(figure_name, title, unit)| {
        let rows = looked.remove(figure_name).unwrap_or_default();
        let notes = &["one log of diptych-log, 1,000,000 accounts; ratio: against the first size"];
        Table { title, unit, baseline, one_caller: false, notes, rows }
    };
    FIGURES.into_iter().map(table).collect()
}

fn name_of(size: u64) -> &'static str {
    format!("{size} events").leak()
}

/// Measures a log. It runs in a child process, so that the memory figures are of this log alone.
pub(crate) fn look(folder: &Path, accounts: u64, turn: Duration) {
    let mut opens: Vec<_> = (0..5).map(|_| open(folder)).collect();
    opens.sort_by(f64::total_cmp);
    println!("open={}", opens[2]);
    let engine = Diptych::open(folder);
    let before = engine.log.head().position().get();
    let mut numbers = Numbers::new(3);
    // Accounts that the workload does not use.
    let fresh = |number| accounts * 1_000 + before + number;
    let entry = |number| Entry { account: fresh(number), ..Entry::random(&mut numbers) };
    engine.append_batches(&[(0..LOOKS).map(entry).collect()]);
    let ones = timed(|number| assert_eq!(engine.read_account(fresh(number)), 1));
    println!("one-p50={}", ones.quantile(0.5));
    let mut events = 0;
    let account = timed(|_| events += engine.read_account(numbers.draw() % accounts));
    println!("each={}", events as f64 / LOOKS as f64);
    println!("account-p50={}\naccount-p99={}", account.quantile(0.5), account.quantile(0.99));
    let keys = timed(|number| {
        let key = format!("a request that never was {number}");
        assert!(engine.log.blocking().keyed(&key).unwrap().is_none());
    });
    println!("key-p50={}", keys.quantile(0.5));
    let head = engine.log.head().position();
    let tags = timed(|number| {
        let filter = Filter::tag(Tag::new("account", accounts + number));
        assert_eq!(engine.log.blocking().last(&filter, head).unwrap(), None);
    });
    println!("tag-p50={}", tags.quantile(0.5));
    println!("anonymous={}", memory_kib("RssAnon") as f64 / 1024.0);
    println!("mapped={}", memory_kib("RssFile") as f64 / 1024.0);
    println!("files={}", open_files());
    let appended = appends::threads(
        THREADS,
        0,
        turn,
        || (),
        |numbers| {
            engine.append(&Entry::one_of(numbers, accounts));
        },
    );
    println!("busy={}", memory_kib("RssAnon") as f64 / 1024.0);
    println!("threads={}", appended.per_second);
    println!("appended={}", engine.log.head().position().get() - before);
    Box::new(engine).close();
}

fn open(folder: &Path) -> f64 {
    let start = Instant::now();
    let engine = Diptych::open(folder);
    let taken = start.elapsed();
    Box::new(engine).close();
    taken.as_secs_f64() * 1e3
}

fn timed(mut look: impl FnMut(u64)) -> Latencies {
    let mut latencies = Latencies::default();
    for number in 0..LOOKS {
        let start = Instant::now();
        look(number);
        latencies.add(start.elapsed());
    }
    latencies
}
