use std::io;

use diptych_store::ReadError;

use crate::failure::{Fault, POOLED};

/// A log in PostgreSQL that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is none of a log in PostgreSQL.
    #[error("the address of the database cannot be used: {problem}")]
    Address {
        /// The mistake, and the right form.
        problem: String,
    },
    /// The system gave no thread.
    #[error("the thread of the connections cannot start: {0}")]
    Thread(#[source] io::Error),
    /// The server does not answer, or refuses.
    #[error("the database {place} cannot be used: {cause}")]
    Server {
        /// The server and the database.
        place: String,
        /// The answer, or the reason why there is none.
        #[source]
        cause: ReadError,
    },
    /// A pooler in transaction mode is between the program and the server.
    #[error("the database {place} cannot be used: {}", POOLED)]
    Pooler {
        /// The pooler and the database.
        place: String,
    },
    /// The server lacks something that the store needs.
    #[error("the database {place} cannot hold a log: {problem}")]
    Unsuitable {
        /// The server and the database.
        place: String,
        /// The setting or version, and what to do.
        problem: String,
    },
    /// The schema of the database is missing, too old, or too new.
    #[error("the schema of the database {place} does not fit: {problem}")]
    Schema {
        /// The server and the database.
        place: String,
        /// The version that was found, and what to do.
        problem: String,
    },
    /// Rows that are to be written with each append cannot be brought in step with the log.
    #[error("the inline projection {projection} in the database {place} cannot be used: {problem}")]
    Inline {
        /// The server and the database.
        place: String,
        /// The projection.
        projection: String,
        /// The obstacle, and what to do.
        problem: String,
    },
    /// The database has no log of this name.
    #[error(
        "the database {place} has no log {log:?}: check the name, or open it with `create` set"
    )]
    NoLog {
        /// The server and the database.
        place: String,
        /// The name of the log.
        log: String,
    },
}

/// Why a log could not be moved into a database or away from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The log cannot be the target of this move, or not yet.
    #[error("{log} {problem}")]
    Target {
        /// The log and its database.
        log: String,
        /// The reason, and advice.
        problem: String,
    },
    /// The log cannot move, or is not the log that the target has. It was not fenced.
    #[error("{log} {problem}")]
    Source {
        /// The log and its database.
        log: String,
        /// The reason, and advice.
        problem: String,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl OpenError {
    /// The error for the answer of this server.
    pub(crate) fn of(place: String, fault: Fault) -> OpenError {
        match fault {
            Fault::Pooler => OpenError::Pooler { place },
            fault => OpenError::Server { place, cause: fault.into_read_error() },
        }
    }
}
