//! The way back: the rows leave the log as a plain table, in SQLite and as CSV with its statement
//! of SQL. Changes by plain facts and by commands are both in it.

use std::path::Path;

use diptych::App;
use diptych_records::{CsvFile, SqliteTable, WithRecords};

use crate::{Failure, intent::Customer};

/// Writes the customers of a log into `customer.db` and `customer.csv` of a folder, and compares
/// both with the rows of the log. It tells what it has done.
pub(crate) async fn run(log: &Path, folder: &Path) -> Result<Vec<String>, Failure> {
    let app = App::open(log)?.records::<Customer>().start().await?;
    let told = exported(&app, folder).await;
    app.stop().await?;
    told
}

async fn exported(app: &App, folder: &Path) -> Result<Vec<String>, Failure> {
    let customers = app.records::<Customer>();
    let export = customers.export().await?;
    let (sqlite, csv) = (folder.join("customer.db"), folder.join("customer.csv"));
    export.to_sqlite(&sqlite)?;
    export.to_csv(&csv)?;
    let in_sqlite = customers.compare(SqliteTable::open(&sqlite, "customer")?).run().await?;
    let in_csv = customers.compare(CsvFile::open(&csv)?).run().await?;
    let line = |file: &str, is_equal: bool| match is_equal {
        true => format!("{file} has the same {} customers", export.rows()),
        false => format!("{file} differs from the log"),
    };
    Ok(vec![
        line("customer.db", in_sqlite.is_equal()),
        line("customer.csv", in_csv.is_equal()),
        format!("a plain program begins with: {}", export.ddl().lines().next().unwrap_or_default()),
    ])
}
