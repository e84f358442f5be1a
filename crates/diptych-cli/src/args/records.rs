//! The options of `diptych import`, `diptych compare` and `diptych export`.

use clap::Args;
use diptych_records::{CompareArgs, ExportArgs, ImportArgs};

use crate::args::place::LogPlace;

// No doc comment: clap would show it instead of the commands' doc comments.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The name of the record: customer has events such as customer-created.
    #[arg(long, value_name = "NAME")]
    pub(crate) record: String,
    /// The field that is the key.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: String,
}

/// Import a table as rows of a record.
///
/// Each row becomes an event such as customer-imported, with its origin. A second run appends
/// nothing for a row that is as it was, and its change otherwise. So repeated runs follow a table
/// that is still in use, and a run that was killed goes on with the next one.
///
/// A row that is refused is listed with its reason, and the others are imported. Then the exit code
/// is 3. Rows are not checked by the type of a program: see the guide on records for commands in
/// your own program.
///
/// Examples:
///   diptych import crm.db --table clients --data shop --record customer --key id
///   diptych import prices.csv --data shop --record price --key code --text-column code
///   diptych import postgres://ann@db/crm --table clients --data shop --record customer --key id
#[derive(Debug, Args)]
#[command(about = "Import a table as rows of a record", verbatim_doc_comment)]
pub(crate) struct ImportTableArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// A field whose value one row has at most. Can be given several times.
    #[arg(long, value_name = "FIELD")]
    pub(crate) unique: Vec<String>,
    /// Keep the cells of this column of a CSV file as texts, also if all are numbers. Can be given
    /// several times.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) text_column: Vec<String>,
    #[command(flatten)]
    pub(crate) import: ImportArgs,
}

/// Compare a table with the rows of a record.
///
/// The digests of ranges of keys are compared, and the rows of those ranges that differ. The
/// comparison is about the fields that have a column. If rows differ, the exit code is 3.
///
/// Example:
///   diptych compare crm.db --table clients --data shop --record customer --key id
#[derive(Debug, Args)]
#[command(about = "Compare a table with the rows of a record", verbatim_doc_comment)]
pub(crate) struct CompareTableArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// Keep the cells of this column of a CSV file as texts, also if all are numbers. Can be given
    /// several times.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) text_column: Vec<String>,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
}

/// Export the rows of a record as a plain table.
///
/// The file is a SQLite file, or a CSV file with a statement of SQL beside it. The types of columns
/// come from the values. An event with a meaning of its own is an error, because only its program
/// knows how it changes a row.
///
/// Examples:
///   diptych export back.db --data shop --record customer --key id
///   diptych export back.csv --data shop --record customer --key id --nulls NA
#[derive(Debug, Args)]
#[command(about = "Export the rows of a record as a plain table", verbatim_doc_comment)]
pub(crate) struct ExportTableArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    #[command(flatten)]
    pub(crate) export: ExportArgs,
}
