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

use std::{fs, process::ExitCode};

use diptych_benches::{engines, options, quiet, raw, table, workload};
use options::{Options, Program};
use table::Report;
use workload::ACCOUNTS;

const PROGRAM: Program = Program {
    parts: &["framework", "decide", "hot"],
    // At 20 random events for an account on average, no account stays empty.
    least_events: 20 * ACCOUNTS,
    settings: &[],
};

fn main() -> ExitCode {
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
        let tables = match *part {
            "framework" => framework::tables(&options),
            "decide" => vec![decide::table(&options)],
            _ => vec![hot::table(&options)],
        };
        for table in &tables {
            println!("{table}");
        }
        report.tables.extend(tables);
    }
    match options.json.as_deref().map(|file| (file, fs::write(file, report.to_json()))) {
        Some((file, Err(error))) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
