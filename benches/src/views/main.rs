//! Measures the cost of views, queries and projections:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin views`.
//!
//! The parts are
//! - `fold`: events per second that go into a view;
//! - `query`: the time of a query, and how much eight readers slow down the folding;
//! - `visible`: the time from the sync of a commit until a query sees it;
//! - `sqlite`: a projection that catches up, next to a loop by hand that writes equal rows;
//! - `restart`: a start from a snapshot of ten times `--events`, with a tail to fold.

mod events;
mod fold;
mod query;
mod restart;
mod sqlite;
mod visible;

use std::process::ExitCode;

use diptych_benches::{options, program, table};
use options::Program;

const PROGRAM: Program = Program {
    parts: &["fold", "query", "visible", "sqlite", "restart"],
    least_events: 10_000,
    settings: &[],
};

fn main() -> ExitCode {
    let run = program::run(&PROGRAM, std::env::args().skip(1), |part, options| match part {
        "fold" => fold::tables(options),
        "query" => query::tables(options),
        "visible" => visible::tables(options),
        "sqlite" => sqlite::tables(options),
        _ => restart::tables(options),
    });
    run.err().unwrap_or(ExitCode::SUCCESS)
}
