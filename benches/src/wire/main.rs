//! Measures logs over the network: a server in a process of its own, and clients on the same
//! machine:
//! `cargo run --release --manifest-path benches/Cargo.toml --features umadb --bin wire`.
//!
//! The parts are
//! - `appends`: appends of one event by 1, 64 and 256 clients;
//! - `pipelined`: one client with 1,024 appends in flight;
//! - `reads`: the whole log in order; one account;
//! - `decide`: read one account, append on the condition that the account has no new event;
//! - `hot`: two processes decide on one account;
//! - `subscriber`: the time from an append until a subscriber has its event;
//! - `idle`: memory of 1,000 subscribers without events, and appends beside them;
//! - `fanout`: 100 subscribers of the same 5,000 events a second.
//!
//! Every append is durable before it counts. [`options::usage`] lists the options.

mod connection;
mod hot;
mod loaded;
mod ours;
mod served;
mod subscribers;
#[cfg(feature = "umadb")]
mod umadb;
mod writes;

use std::{process::ExitCode, sync::LazyLock};

use diptych_benches::{
    options::{Options, Program},
    program,
    table::Table,
    workload::ACCOUNTS,
};
use tokio::runtime::Runtime;

const PROGRAM: Program = Program {
    parts: &["appends", "pipelined", "reads", "decide", "hot", "subscriber", "idle", "fanout"],
    least_events: 20 * ACCOUNTS,
    settings: &[],
};

/// Runs the clients, or the server of a child process.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if served::is_child(&arguments) {
        run_child(&arguments);
        return ExitCode::SUCCESS;
    }
    let run = program::run(&PROGRAM, arguments.into_iter(), tables);
    run.err().unwrap_or(ExitCode::SUCCESS)
}

fn run_child(arguments: &[String]) {
    let [_, what, name, arguments @ ..] = arguments else { panic!("a child has a task") };
    match (what.as_str(), arguments) {
        ("serve", [folder, address]) => {
            let kind = served::SERVED.iter().find(|kind| kind.name == name).unwrap();
            std::fs::create_dir_all(folder).unwrap();
            (kind.serve)(folder.as_ref(), address.parse().unwrap());
        }
        ("hot", [address, round, seconds]) => {
            let (round, seconds) = (round.parse().unwrap(), seconds.parse().unwrap());
            hot::run(name, address.parse().unwrap(), round, seconds);
        }
        _ => panic!("this program has no such child"),
    }
}

fn tables(part: &str, options: &Options) -> Vec<Table> {
    match part {
        "appends" => writes::appends(options),
        "pipelined" => writes::pipelined(options),
        "reads" => loaded::reads(options),
        "decide" => loaded::decide(options),
        "hot" => hot::tables(options),
        "subscriber" => subscribers::one(options),
        "idle" => subscribers::idle(options),
        _ => subscribers::fan_out(options),
    }
}
