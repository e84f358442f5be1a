//! A bank. This file declares the events. The rules are in `commands.rs`, where one tag is the
//! boundary, as with an aggregate. The queries are in `queries.rs`. `cargo run -p example-bank`
#![allow(clippy::print_stdout)] // The example prints its results.

mod commands;
mod queries;
#[cfg(test)]
mod tests;

use diptych::{App, Event, ExecuteError, Filter, Position, Tag, Timestamp};

use crate::{
    commands::{Deposit, Open, Withdraw},
    queries::{Balance, Balances, Richest},
};

/// The hinge. Both panels know the events, and nothing else about each other.
#[derive(Debug, PartialEq, Event)]
pub(crate) enum Banking {
    #[event("account-opened")]
    Opened {
        #[tag]
        account: String,
    },
    #[event("money-deposited")]
    Deposited {
        #[tag]
        account: String,
        cents: u64,
    },
    #[event("money-withdrawn")]
    Withdrawn {
        #[tag]
        account: String,
        cents: u64,
    },
}

/// Selects the events of one account.
fn account(account: &str) -> Filter {
    Filter::tag(Tag::new("account", account))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.view::<Balances>().start().await?;

    for (account, cents) in [("ann", 300), ("ben", 900), ("cleo", 700)] {
        app.execute(Open { account: account.into() }).actor("teller").await?;
        app.execute(Deposit { account: account.into(), cents }).await?;
    }

    // The client lost the first answer, so it sends the command again under the same key. The
    // command is carried out once.
    let deposit = || app.execute(Deposit { account: "ann".into(), cents: 500 }).key("slip-7");
    let (receipt, again) = (deposit().await?, deposit().await?);
    println!(
        "ann's slip 7 is at position {}, sent again it is at {}",
        receipt.last(),
        again.last()
    );

    // A view follows the log by itself, so it may be a little behind. With the receipt, the query
    // waits until the view contains the caller's own write.
    let richest = app.query(Richest { top: 2 }).after(&receipt).await?;
    println!("the richest, as of position {}: {:?}", richest.position, richest.value);

    let noon = Timestamp::now();
    let withdraw = |cents| app.execute(Withdraw { account: "ann".into(), cents });
    if let Err(ExecuteError::Rejected(reason)) = withdraw(801).await {
        println!("ann wants 801, which is refused: {reason}");
    }
    let receipt = withdraw(650).await?;

    // Queries of the past look like queries of the present. They read only this account's events.
    let ann = || Balance { account: "ann".into() };
    let now = app.query(ann()).after(&receipt).await?;
    println!("ann has {}", told(*now));
    let before = app.query(ann()).recorded_before(noon).await?;
    println!("ann had {} at noon", told(*before));
    let first = app.query(ann()).as_of(Position::new(2)).await?;
    println!("ann had {} at position 2 ({} events read)", told(*first), first.cost.events);

    // Every event that changed the answer, from the start of the log.
    println!("ann's statement:");
    let mut statement = app.history(ann(), Position::START, app.head());
    while let Some(line) = statement.next().await? {
        println!("  position {:>2}: {}", line.position, told(*line));
    }
    Ok(app.stop().await?)
}

fn told(balance: Option<u128>) -> String {
    balance.map_or("no account".into(), |cents| format!("{cents} cents"))
}
