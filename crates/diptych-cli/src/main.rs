//! The binary `diptych`: load, read, follow and check an event log from the command line.
//!
//! Standard input and output carry events as NDJSON. Standard error carries all messages. The exit
//! code tells the kind of failure (see `exit.rs`).

mod address;
mod adopt;
mod answers;
mod append;
mod archive;
mod args;
mod backup;
mod batches;
mod copy;
mod demo;
mod exit;
mod folder;
mod input;
mod intake;
mod lines;
mod ndjson;
mod postgres;
mod process;
mod progress;
mod read;
mod records;
#[cfg(test)]
mod reference;
mod remote;
mod restore;
mod sample;
mod serve;
mod signal;
mod stats;
mod table;
mod tail;
mod token;
mod trace;
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

/// Commands and views allocate and free many small values, which this allocator does faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A write error is ignored: the reader may close the help before its end.
            let _ = error.print();
            return if error.use_stderr() { Exit::Input.into() } else { ExitCode::SUCCESS };
        }
    };
    if !matches!(cli.command, Command::Serve(_)) {
        show_warnings();
    }
    match run(cli.command) {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(Failure::Reported { exit }) => exit.into(),
        Err(Failure::Stopped { exit, message }) => {
            // Ignored: there is no other place to report that standard error is closed.
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
        Command::Serve(args) => serve::run(args),
        Command::Copy(args) => copy::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Adopt(args) => adopt::run(&args),
        Command::Archive(args) => archive::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Import(args) => records::import(&args),
        Command::Compare(args) => records::compare(&args),
        Command::Export(args) => records::export(&args),
        Command::Process(args) => process::run(&args),
        Command::Intake(args) => intake::run(&args),
        Command::Postgres(args) => postgres::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "diptych", &mut script);
            Ok(io::stdout().write_all(&script)?)
        }
    }
}

/// Shows the engine's warnings on standard error, for example of a clock that went back.
fn show_warnings() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
}
