//! Ordering, payment and shipping as three processes of the operating system, each with its own log
//! and its own feed, and an unreliable payment provider as a fourth.
//!
//! `cargo run --release -p example-fulfilment` starts all four, drives orders through them, prints
//! the address of the page, and at the end the verdict. `run --kills` kills members at random
//! meanwhile.
#![allow(clippy::print_stdout)] // The example prints its address, and what a run has shown.

mod ask;
mod children;
mod member;
mod ordering;
mod payment;
mod run;
mod shipping;
mod verdict;
mod window;

use std::{io::ErrorKind, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use example_orders::{programs::end_with_parent, provider};
use tokio::{net::TcpListener, time::Instant};

use crate::{ordering::OrderBook, payment::PaymentBook, run::RunArguments, shipping::ParcelBook};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Orders through three services that collaborate by events.
#[derive(Parser)]
#[command(name = "fulfilment")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Starts all members, drives orders through them, and prints the verdict
    Run(RunArguments),
    /// Runs ordering alone
    Ordering {
        #[command(flatten)]
        member: MemberArguments,
        /// The address of the feed of payment
        #[arg(long)]
        payments: String,
        /// The address of the feed of shipping
        #[arg(long)]
        parcels: String,
    },
    /// Runs payment alone
    Payment {
        #[command(flatten)]
        member: MemberArguments,
        /// The address of the feed of ordering
        #[arg(long)]
        orders: String,
        /// The address of the payment provider
        #[arg(long)]
        provider: String,
    },
    /// Runs shipping alone
    Shipping {
        #[command(flatten)]
        member: MemberArguments,
        /// The address of the feed of ordering
        #[arg(long)]
        orders: String,
        /// The address of the feed of payment
        #[arg(long)]
        payments: String,
    },
    /// Runs the unreliable payment provider alone
    Provider {
        #[command(flatten)]
        member: MemberArguments,
        /// The seed of its faults
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[derive(Args)]
struct MemberArguments {
    /// The folder of its log, or of the provider's accounts
    #[arg(long)]
    data: PathBuf,
    /// The address at which it listens; the port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Ends when its input ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl MemberArguments {
    /// Binds the address. A member that was killed may find a connection of another program at its
    /// port, so it waits a while for that.
    ///
    /// # Errors
    /// The error of the system.
    async fn listener(&self) -> std::io::Result<TcpListener> {
        if self.with_parent {
            end_with_parent();
        }
        let until = Instant::now() + Duration::from_secs(90);
        let listener = loop {
            match TcpListener::bind(self.listen).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                bound => break bound?,
            }
        };
        println!("listening at http://{}", listener.local_addr()?);
        Ok(listener)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let part = Arguments::parse().part;
    match start(part.unwrap_or_else(|| Part::Run(RunArguments::parse_from(["run"])))).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// # Errors
/// The faults of the run, or the reason why the part does not run.
async fn start(part: Part) -> Result<(), Failure> {
    match part {
        Part::Run(arguments) => run::run(&arguments).await,
        Part::Ordering { member, payments, parcels } => {
            let listener = member.listener().await?;
            let app = ordering::start(&member.data, &payments, &parcels).await?;
            member::serve::<OrderBook>(app, "Ordering", listener).await
        }
        Part::Payment { member, orders, provider } => {
            let listener = member.listener().await?;
            let app = payment::start(&member.data, &orders, &provider).await?;
            member::serve::<PaymentBook>(app, "Payment", listener).await
        }
        Part::Shipping { member, orders, payments } => {
            let listener = member.listener().await?;
            let app = shipping::start(&member.data, &orders, &payments).await?;
            member::serve::<ParcelBook>(app, "Shipping", listener).await
        }
        Part::Provider { member, seed } => {
            let listener = member.listener().await?;
            std::fs::create_dir_all(&member.data)?;
            Ok(provider::run(listener, &children::accounts(&member.data), seed).await?)
        }
    }
}
