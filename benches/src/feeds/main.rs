//! Measures feeds between services:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin feeds`.
//!
//! The parts are
//! - `intake`: a service takes in a feed of `--published` events from another process;
//! - `latency`: from a durable event of one service to the durable event that it causes in another,
//!   one at a time;
//! - `idle`: 1,000 consumers that wait for a feed, and appends of other events beside them.

mod idle;
mod intake;
mod latency;
mod publisher;
mod services;

use std::process::ExitCode;

use diptych_benches::{
    options::{Program, Setting},
    program,
};

const PROGRAM: Program = Program {
    parts: &["intake", "latency", "idle"],
    least_events: 1_000,
    settings: &[Setting {
        name: "--published",
        default: "200000",
        about: "events of the feed (intake)",
    }],
};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some(publisher::CHILD), Some(folder)) = (arguments.next().as_deref(), arguments.next())
    {
        publisher::child(folder.as_ref());
        return ExitCode::SUCCESS;
    }
    let run = program::run(&PROGRAM, std::env::args().skip(1), |part, options| match part {
        "intake" => vec![intake::table(options)],
        "latency" => vec![latency::table(options)],
        _ => idle::tables(options),
    });
    run.err().unwrap_or(ExitCode::SUCCESS)
}
