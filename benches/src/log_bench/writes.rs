//! Measures appends of one event. Each append is durable before it is acknowledged.

use std::{
    cell::RefCell,
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diptych_benches::{
    appends,
    device::Flushes,
    engines::{ABOUT, Engine, KINDS, Kind, TEPHRA},
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
    workload::{Entry, Numbers},
};
use tokio::runtime::Runtime;

use crate::plots::Plots;

const THREADS: [u64; 4] = [1, 8, 64, 256];
const TASKS: u64 = 256;
const IN_FLIGHT: usize = 1_024;
/// Bytes of one event in a log.
const RECORD: usize = 310;

/// Size of the raw file whose blocks are written before the clock starts.
const WRITTEN_BYTES: u64 = 256 << 20;

const GROWING: &str = "raw: a file that grows, fdatasync";
const WRITTEN: &str = "raw: blocks already written, fdatasync";

pub(crate) fn tables(options: &Options, plots: &mut Plots) -> Vec<Table> {
    let mut tables = Vec::new();
    for threads in THREADS {
        tables.extend(by_threads(options, threads, plots));
    }
    tables.extend([by_tasks(options), pipelined(options)]);
    tables
}

/// Runs one turn on a new log of this kind, so that earlier appends do not slow it down.
pub(crate) fn on_fresh_log<T>(
    options: &Options,
    kind: Kind,
    turn: impl FnOnce(&dyn Engine) -> T,
) -> T {
    let folder = options.folder();
    let engine = (kind.open)(&folder.path().join("log"));
    let done = turn(&*engine);
    engine.close();
    done
}

fn by_threads(options: &Options, threads: u64, plots: &mut Plots) -> Vec<Table> {
    let folder = options.folder();
    let flushes = Flushes::of(folder.path());
    let latencies = RefCell::new(Vec::<(&'static str, Latencies)>::new());
    let turn = |name, round, one: &(dyn Fn(&mut Numbers) + Sync)| {
        let count = || flushes.as_ref().and_then(Flushes::count).map_or(f64::NAN, |n| n as f64);
        let (mut before, calls) = (0.0, AtomicU64::new(0));
        let counted = |numbers: &mut Numbers| {
            one(numbers);
            calls.fetch_add(1, Ordering::Relaxed);
        };
        let mark = || {
            before = count();
            calls.store(0, Ordering::Relaxed);
        };
        let appended = appends::threads(threads, round, options.turn(), mark, counted);
        let flushed = (count() - before) / calls.load(Ordering::Relaxed) as f64;
        let figures = [appended.figures(), vec![flushed]].concat();
        let mut all = latencies.borrow_mut();
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, latencies)) => latencies.merge(&appended.latencies),
            None => all.push((name, appended.latencies)),
        }
        figures
    };
    let mut contenders = Vec::new();
    if threads == 1 {
        for (name, written) in [(GROWING, false), (WRITTEN, true)] {
            let (folder, turn) = (folder.path(), &turn);
            contenders.push(Contender::several(name, move |round| {
                let raw = Raw::new(folder, written, 1);
                turn(name, round, &|_| raw.append())
            }));
        }
    }
    if threads > 1 {
        let name = raw_name(threads);
        contenders.push(Contender::several(name, move |_| vec![Raw::rate(options, threads)]));
    }
    for kind in KINDS {
        let turn = &turn;
        contenders.push(Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, |engine| {
                turn(kind.name, round, &|numbers| engine.append(&Entry::random(numbers)))
            })
        }));
    }
    let mut tables = empty(threads);
    tables = Table::measure_all(tables, options, contenders);
    durable(&tables.pop().unwrap(), threads, &mut tables);
    plots.writers(threads, &tables[0]);
    if threads == 1 {
        plots.append_latencies(latencies.into_inner());
    }
    tables
}

/// Name of the row for the bare disk when `events` events share each sync.
pub(crate) fn raw_name(events: u64) -> &'static str {
    format!("raw: {events} events written together, fdatasync").leak()
}

fn empty(threads: u64) -> Vec<Table> {
    let title = |what| match threads {
        1 => format!("writes: 1 thread, 1 event in an append{what}"),
        _ => format!("writes: {threads} threads, 1 event in an append{what}"),
    };
    let baseline = if threads == 1 { WRITTEN } else { TEPHRA };
    let about = if threads == 1 { ABOUT } else { &[] };
    let table = |what, unit| Table::new(title(what), unit, baseline);
    vec![
        table("", "events/s, each synced").notes(about),
        table(", p50", "us, less is better"),
        table(", p99", "us, less is better"),
        table(", flushes of the disk", "flushes for an append").notes(&[
            "counted for the whole disk, so other programs that sync are included",
            "a log that shares syncs needs fewer than one; one thread cannot share",
            "a log with fewer flushes than its callers can share does not sync, and is left out",
        ]),
    ]
}

