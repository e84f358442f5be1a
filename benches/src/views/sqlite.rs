//! Measures a projection that catches up, next to a loop by hand that writes equal rows.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych::{Event, Filter, Log, LogOptions, Position, Recorded, store::Read};
use diptych_sqlite::{
    Projection, Sqlite, Transaction,
    rusqlite::{Connection, OpenFlags, TransactionBehavior},
};
use diptych_store::{Append, EventStore};
use pollster::block_on;

use crate::{
    events::{ABOUT, Moved, app, log_of, moved},
    options::Options,
    table::{Contender, Table},
};

const CREATE: &str =
    "CREATE TABLE balance (account INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT";
const ADD: &str = "INSERT INTO balance VALUES (?1, ?2)
     ON CONFLICT (account) DO UPDATE SET cents = cents + excluded.cents";
/// Events in one transaction of the loop by hand: as many as a projection takes.
const TOGETHER: usize = 1_024;

struct BalanceTable;

impl Projection for BalanceTable {
    type Event = Moved;

    fn name(&self) -> &str {
        "balance"
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        Ok(tx.execute_batch(CREATE)?)
    }

    fn apply(&self, tx: &Transaction<'_>, moved: &Recorded<Moved>) -> diptych_sqlite::Result {
        tx.prepare_cached(ADD)?.execute((moved.account as i64, moved.cents))?;
        Ok(())
    }
}

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let folder = options.folder();
    let (log, rows) = (folder.path().join("log"), folder.path().join("rows.db"));
    log_of(&log, options.events);
    let table = Table {
        title: "sqlite: a projection catches up",
        unit: "events/s",
        baseline: "by hand",
        one_caller: true,
        notes: &[
            ABOUT,
            "one row for each account, added to; the same statement, journal and transactions of \
             the same size",
            "by hand: the log read and JSON decoded in a loop, rows and position written with \
             rusqlite; goal of ours: 0.7",
        ],
        rows: Vec::new(),
    };
    let contenders = vec![
        Contender::new("ours", |_| ours(&log, &rows, options.events)),
        Contender::new("by hand", |_| by_hand(&log, &rows)),
    ];
    vec![table.measure(options, contenders), beside(options)]
}

/// Measures how much a continuous report slows down a writer.
fn beside(options: &Options) -> Table {
    let folder = options.folder();
    let rows = folder.path().join("rows.db");
    log_of(&folder.path().join("log"), 200_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let projection = Sqlite::at(&rows).projection(BalanceTable);
    let app = app(&folder.path().join("log")).projection(projection);
    let app = runtime.block_on(app.start()).unwrap();
    let balance = app.projection("balance").unwrap();
    runtime.block_on(balance.caught_up(Duration::from_secs(600))).unwrap();
    let table = Table {
        title: "sqlite: one writer, a projection, and reports",
        unit: "appends/s",
        baseline: "nobody asks",
        one_caller: true,
        notes: &["the report: sums of 10,000 rows in groups, one after another; goal: 0.95"],
        rows: Vec::new(),
    };
    let appends = |asks: bool| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            if asks {
                scope.spawn(|| report(&rows, &done));
            }
            let (began, mut appends) = (Instant::now(), 0_u64);
            while appends == 0 || began.elapsed() < options.turn() {
                let append = Append::event(moved(appends).encode().unwrap());
                block_on(block_on(app.store().append(append)).unwrap().synced()).unwrap();
                appends += 1;
            }
            done.store(true, Ordering::Relaxed);
            appends as f64 / began.elapsed().as_secs_f64()
        })
    };
    let contenders = vec![
        Contender::new("nobody asks", |_| appends(false)),
        Contender::new("one asks all the time", |_| appends(true)),
    ];
    let table = table.measure(options, contenders);
    runtime.block_on(app.stop()).unwrap();
    table
}

fn report(rows: &Path, done: &AtomicBool) {
    let rows = Connection::open_with_flags(rows, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut sums = rows
        .prepare("SELECT account % 100, sum(cents), count(*) FROM balance GROUP BY 1 ORDER BY 2")
        .unwrap();
    while !done.load(Ordering::Relaxed) {
        let mut groups = sums.query(()).unwrap();
        while groups.next().unwrap().is_some() {}
    }
}

fn ours(log: &Path, rows: &Path, events: u64) -> f64 {
    remove(rows);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let projection = Sqlite::at(rows).projection(BalanceTable);
    let began = Instant::now();
    let app = runtime.block_on(app(log).projection(projection).start()).unwrap();
    let ours = app.projection("balance").unwrap();
    let upto = runtime.block_on(ours.caught_up(Duration::from_secs(600))).unwrap();
    assert_eq!(upto, Position::new(events));
    let rate = events as f64 / began.elapsed().as_secs_f64();
    drop(ours);
    runtime.block_on(app.stop()).unwrap();
    rate
}

fn by_hand(log: &Path, rows: &Path) -> f64 {
    remove(rows);
    let began = Instant::now();
    let log = Log::open(log, LogOptions::default()).unwrap();
    let mut rows = Connection::open(rows).unwrap();
    rows.pragma_update(None, "journal_mode", "WAL").unwrap();
    rows.pragma_update(None, "synchronous", "NORMAL").unwrap();
    rows.execute_batch(CREATE).unwrap();
    rows.execute_batch("CREATE TABLE place (position INTEGER); INSERT INTO place VALUES (0)")
        .unwrap();
    let (head, filter) = (EventStore::head(&log).position(), Filter::event_type("moved"));
    let mut after = Position::START;
    let mut events = 0_u64;
    while after < head {
        let batch = block_on(log.read(&filter, Read::after(after).limit(TOGETHER))).unwrap();
        let tx = rows.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        {
            let mut add = tx.prepare_cached(ADD).unwrap();
            for event in batch.iter() {
                let moved: Moved = serde_json::from_slice(event.payload()).unwrap();
                add.execute((moved.account as i64, moved.cents)).unwrap();
                events += 1;
            }
            let mut place = tx.prepare_cached("UPDATE place SET position = ?1").unwrap();
            place.execute([batch.upto().get() as i64]).unwrap();
        }
        tx.commit().unwrap();
        after = batch.upto();
    }
    let rate = events as f64 / began.elapsed().as_secs_f64();
    assert!(Moved::has_type("moved"));
    log.close().unwrap();
    rate
}

fn remove(rows: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = rows.as_os_str().to_owned();
        file.push(suffix);
        // Before the first turn there are no such files.
        let _ = fs::remove_file(PathBuf::from(file));
    }
}
