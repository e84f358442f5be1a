//! Measures reads of the whole log in order, and reads of one account of about 100 events.

use std::{
    cell::RefCell,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych_benches::{
    appends::{self, CallReport},
    device::{drop_cache, files},
    engines::{ABOUT, DIPTYCH, Engine, Kind, READ_KINDS, TEPHRA},
    latency::Latencies,
    options::Options,
    table::{Contender, Table, progress},
    workload::{ACCOUNTS, Entry, Numbers, callers},
};

use crate::{
    child::{Task, figure},
    plots::Plots,
};

const RAW: &str = "raw: the log's files read in pieces of 1 MiB, crc32c";
const READERS: u64 = 16;
const WRITERS: u64 = 64;

/// A log on the disk. This process opens the log only on first use, so that its cache can be
/// dropped before that.
struct BenchLog {
    kind: Kind,
    folder: PathBuf,
    engine: RefCell<Option<Box<dyn Engine>>>,
}

impl BenchLog {
    /// Fills the log in a child process. This process then maps no page of the log, so that the
    /// cache can be dropped.
    fn filled(kind: Kind, folder: PathBuf, options: &Options) -> BenchLog {
        progress(&format!("reads: loading {}", kind.name));
        let opened = BenchLog { kind, folder, engine: RefCell::new(None) };
        opened.task("load", options).figures();
        opened
    }

    fn task(&self, what: &'static str, options: &Options) -> Task<'_> {
        let BenchLog { kind, folder, .. } = self;
        let (number, turn) = (options.events, options.turn());
        Task { what, kind: *kind, folder, number, accounts: ACCOUNTS, turn }
    }

    fn with<T>(&self, use_it: impl FnOnce(&dyn Engine) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        use_it(&**engine.get_or_insert_with(|| (self.kind.open)(&self.folder)))
    }

    fn close(&self) {
        if let Some(engine) = self.engine.take() {
            engine.close();
        }
    }
}

pub(crate) fn tables(options: &Options, plots: &mut Plots) -> Vec<Table> {
    let folder = options.folder();
    // The row of the bare disk reads the files of diptych-log, so that log is always filled.
    let chosen = |kind: &Kind| kind.name.contains(&options.name) || kind.name == DIPTYCH;
    let logs: Vec<_> = READ_KINDS
        .into_iter()
        .filter(chosen)
        .map(|kind| {
            BenchLog::filled(kind, folder.path().join(kind.name.replace(' ', "-")), options)
        })
        .collect();
    let raw = &logs.iter().find(|log| log.kind.name == DIPTYCH).unwrap().folder;
    let mut tables = vec![cold_replays(options, &logs, raw, folder.path())];
    tables.push(replays(options, &logs, raw));
    tables.extend(accounts(options, &logs, plots));
    tables.extend(many_readers(options, &logs));
    tables.extend(beside_writers(options, &logs));
    logs.iter().for_each(BenchLog::close);
    tables
}

fn replays(options: &Options, logs: &[BenchLog], raw: &Path) -> Table {
    let scan = || scan(raw, options.events);
    let mut contenders = vec![Contender::new(RAW, |_| repeated(options.turn(), scan))];
    contenders.extend(logs.iter().map(|log| {
        Contender::new(log.kind.name, move |_| {
            log.with(|engine| repeated(options.turn(), || engine.replay()))
        })
    }));
    let notes = [ABOUT, &["SQLite reads its table of events, and not the tags"]].concat().leak();
    Table::new("reads: everything in order, warm".into(), "events/s", TEPHRA)
        .notes(notes)
        .measure(options, contenders)
}

/// Runs in a child process: measures how fast it opens a log and reads all events once.
pub(crate) fn replay_in_child(kind: Kind, folder: &Path, events: u64) {
    let start = Instant::now();
    let engine = (kind.open)(folder);
    assert_eq!(engine.replay(), events);
    println!("rate={}", events as f64 / start.elapsed().as_secs_f64());
    engine.close();
}

/// Events per second, over as many repetitions as fit into the turn.
fn repeated(turn: Duration, once: impl Fn() -> u64) -> f64 {
    let (mut events, start) = (0, Instant::now());
    while events == 0 || start.elapsed() < turn {
        events += once();
    }
    events as f64 / start.elapsed().as_secs_f64()
}

fn cold_replays(options: &Options, logs: &[BenchLog], raw: &Path, root: &Path) -> Table {
    let how = std::cell::Cell::new("");
    let mut contenders = vec![Contender::new(RAW, |_| {
        how.set(drop_cache(root));
        repeated(Duration::ZERO, || scan(raw, options.events))
    })];
    for log in logs {
        let how = &how;
        contenders.push(Contender::new(log.kind.name, move |_| {
            how.set(drop_cache(root));
            figure(&log.task("replay", options).figures(), "rate")
        }));
    }
    let mut table = Table::new("reads: everything in order, cold".into(), "events/s", RAW)
        .measure(options, contenders);
    table.notes = vec![how.get(), "with opening the log"].leak();
    table
}

/// Reads all files of a log and computes their checksum. Returns `events`, the number of events
/// that the files hold.
fn scan(folder: &Path, events: u64) -> u64 {
    let (mut piece, mut sum) = (vec![0; 1 << 20], 0);
    for file in files(folder) {
        let mut file = File::open(file).unwrap();
        loop {
            match file.read(&mut piece).unwrap() {
                0 => break,
                read => sum = crc32c::crc32c_append(sum, &piece[..read]),
            }
        }
    }
    std::hint::black_box(sum);
    events
}

fn latency_tables(what: &str) -> Vec<Table> {
    let table = |part| Table::new(format!("{what}, {part}"), "us, less is better", TEPHRA);
    vec![table("p50"), table("p99")]
}

fn read_one(engine: &dyn Engine, numbers: &mut Numbers) -> u64 {
    let events = engine.read_account(numbers.draw() % ACCOUNTS);
    assert!(events > 0, "an account without events: the log is not filled");
    events
}

fn accounts(options: &Options, logs: &[BenchLog], plots: &mut Plots) -> Vec<Table> {
    let latencies = RefCell::new(Vec::<(&'static str, Latencies)>::new());
    let mut contenders = Vec::new();
    for log in logs {
        let latencies = &latencies;
        contenders.push(Contender::several(log.kind.name, move |round| {
            let read = log.with(|engine| {
                appends::threads(
                    1,
                    round,
                    options.turn(),
                    || (),
                    |numbers| {
                        read_one(engine, numbers);
                    },
                )
            });
            let figures = quantiles(&read);
            let mut all = latencies.borrow_mut();
            match all.iter_mut().find(|(name, _)| *name == log.kind.name) {
                Some((_, latencies)) => latencies.merge(&read.latencies),
                None => all.push((log.kind.name, read.latencies)),
            }
            figures
        }));
    }
    let tables = latency_tables("reads: one account, one reader");
    let tables = Table::measure_all(tables, options, contenders);
    plots.read_latencies(latencies.into_inner());
    tables
}

fn quantiles(read: &CallReport) -> Vec<f64> {
    vec![read.latencies.quantile(0.5), read.latencies.quantile(0.99)]
}

fn many_readers(options: &Options, logs: &[BenchLog]) -> Vec<Table> {
    let contender = |log| {
        let log: &BenchLog = log;
        Contender::several(log.kind.name, move |round| {
            log.with(|engine| {
                let (events, reads) = (AtomicU64::new(0), AtomicU64::new(0));
                let accounts = callers(READERS, round, options.turn(), |numbers| {
                    events.fetch_add(read_one(engine, numbers), Ordering::Relaxed);
                    reads.fetch_add(1, Ordering::Relaxed);
                    true
                });
                let each = events.into_inner() as f64 / reads.into_inner() as f64;
                vec![accounts, accounts * each]
            })
        })
    };
    let table = |unit| Table::new("reads: one account, 16 readers".into(), unit, TEPHRA);
    let tables = vec![table("accounts/s"), table("events/s")];
    Table::measure_all(tables, options, logs.iter().map(contender).collect())
}

/// Measures reads beside writers. The writers append to other accounts, so that the accounts that
/// are read do not grow.
fn beside_writers(options: &Options, logs: &[BenchLog]) -> Vec<Table> {
    let contender = |log| {
        let log: &BenchLog = log;
        Contender::several(log.kind.name, move |round| {
            log.with(|engine| {
                let over = AtomicBool::new(false);
                thread::scope(|scope| {
                    for writer in 0..WRITERS {
                        let over = &over;
                        scope.spawn(move || {
                            let mut numbers = Numbers::of_caller(round, writer + 1);
                            while !over.load(Ordering::Relaxed) {
                                let entry = Entry::random(&mut numbers);
                                let account = entry.account + ACCOUNTS;
                                engine.append(&Entry { account, ..entry });
                            }
                        });
                    }
                    let read = appends::threads(
                        1,
                        round,
                        options.turn(),
                        || (),
                        |numbers| {
                            read_one(engine, numbers);
                        },
                    );
                    over.store(true, Ordering::Relaxed);
                    quantiles(&read)
                })
            })
        })
    };
    let tables = latency_tables("reads: one account, one reader, while 64 threads append");
    Table::measure_all(tables, options, logs.iter().map(contender).collect())
}