/// Adds the table of flushes, and removes the rows of logs that cannot have synced every append.
fn durable(flushes: &Table, threads: u64, tables: &mut Vec<Table>) {
    if flushes.rows.is_empty() {
        println!("! the flushes of this disk cannot be counted: durability was not checked");
        return;
    }
    for row in &flushes.rows {
        let median = flushes.median_of(row.name).unwrap_or(f64::NAN);
        if !can_be_durable(median, threads) {
            println!("! {} does not sync: its figures do not count ({median:.3})", row.name);
            for table in &mut *tables {
                table.rows.retain(|other| other.name != row.name);
            }
        }
    }
    let Table { title, unit, baseline, one_caller, notes, .. } = *flushes;
    let rows = flushes.rows.iter().map(|row| diptych_benches::table::Row {
        name: row.name,
        against: row.against,
        rates: row.rates.clone(),
    });
    tables.push(Table { title, unit, baseline, one_caller, notes, rows: rows.collect() });
}

/// Whether a flush can have preceded every acknowledgement. A caller waits for its append, so one
/// flush serves at most one append of each caller.
fn can_be_durable(flushes_per_append: f64, callers: u64) -> bool {
    flushes_per_append >= 0.9 / callers as f64
}

/// Writes the bytes of several events at once to a file, and syncs it.
pub(crate) struct Raw {
    file: File,
    bytes: Vec<u8>,
    at: AtomicU64,
    end: u64,
}

impl Raw {
    /// If `written`, overwrites the blocks of a written file again and again. Otherwise appends to
    /// a growing file.
    pub(crate) fn new(folder: &Path, written: bool, events: u64) -> Raw {
        let file = File::create(folder.join("raw")).unwrap();
        let end = if written { WRITTEN_BYTES } else { u64::MAX };
        let piece = vec![1; 1 << 20];
        for at in (0..end).step_by(piece.len()).take_while(|_| written) {
            file.write_all_at(&piece, at).unwrap();
        }
        file.sync_all().unwrap();
        Raw { file, bytes: vec![7; RECORD * events as usize], at: AtomicU64::new(0), end }
    }

    pub(crate) fn append(&self) {
        let length = self.bytes.len() as u64;
        let at = self.at.fetch_add(length, Ordering::Relaxed) % (self.end - length);
        self.file.write_all_at(&self.bytes, at).unwrap();
        self.file.sync_data().unwrap();
    }

    /// Events per second that one thread writes and syncs.
    pub(crate) fn rate(options: &Options, events: u64) -> f64 {
        let folder = options.folder();
        let raw = Raw::new(folder.path(), true, events);
        appends::threads(1, 0, options.turn(), || (), |_| raw.append()).per_second * events as f64
    }
}

fn by_tasks(options: &Options) -> Table {
    let runtime = Runtime::new().unwrap();
    let contender = |kind: Kind| {
        let runtime = &runtime;
        Contender::new(kind.name, move |round| {
            let folder = options.folder();
            let engine: Arc<dyn Engine> = (kind.open)(&folder.path().join("log")).into();
            appends::tasks(runtime, &[engine], TASKS, round, options.turn()).per_second
        })
    };
    Table::new("writes: 256 tasks, 1 event in an append".into(), "events/s, each synced", TEPHRA)
        .measure(options, KINDS.into_iter().map(contender).collect())
}

fn pipelined(options: &Options) -> Table {
    const TOGETHER: usize = 50_000;
    let contender = |kind: Kind| {
        Contender::new(kind.name, move |round| {
            on_fresh_log(options, kind, |engine| {
                let mut numbers = Numbers::of_caller(round, 0);
                let (mut events, mut taken) = (0, Duration::ZERO);
                while taken < options.turn() {
                    let entries: Vec<_> =
                        (0..TOGETHER).map(|_| Entry::random(&mut numbers)).collect();
                    taken += engine.pipelined(&entries, IN_FLIGHT);
                    events += TOGETHER;
                }
                events as f64 / taken.as_secs_f64()
            })
        })
    };
    let raw = raw_name(IN_FLIGHT as u64);
    let mut contenders = vec![Contender::new(raw, |_| Raw::rate(options, IN_FLIGHT as u64))];
    contenders.extend(KINDS.into_iter().map(contender));
    let title = "writes: 1 thread, 1,024 appends of 1 event in flight";
    Table::new(title.into(), "events/s, each synced", TEPHRA)
        .notes(&["events are made before the clock starts, 50,000 at a time"])
        .measure(options, contenders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_serves_no_more_appends_than_there_are_callers() {
        assert!(can_be_durable(1.0, 1) && can_be_durable(2.0, 1) && !can_be_durable(0.5, 1));
        assert!(can_be_durable(1.0 / 64.0, 64) && !can_be_durable(0.001, 64));
        assert!(!can_be_durable(f64::NAN, 8));
    }
}
