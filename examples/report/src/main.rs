//! Two models of one shop: a rule for sales (`commands.rs`), and tables in an SQLite file for
//! reports (`report.rs`). Neither knows the other. Only the log connects them.
//! `cargo run -p example-report`
#![allow(clippy::print_stdout)] // The example prints its results.

mod commands;
mod report;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use diptych::{App, Event, ExecuteError};
use diptych_sqlite::{
    Sqlite,
    rusqlite::{self, Connection, OpenFlags},
};

use crate::{
    commands::{Deliver, Sell},
    report::Sales,
};

#[derive(Clone, Debug, PartialEq, Event)]
pub(crate) enum Trade {
    #[event("article-delivered")]
    Delivered {
        #[tag]
        article: String,
        pieces: u32,
    },
    #[event("article-sold")]
    Sold {
        #[tag]
        article: String,
        month: u32,
        pieces: u32,
        cents: u64,
    },
}

/// How long to wait for the report.
const SOON: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("reports.db");
    let app = App::open(folder.path().join("log"))?
        .projection(Sqlite::at(&file).projection(Sales))
        .start()
        .await?;

    let sell = |article: &str, month, pieces| {
        let (article, cents) = (article.to_owned(), 250 * u64::from(pieces));
        app.execute(Sell { article, month, pieces, cents })
    };
    for article in ["apples", "pears"] {
        app.execute(Deliver { article: article.to_owned(), pieces: 100 }).await?;
    }
    for month in 1..=3 {
        sell("apples", month, 10 * month).await?;
    }
    let receipt = sell("pears", 3, 40).await?;
    if let Err(ExecuteError::Rejected(reason)) = sell("pears", 3, 61).await {
        println!("61 pears cannot be sold: {reason}");
    }

    // A reader that needs a report with a certain sale waits until the table contains that sale,
    // and no longer.
    let sales = app.projection("sales")?;
    sales.after(&receipt, SOON).await?;
    print("sales by month, asked with SQL by whoever has the file:", &file)?;

    // A paused report delays no sale. It tells which position it shows.
    sales.pause().await?;
    sell("apples", 4, 7).await?;
    let status = sales.status();
    let behind = status.lag.positions;
    print(&format!("the report is {}, {behind} position behind the log:", status.state), &file)?;
    sales.resume().await?;
    sales.caught_up(SOON).await?;
    print("and when it goes on:", &file)?;

    // The rows can be rebuilt at any time, because the log has every event.
    sales.rebuild().await?;
    sales.caught_up(SOON).await?;
    print("and made again from the start:", &file)?;
    Ok(app.stop().await?)
}

/// Prints the report. Any program that can read SQLite could do this.
fn print(headline: &str, file: &Path) -> rusqlite::Result<()> {
    println!("{headline}");
    let mut report = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One transaction reads the rows and their position, so that the two match.
    let report = report.transaction()?;
    let mut months = report
        .prepare("SELECT month, sum(pieces), sum(cents) FROM sale GROUP BY month ORDER BY month")?;
    let mut rows = months.query(())?;
    while let Some(row) = rows.next()? {
        let (month, pieces, cents): (u32, u32, u64) = row.try_into()?;
        println!("  month {month}: {pieces:>3} pieces for {cents:>6} cents");
    }
    let of = "SELECT position FROM diptych_checkpoint WHERE name = 'sales'";
    let position: u64 = report.query_row(of, (), |row| row.get(0))?;
    println!("  as of position {position}");
    Ok(())
}
