//! Measures the log in PostgreSQL beside two peers in the same server:
//! `cargo run --release --manifest-path benches/postgres/Cargo.toml`.
//!
//! The program starts a server of its own, in which each contender has a database. The contenders
//! of a table take turns over several rounds, so that other load on the machine affects all alike.

mod aggregates;
mod growth;
mod ours;
mod place;
mod plain;
mod streams;
mod turns;

use std::process::ExitCode;

use diptych_postgres_benches::{
    options::{Program, Setting},
    program,
};
use diptych_postgres_testing::PostgresServer;
use place::Place;

const PROGRAM: Program = Program {
    parts: &["appends", "hot", "boundaries", "batches", "reads", "delays", "growth"],
    least_events: 100_000,
    settings: &[
        Setting {
            name: "--log",
            default: "100000",
            about: "events of the logs that the reads are of",
        },
        Setting {
            name: "--partition",
            default: "10000000",
            about: "positions of a partition of the log that grows",
        },
    ],
};

/// Settings of the server beyond those of the tests.
const SETTINGS: &str = "shared_buffers = '256MB'\nmax_wal_size = '2GB'\n";

/// The oldest version of PostgreSQL that disintegrate-postgres runs on.
const LEAST_VERSION: u32 = 16;

/// The major version of the server.
fn version(server: &PostgresServer) -> Option<u32> {
    let output = server.program("postgres")?.arg("--version").output().ok()?;
    // For example "postgres (PostgreSQL) 16.4 (Debian 16.4-1)".
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let (Some(server), Ok(runtime)) = (PostgresServer::with(SETTINGS), runtime) else {
        return ExitCode::FAILURE;
    };
    if let Some(version) = version(&server).filter(|version| *version < LEAST_VERSION) {
        eprintln!(
            "this is PostgreSQL {version}, and disintegrate-postgres needs {LEAST_VERSION}: name \
             the folder of newer programs in DIPTYCH_POSTGRES"
        );
        return ExitCode::FAILURE;
    }
    for database in ["ours", "aggregates", "streams", "plain", "grown"] {
        server.execute("postgres", &format!("create database {database}"));
    }
    let place = Place { server, runtime };
    let run = program::run(&PROGRAM, std::env::args().skip(1), |part, options| match part {
        "appends" => turns::appends(&place, options),
        "hot" => vec![turns::hot(&place, options)],
        "boundaries" => vec![turns::boundaries(&place, options)],
        "batches" => vec![turns::batches(&place, options)],
        "reads" => turns::reads(&place, options),
        "delays" => vec![ours::delays(&place, options)],
        _ => growth::tables(&place, options),
    });
    run.err().unwrap_or(ExitCode::SUCCESS)
}
