//! Orders, payment at an unreliable provider, shipping, a deadline, and the money back: one
//! application over one log, with its page.
//!
//! `cargo run --release -p example-orders` starts the application and the provider, and prints the
//! address of the page. `--kill-for 10m` kills both at random for this time, and counts the money
//! at the end.
#![allow(clippy::print_stdout)] // The example prints its address, and what a run has shown.

mod application;
mod children;
mod fulfilment;
mod kill_run;
mod shop;
mod site;
mod verdict;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use example_orders::{programs::end_with_parent, provider};
use tokio::net::TcpListener;

use crate::children::ProviderProcess;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A shop with a payment provider that fails in every way.
#[derive(Parser)]
struct Arguments {
    /// The folder of the log and of the provider's accounts; without it, a temporary one
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The port of the page; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Number of orders that come in a second
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// The seed of the orders, of the provider's faults, and of the kills
    #[arg(long)]
    seed: Option<u64>,
    /// Kills the application and the provider at random for this time, such as 20s or 10m, and
    /// then counts the money
    #[arg(long, value_parser = duration)]
    kill_for: Option<Duration>,
    /// The part that a child of this program has
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// The address of the provider, for the application as a child
    #[arg(long, hide = true, default_value = "")]
    provider: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Application,
    Provider,
}

/// # Errors
/// The text is no time.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("give a time such as 20s, 10m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{number:?}: {error}"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    match arguments.part {
        Some(Part::Provider) => {
            end_with_parent();
            let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
            return Ok(provider::run(listener, &folder, seed).await?);
        }
        Some(Part::Application) => {
            end_with_parent();
            let app = application::start(&folder, &arguments.provider).await?;
            return application::place_orders(app, seed, arguments.rate).await;
        }
        None => {}
    }
    std::fs::create_dir_all(&folder)?;
    println!("the seed is {seed}");
    if let Some(time) = arguments.kill_for {
        let shown = kill_run::run(&folder, seed, arguments.rate, time).await?;
        println!("{shown}");
        return Ok(());
    }

    let mut provider = ProviderProcess::start(&folder.join("accounts"), seed)?;
    let app = application::start(&folder.join("log"), &provider.address).await?;
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    println!("the shop is open at http://{}", listener.local_addr()?);
    let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    tokio::select! {
        ended = site::server(app.clone()).serve(listener, until_ctrl_c) => ended?,
        ended = application::place_orders(app.clone(), seed, arguments.rate) => ended?,
        ended = provider.keep() => ended?,
    }
    Ok(app.stop().await?)
}
