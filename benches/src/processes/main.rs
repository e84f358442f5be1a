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

use std::{fs, process::ExitCode};

use diptych_benches::{options, table};
use options::{Options, Program, Setting};
use table::Report;

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
    let options = match Options::from_arguments(&PROGRAM, std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::usage(&PROGRAM));
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(&options);
    println!("{report}");
    for part in options.parts() {
        let table = match *part {
            "reactions" => reactions::table(&options),
            "latency" => latency::table(&options),
            "due" => timers::due(&options),
            _ => timers::pending(&options),
        };
        println!("{table}");
        report.tables.push(table);
    }
    match options.json.as_deref().map(|file| (file, fs::write(file, report.to_json()))) {
        Some((file, Err(error))) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
