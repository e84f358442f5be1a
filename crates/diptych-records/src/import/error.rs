//! The reasons for which an import, a comparison or an export ends.

use diptych::{
    CommandError, QueryError,
    store::{AppendError, ReadError},
};

/// An import, a comparison or an export ended early. Rows that were imported before are in the log:
/// the next run goes on after them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be opened, read or written.
    #[error("cannot use {path}: {source}; check the path and its permissions")]
    File {
        /// The path.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is none that the command takes.
    #[error("cannot take {path}: {problem}")]
    Format {
        /// The path.
        path: String,
        /// The reason, with what to do.
        problem: String,
    },
    /// A row cannot be read, and so neither can those after it.
    #[error("cannot read row {row} of {table}: {problem}; mend the table, and run it again")]
    Row {
        /// The table.
        table: String,
        /// The number of the row, from 1.
        row: u64,
        /// The reason.
        problem: String,
    },
    /// The table does not fit the record.
    #[error("cannot map table {table}: {problem}")]
    Mapping {
        /// The table.
        table: String,
        /// The reason, with what to do.
        problem: String,
    },
    /// SQLite refused.
    #[error("cannot use table {table} of {path}: {source}; check its name and its file")]
    Sqlite {
        /// The file.
        path: String,
        /// The table.
        table: String,
        /// The reason.
        source: Box<rusqlite::Error>,
    },
    /// A database server refused, or cannot be reached.
    #[error("cannot read table {table} of {place}: {problem}")]
    Database {
        /// The server and the database, without secrets.
        place: String,
        /// The table.
        table: String,
        /// The reason, with what to do.
        problem: String,
    },
    /// The export would not tell `NULL` from an empty text.
    #[error(
        "column {column} has both no value and empty text, which a CSV file does not tell apart: \
         name a text for no value, such as \\N"
    )]
    Nulls {
        /// The column.
        column: String,
    },
    /// A row of the export is no JSON object.
    #[error("cannot export a row: {problem}; export structs with named fields")]
    Export {
        /// The reason.
        problem: String,
    },
    /// A record cannot be read without the program that knows it.
    #[error("cannot read record {record}: {problem}")]
    Plain {
        /// The record.
        record: String,
        /// The reason, with what to do.
        problem: String,
    },
    /// The log refused a batch of rows, which a plain import sent.
    #[error("{0}")]
    Append(#[source] Box<AppendError>),
    /// The log cannot be read.
    #[error("{0}")]
    Read(#[source] Box<ReadError>),
    /// The log refused a batch of rows.
    #[error("{0}")]
    Command(#[source] Box<CommandError>),
    /// The rows here cannot be read.
    #[error("{0}")]
    Query(#[source] Box<QueryError>),
    /// The thread that reads the table ended early.
    #[error("reading the table ended early: see the panic in its thread")]
    Stopped,
}

impl From<CommandError> for ImportError {
    fn from(error: CommandError) -> ImportError {
        ImportError::Command(Box::new(error))
    }
}

impl From<AppendError> for ImportError {
    fn from(error: AppendError) -> ImportError {
        ImportError::Append(Box::new(error))
    }
}

impl From<ReadError> for ImportError {
    fn from(error: ReadError) -> ImportError {
        ImportError::Read(Box::new(error))
    }
}

impl From<QueryError> for ImportError {
    fn from(error: QueryError) -> ImportError {
        ImportError::Query(Box::new(error))
    }
}

impl ImportError {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> ImportError {
        ImportError::File { path: path.display().to_string(), source }
    }
}
