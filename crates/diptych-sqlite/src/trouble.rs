//! Classifies errors of SQLite: retry later, fix the file, or fix the handling of the event.

use std::{error::Error, iter::successors, path::Path};

use diptych::{Position, projection::TargetError};
use rusqlite::{ErrorCode, ffi};

enum Trouble {
    /// A retry may succeed.
    Passing,
    /// The file is not a sound database, or cannot be written.
    File,
    /// The guard refused the statement.
    Refused,
    /// The statement itself failed.
    Statement,
}

fn trouble(error: &rusqlite::Error) -> Trouble {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match extended {
        // The path is a folder; no retry can open it.
        ffi::SQLITE_CANTOPEN_ISDIR => return Trouble::File,
        // The file is no longer at its path. The next try opens the file that is there by then.
        ffi::SQLITE_READONLY_DBMOVED => return Trouble::Passing,
        _ => {}
    }
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged
            // No descriptor is free, or a folder is not mounted yet.
            | ErrorCode::CannotOpen,
        ) => Trouble::Passing,
        Some(
            ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::NoLargeFileSupport,
        ) => Trouble::File,
        Some(ErrorCode::AuthorizationForStatementDenied) => Trouble::Refused,
        _ => Trouble::Statement,
    }
}

/// The error of an operation of this crate on this file.
pub(crate) fn of_file(path: &Path, doing: &str, error: rusqlite::Error) -> TargetError {
    let what = format!("{}: {doing}", path.display());
    match trouble(&error) {
        Trouble::Passing => TargetError::unavailable(&what, error),
        Trouble::File | Trouble::Refused | Trouble::Statement => TargetError::broken(&what, error),
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// The error of a projection on an event. `refused` is the guard's last message, which tells more
/// than SQLite's "not authorized".
pub(crate) fn of_event(
    path: &Path,
    position: Position,
    error: Cause,
    refused: Option<String>,
) -> TargetError {
    let what = || format!("{}: the event at position {position}", path.display());
    let trouble = trouble_within(&*error);
    match trouble {
        Some(Trouble::Passing) => return TargetError::unavailable(&what(), error),
        Some(Trouble::File) => return TargetError::broken(&what(), error),
        Some(Trouble::Refused | Trouble::Statement) | None => {}
    }
    let refused = refused.filter(|_| matches!(trouble, Some(Trouble::Refused)));
    let mut error = TargetError::event(position, error);
    if let (Some(refused), TargetError::Event { reason, .. }) = (refused, &mut error) {
        *reason = format!("{refused} ({reason})");
    }
    error
}

/// The error of a commit of events up to this position. A check that runs only at the commit, such
/// as a deferred foreign key, is reported for the last event.
pub(crate) fn of_commit(
    path: &Path,
    last: Option<Position>,
    error: rusqlite::Error,
) -> TargetError {
    match (trouble(&error), last) {
        (Trouble::Statement, Some(last)) => TargetError::event(last, error),
        _ => of_file(path, "the commit", error),
    }
}

/// The error of a projection that makes its tables.
pub(crate) fn of_create(path: &Path, error: Cause, refused: Option<String>) -> TargetError {
    let refused = refused.map_or(String::new(), |refused| format!(" ({refused})"));
    let what = format!("{}: `create` of the projection failed{refused}", path.display());
    match trouble_within(&*error) {
        Some(Trouble::Passing) => TargetError::unavailable(&what, error),
        _ => TargetError::broken(&what, error),
    }
}

/// The first SQLite error in the chain of causes.
fn trouble_within(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let mut causes = successors(Some(error), |&cause| cause.source());
    causes.find_map(|cause| cause.downcast_ref().map(trouble))
}
