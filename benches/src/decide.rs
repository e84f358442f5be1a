//! Measures durable decisions over a large log. Each reads one account, and appends to it on the
//! condition that the account has no new event.
//!
//! An event has a payload of 256 bytes, one of 8 types, and two tags: `account:` (1 of 10,000) and
//! `tenant:` (1 of 100). In a log of 1,000,000 events an account has about 100.

use ::diptych::{App, AppBuilder};
use diptych_log::{Log, LogOptions};
use tokio::runtime::Runtime;

use crate::{
    diptych,
    engines::tephra::Tephra,
    log,
    options::Options,
    raw,
    table::{Contender, Table, progress},
    workload::{ACCOUNTS, Entry, Fold, Numbers, callers, tasks},
};

const CALLERS: u64 = 8;
const COMMIT: u64 = 1000;

const TEPHRA: &str = "tephra, 8 callers";
const TEPHRA_JSON: &str = "tephra, 8 callers, decoding JSON";
const LOG: &str = "diptych-log by hand, 8 callers";
const LOG_JSON: &str = "diptych-log by hand, 8 callers, decoding JSON";
const COLD: &str = "diptych, 8 tasks, no state kept";
const WARM: &str = "diptych, 8 tasks, states kept";
const WARM_64: &str = "diptych, 64 tasks, states kept";
const FREE: &str = "diptych-log, 64 threads append freely";

pub(crate) fn table(options: &Options) -> Table {
    let (folder, turn) = (options.folder(), options.turn());
    let tephra = Tephra::open(&folder.path().join("tephra"));
    fill(options, "tephra", |entries| tephra.append_all(entries));
    let decided = Log::open(folder.path().join("log"), LogOptions::default()).unwrap();
    fill(options, "diptych-log", |entries| log::append_all(&decided, entries));
    // Unconditional appends add millions of events, so they get a log of their own.
    let free = Log::open(folder.path().join("free"), LogOptions::default()).unwrap();

    let by_tephra =
        |round, fold| callers(CALLERS, round, turn, |numbers| tephra.decide(numbers, fold));
    let by_hand =
        |round, fold| callers(CALLERS, round, turn, |numbers| log::decide(&decided, numbers, fold));
    let runtime = Runtime::new().unwrap();
    let cold = diptych::over(&decided, 0);
    let warm = diptych::over(&decided, AppBuilder::CACHE_BYTES);
    diptych::warm(&runtime, &warm, ACCOUNTS);
    let by_app = |count, round, app: &App| {
        tasks(&runtime, count, round, turn, |numbers, watch| {
            diptych::decide(app.clone(), numbers, watch)
        })
    };
    let contenders = vec![
        Contender::new(raw::NAME, |_| raw::syncs(folder.path(), turn)),
        Contender::new(TEPHRA, |round| by_tephra(round, Fold::Bytes)),
        Contender::new(TEPHRA_JSON, |round| by_tephra(round, Fold::Json)),
        Contender::new(LOG, |round| by_hand(round, Fold::Bytes)),
        Contender::new(LOG_JSON, |round| by_hand(round, Fold::Json)).against(TEPHRA_JSON),
        Contender::new(FREE, |round| {
            callers(64, round, turn, |numbers| log::append_one(&free, numbers))
        }),
        Contender::new(COLD, |round| by_app(CALLERS, round, &cold)),
        Contender::new(WARM, |round| by_app(CALLERS, round, &warm)),
        Contender::new(WARM_64, |round| by_app(64, round, &warm)).against(FREE),
    ];
    let table = Table {
        title: "decide: read one account of a large log, append on condition",
        unit: "decisions/s, each synced",
        baseline: TEPHRA,
        one_caller: false,
        notes: &[
            "tephra syncs before it acknowledges, as diptych-log does; both share syncs",
            "decoding JSON: each event that was read becomes a value, else its bytes are counted",
        ],
        rows: Vec::new(),
    };
    let table = table.measure(options, contenders);
    drop((cold, warm));
    tephra.close();
    decided.close().unwrap();
    free.close().unwrap();
    table
}

/// Appends the same events to each contender's log.
fn fill(options: &Options, name: &str, append: impl Fn(Box<dyn Iterator<Item = Entry> + '_>)) {
    let mut numbers = Numbers::new(0);
    for commit in 0..options.events.div_ceil(COMMIT) {
        progress(&format!("decide: filling {name}, {} events", commit * COMMIT));
        append(Box::new((0..COMMIT).map(|_| Entry::random(&mut numbers))));
    }
}
