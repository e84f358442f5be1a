//! Measures the cost of one command, next to other frameworks and to the bare disk:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin commands`.
//!
//! Each part prints tables. The contenders of a table take turns over several rounds, so that other
//! load on the machine affects all of them alike. [`options::usage`] lists the options.

mod bank;
mod cqrs_es;
mod decide;
mod diptych;
mod framework;
mod hot;
mod log;

use std::process::ExitCode;

use diptych_benches::{engines, options, program, quiet, raw, table, workload};
use options::Program;
use workload::ACCOUNTS;

const PROGRAM: Program = Program {
    parts: &["framework", "decide", "hot"],
    // At 20 random events for an account on average, no account stays empty.
    least_events: 20 * ACCOUNTS,
    settings: &[],
};

fn main() -> ExitCode {
    let run = program::run(&PROGRAM, std::env::args().skip(1), |part, options| match part {
        "framework" => framework::tables(options),
        "decide" => vec![decide::table(options)],
        _ => vec![hot::table(options)],
    });
    run.err().unwrap_or(ExitCode::SUCCESS)
}
