//! Commands for a program's own command line: import, compare and export the rows of its records.

mod options;
mod outcome;
mod progress;

use std::process::ExitCode;

use clap::Subcommand;
pub use options::{ColumnArgs, CompareArgs, ExportArgs, ImportArgs, TableArgs, TableFormat};
pub use outcome::RecordOutcome;

use self::progress::RowProgress;
use crate::{
    import::{Export, ImportError, RowSource},
    record::Record,
    records::Records,
};

/// The commands about a record that a program offers on its own command line, with clap.
///
/// `diptych import`, `diptych export` and `diptych compare` do not have the types of a program.
/// These commands check each row by its type, and read events with a meaning of their own. A
/// progress line is shown on a terminal.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use clap::Parser;
/// use diptych::App;
/// use diptych_records::{ExportArgs, Export, Record, RecordCommand, WithRecords};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, PartialEq, Serialize, Deserialize, Record)]
/// #[record("customer")]
/// struct Customer {
///     #[key]
///     id: u64,
///     city: String,
/// }
///
/// /// The tables of the shop.
/// #[derive(Parser)]
/// enum Program {
///     /// The table of customers.
///     #[command(subcommand)]
///     Customers(RecordCommand),
///     /// Export a view that only this program knows.
///     Cities(ExportArgs),
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
///     let app = App::open("shop")?.records::<Customer>().start().await?;
///     match Program::parse() {
///         // shop customers import crm.db --table clients --rename number=id --skip fax
///         Program::Customers(command) => Ok(command.run(&app.records::<Customer>()).await?),
///         Program::Cities(args) => {
///             # let rows: Vec<Customer> = Vec::new();
///             // The rows come from a query of the view.
///             Ok(args.run(Export::of("cities", rows)?)?)
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Subcommand)]
#[non_exhaustive]
pub enum RecordCommand {
    /// Import a table: new rows, and changes of rows that were imported before.
    Import(ImportArgs),
    /// Compare a table with the rows here, and list differences.
    Compare(CompareArgs),
    /// Export all rows as a plain table, with its statement of SQL.
    Export(ExportArgs),
}

impl RecordCommand {
    /// Runs the command, and prints its result on standard output. The exit code is 3 if rows were
    /// refused, or if the comparison has found differences.
    ///
    /// # Errors
    /// [`ImportError`] if the command ended early.
    pub async fn run<R: Record>(self, records: &Records<R>) -> Result<ExitCode, ImportError> {
        let is_json = match &self {
            RecordCommand::Import(args) => args.json,
            RecordCommand::Compare(args) => args.json,
            RecordCommand::Export(args) => args.json,
        };
        self.outcome(records).await?.print(is_json)
    }

    /// Runs the command, and prints nothing.
    ///
    /// # Errors
    /// [`ImportError`] if the command ended early.
    pub async fn outcome<R: Record>(
        self,
        records: &Records<R>,
    ) -> Result<RecordOutcome, ImportError> {
        match self {
            RecordCommand::Import(args) => imported(records, &args).await,
            RecordCommand::Compare(args) => compared(records, &args).await,
            RecordCommand::Export(args) => {
                // Before any row is read.
                args.format()?;
                args.write(records.export().await?)
            }
        }
    }
}

impl ExportArgs {
    /// Writes a table into the file, and prints the result on standard output.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be written.
    pub fn run(&self, export: Export) -> Result<ExitCode, ImportError> {
        self.write(export)?.print(self.json)
    }
}

async fn imported<R: Record>(
    records: &Records<R>,
    args: &ImportArgs,
) -> Result<RecordOutcome, ImportError> {
    let mut import = records.import(args.table.open()?);
    let ColumnArgs { rename, skip, key_columns } = &args.columns;
    for (column, field) in rename {
        import = import.rename(column, field);
    }
    for column in skip {
        import = import.skip(column);
    }
    if !key_columns.is_empty() {
        let columns: Vec<_> = key_columns.iter().map(String::as_str).collect();
        import = import.key_of(&columns);
    }
    if args.delete_missing {
        import = import.delete_missing();
    }
    let progress = RowProgress::new();
    let report = import.run_with(|report| progress.rows(report.read)).await?;
    Ok(RecordOutcome::Imported(report))
}

async fn compared<R: Record>(
    records: &Records<R>,
    args: &CompareArgs,
) -> Result<RecordOutcome, ImportError> {
    let mut compare = records.compare(CountedTable { table: args.table.open()?, read: 0 });
    let ColumnArgs { rename, skip, key_columns } = &args.columns;
    for (column, field) in rename {
        compare = compare.rename(column, field);
    }
    for column in skip {
        compare = compare.skip(column);
    }
    if !key_columns.is_empty() {
        let columns: Vec<_> = key_columns.iter().map(String::as_str).collect();
        compare = compare.key_of(&columns);
    }
    Ok(compare.run().await?.into())
}

/// A table whose rows are counted on a terminal while they are read.
struct CountedTable {
    table: Box<dyn RowSource>,
    read: u64,
}

impl RowSource for CountedTable {
    fn name(&self) -> &str {
        self.table.name()
    }

    fn table(&self) -> &str {
        self.table.table()
    }

    fn columns(&self) -> &[String] {
        self.table.columns()
    }

    fn is_typed(&self) -> bool {
        self.table.is_typed()
    }

    fn unreadable(&self, column: &str) -> Option<String> {
        self.table.unreadable(column)
    }

    fn read(
        &mut self,
        row: &mut dyn FnMut(&[crate::import::Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let progress = RowProgress::new();
        let read = &mut self.read;
        *read = 0;
        self.table.read(&mut |cells| {
            *read += 1;
            progress.rows(*read);
            row(cells)
        })
    }
}
