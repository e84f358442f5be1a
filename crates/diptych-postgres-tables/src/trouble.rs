//! Classifies errors of PostgreSQL: retry later, fix the database, or fix the handling of the
//! event.

use std::{error::Error, iter::successors, time::Duration};

use diptych::{Position, projection::TargetError};
use diptych_postgres::OpenError;
use tokio_postgres::error::SqlState;

/// A statement of a projection that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The server refused the statement, or the connection was lost.
    #[error("the statement failed")]
    Server(#[from] tokio_postgres::Error),
    /// A row given to [`insert`](crate::Transaction::insert) has a value that its column cannot
    /// hold.
    #[error("the value of column {column} of table {table} does not fit its type {wanted}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The type of the column.
        wanted: String,
        /// The reason.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// A projection must not execute this statement.
    #[error("{reason}")]
    Refused {
        /// The rule, and the right way.
        reason: String,
    },
    /// The server gave no answer.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
}

/// The answer of the server to statements of this crate.
pub(crate) type Answer<T> = Result<T, StatementError>;

pub(crate) enum Trouble {
    /// A retry may succeed.
    Passing,
    /// The role lacks rights, or the database is damaged.
    Database,
    /// The statement itself failed.
    Statement,
}

pub(crate) fn trouble(error: &StatementError) -> Trouble {
    match error {
        StatementError::Server(error) => of_server(error),
        StatementError::Late(_) => Trouble::Passing,
        StatementError::Value { .. } | StatementError::Refused { .. } => Trouble::Statement,
    }
}

fn of_server(error: &tokio_postgres::Error) -> Trouble {
    let Some(code) = error.code() else {
        // Without an answer of the server it is one of the connection, or of a value.
        return match error.is_closed() || has_io_error(error) {
            true => Trouble::Passing,
            false => Trouble::Statement,
        };
    };
    match code.code().get(..2) {
        // Connection, resources, rollback for the sake of others, operator, system.
        Some("08" | "53" | "40" | "57" | "58") => Trouble::Passing,
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Trouble::Passing,
        _ if *code == SqlState::LOCK_NOT_AVAILABLE || is_old_plan(error) => Trouble::Passing,
        Some("28" | "3D" | "XX") => Trouble::Database,
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => Trouble::Database,
        _ => Trouble::Statement,
    }
}

/// Whether a plan was made before a change of the schema. The next try makes another one.
fn is_old_plan(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|told| told.message().contains("cached plan"))
}

fn has_io_error(error: &tokio_postgres::Error) -> bool {
    successors(error.source(), |&cause| cause.source()).any(|cause| cause.is::<std::io::Error>())
}

/// The error of an operation of this crate on this database.
pub(crate) fn of_place(place: &str, doing: &str, error: StatementError) -> TargetError {
    let what = format!("{place}: {doing}");
    match trouble(&error) {
        Trouble::Passing => TargetError::unavailable(&what, error),
        Trouble::Database | Trouble::Statement => TargetError::broken(&what, error),
    }
}

/// The error of connecting.
pub(crate) fn of_opening(error: OpenError) -> TargetError {
    match error {
        OpenError::Server { .. } | OpenError::Thread(_) => {
            TargetError::unavailable("connecting", error)
        }
        _ => TargetError::broken("connecting", error),
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// The error of a projection on an event.
pub(crate) fn of_event(place: &str, position: Position, error: Cause) -> TargetError {
    let what = || format!("{place}: the event at position {position}");
    match trouble_within(&*error) {
        Some(Trouble::Passing) => TargetError::unavailable(&what(), error),
        Some(Trouble::Database) => TargetError::broken(&what(), error),
        Some(Trouble::Statement) | None => TargetError::event(position, error),
    }
}

/// The error of a commit of events up to this position. A check that runs only at the commit, such
/// as a deferred foreign key, is reported for the last event.
pub(crate) fn of_commit(place: &str, last: Option<Position>, error: StatementError) -> TargetError {
    match (trouble(&error), last) {
        (Trouble::Statement, Some(last)) => TargetError::event(last, error),
        _ => of_place(place, "the commit", error),
    }
}

/// The first error of a statement in the chain of causes.
fn trouble_within(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let mut causes = successors(Some(error), |&cause| cause.source());
    causes.find_map(|cause| match cause.downcast_ref::<StatementError>() {
        Some(error) => Some(trouble(error)),
        None => cause.downcast_ref().map(of_server),
    })
}
