//! Measures the speed of processes:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin processes`.
//!
//! The parts are
//! - `reactions`: reactions with one command each, until all events of the commands are durable;
//! - `latency`: from a durable trigger to the durable event of its command, one at a time;
//! - `due`: `--timers` timers that are due at once;
//! - `pending`: the memory and the start of a program with `--pending` pending timers.

mod latency;
mod orders;
mod reactions;
mod timers;

use std::process::ExitCode;

use diptych_benches::{durable, options, program, table};
use options::{Program, Setting};

const PROGRAM: Program = Program {
    parts: &["reactions", "latency", "due", "pending"],
    least_events: 1_000,
    settings: &[
        Setting { name: "--triggers", default: "50000", about: "triggers of a turn (reactions)" },
        Setting { name: "--timers", default: "100000", about: "timers that are due at once (due)" },
        Setting { name: "--pending", default: "1000000", about: "pending timers (pending)" },
    ],
};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some(timers::CHILD), Some(folder)) = (arguments.next().as_deref(), arguments.next()) {
        timers::child(folder.as_ref());
        return ExitCode::SUCCESS;
    }
    let run = program::run(&PROGRAM, std::env::args().skip(1), |part, options| match part {
        "reactions" => vec![reactions::table(options)],
        "latency" => vec![latency::table(options)],
        "due" => vec![timers::due(options)],
        _ => vec![timers::pending(options)],
    });
    run.err().unwrap_or(ExitCode::SUCCESS)
}
