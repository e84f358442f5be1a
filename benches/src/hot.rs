//! Many callers decide on one account, and every commit is durable. The table shows how close they
//! come to appends without a condition.

use std::fs;

use ::diptych::AppBuilder;
use diptych_log::{Log, LogOptions};
use tokio::runtime::Runtime;

use crate::{
    diptych, log,
    options::Options,
    raw,
    table::{Contender, Table},
    workload::tasks,
};

const TASKS: u64 = 256;
const IN_FLIGHT: usize = 1024;

const FREE: &str = "diptych-log, 256 tasks append freely";
const PIPELINED: &str = "diptych-log, 1 thread appends freely, 1,024 in flight";
const HOT: &str = "diptych, 256 tasks, one account";
const LANE: &str = "diptych, one lane, 1,024 in flight";
const LANE_ONE: &str = "diptych, one lane on one account, 1,024 in flight";
const BY_HAND: &str = "diptych-log by hand, 256 tasks, one account";

pub(crate) fn table(options: &Options) -> Table {
    let (folder, turn) = (options.folder(), options.turn());
    let runtime = Runtime::new().unwrap();
    // Each turn gets a new log, so that earlier appends do not slow it down.
    let on_fresh_log = |turn: &dyn Fn(&Log) -> f64| {
        let folder = folder.path().join("log");
        let log = Log::open(&folder, LogOptions::default()).unwrap();
        let rate = turn(&log);
        log.close().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        rate
    };
    let contenders = vec![
        Contender::new(raw::NAME, |_| raw::syncs(folder.path(), turn)),
        Contender::new(FREE, |round| {
            on_fresh_log(&|log| {
                tasks(&runtime, TASKS, round, turn, |numbers, watch| {
                    log::append_freely(log.clone(), numbers, watch)
                })
            })
        }),
        Contender::new(PIPELINED, |round| {
            on_fresh_log(&|log| log::pipelined(log, IN_FLIGHT, round, turn))
        }),
        Contender::new(HOT, |round| {
            on_fresh_log(&|log| {
                let app = diptych::over(log, AppBuilder::CACHE_BYTES);
                tasks(&runtime, TASKS, round, turn, |numbers, watch| {
                    diptych::decide_on_one_account(app.clone(), numbers, watch)
                })
            })
        }),
        Contender::new(LANE, |round| {
            on_fresh_log(&|log| {
                let app = diptych::over(log, AppBuilder::CACHE_BYTES);
                diptych::lane(&runtime, &app, IN_FLIGHT, round, turn, false)
            })
        })
        .against(PIPELINED),
        Contender::new(LANE_ONE, |round| {
            on_fresh_log(&|log| {
                let app = diptych::over(log, AppBuilder::CACHE_BYTES);
                diptych::lane(&runtime, &app, IN_FLIGHT, round, turn, true)
            })
        })
        .against(PIPELINED),
        Contender::new(BY_HAND, |round| {
            on_fresh_log(&|log| {
                tasks(&runtime, TASKS, round, turn, |numbers, watch| {
                    log::decide_on_one_account(log.clone(), numbers, watch)
                })
            })
        }),
    ];
    let table = Table {
        title: "hot: one account, everything durable",
        unit: "acknowledged/s, each synced",
        baseline: FREE,
        one_caller: false,
        notes: &[
            "by hand: take the account's last position, append if it is still that, else again",
        ],
        rows: Vec::new(),
    };
    table.measure(options, contenders)
}
