//! Measures the log, next to the bare disk and to other event logs:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin log`.
//!
//! The parts are
//! - `writes`: appends of one event, by 1, 8, 64 and 256 threads, by 256 tasks, and by one thread
//!   with 1,024 in flight; also the number of disk flushes for an append;
//! - `batch`: appends of a thousand events, and whether they slow down as the log grows;
//! - `decide`: read an account, append on the condition that the account has no new event;
//! - `reads`: the whole log in order, warm and cold; one account, by one reader, by 16, and by one
//!   beside 64 writers;
//! - `cold`: reads of accounts in a large log that is not in memory;
//! - `open`: opening a log after it was closed and after its process was killed;
//! - `size`: bytes on disk, and memory while loading;
//! - `subscribe`: the time from an append until a subscriber has its event;
//! - `growth`: the costs that rise as the log grows;
//! - `mixed`: appends, reads, scans and subscribers at once.
//!
//! Every append is durable before it counts. [`options::usage`] lists the options.

mod batch;
mod child;
mod cold;
mod decide;
mod growth;
mod mixed;
mod open;
mod plots;
mod reads;
mod size;
mod subscribe;
mod svg;
mod tasks;
mod writes;

use std::process::ExitCode;

use diptych_benches::{
    options::{self, Options, Program, Setting},
    program,
    table::Table,
    workload::ACCOUNTS,
};
use plots::Plots;

const PROGRAM: Program = Program {
    parts: &[
        "writes",
        "batch",
        "decide",
        "reads",
        "cold",
        "open",
        "size",
        "subscribe",
        "growth",
        "mixed",
    ],
    least_events: 20 * ACCOUNTS,
    settings: &[
        Setting {
            name: "--cold-events",
            default: "8000000",
            about: "events of the logs of the part `cold`",
        },
        Setting {
            name: "--open-sizes",
            default: "1000000,4000000,16000000",
            about: "events of the logs of the part `open`",
        },
        Setting {
            name: "--growth-sizes",
            default: "1000000,4000000,16000000,50000000",
            about: "at which sizes the part `growth` looks",
        },
        Setting { name: "--mixed-seconds", default: "60", about: "how long the part `mixed` is" },
        Setting {
            name: "--mixed-rate",
            default: "4000",
            about: "appends a second, and reads, of its second half; 0 leaves that out",
        },
        Setting { name: options::PLOTS, default: "", about: "folder for figures as SVG files" },
    ],
};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if child::is_one(&arguments) {
        tasks::run(&arguments);
        return ExitCode::SUCCESS;
    }
    let mut plots = Plots::default();
    let run = program::run(&PROGRAM, arguments.into_iter(), |part, options| {
        tables(part, options, &mut plots)
    });
    let options = match run {
        Ok(options) => options,
        Err(code) => return code,
    };
    match options.text(options::PLOTS) {
        "" => ExitCode::SUCCESS,
        folder => match plots.write(folder.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{folder}: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn tables(part: &str, options: &Options, plots: &mut Plots) -> Vec<Table> {
    match part {
        "writes" => writes::tables(options, plots),
        "batch" => batch::tables(options),
        "decide" => vec![decide::table(options)],
        "reads" => reads::tables(options, plots),
        "cold" => cold::tables(options),
        "open" => open::tables(options, plots),
        "size" => size::tables(options),
        "subscribe" => subscribe::tables(options),
        "growth" => growth::tables(options, plots),
        _ => mixed::tables(options),
    }
}
