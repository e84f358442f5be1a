//! The binary `diptych`: load, read, follow and check an event log from the command line.
//!
//! Events go through standard input and output as NDJSON, everything said about them goes to
//! standard error, and the exit code tells what kind of trouble there was (see `exit.rs`).

mod append;
mod args;
mod backup;
mod batches;
mod demo;
mod exit;
mod folder;
mod lines;
mod ndjson;
mod progress;
mod read;
mod restore;
mod sample;
mod stats;
mod table;
mod tail;
mod verify;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use tracing::level_filters::LevelFilter;

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
};

/// Commands and views make and drop many small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is not an error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Input.into() } else { ExitCode::SUCCESS };
        }
    };
    show_warnings();
    match run(cli.command) {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(Failure::Stopped { exit, message }) => {
            // There is nowhere left to say that standard error is gone.
            let _ = writeln!(io::stderr(), "diptych: {message}");
            exit.into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Append(args) => append::run(&args),
        Command::Read(args) => read::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "diptych", &mut script);
            Ok(io::stdout().write_all(&script)?)
        }
    }
}

/// The engine warns, for example of a clock that went back; whoever runs it here should see it.
fn show_warnings() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
}
