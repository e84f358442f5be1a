use std::{io, path::Path, sync::Arc};

use diptych_store::{AppendError, Corruption, ReadError, SyncError, Unavailable};

use crate::report::Damage;

/// Why a log could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or this one) has locked the folder.
    #[error("{folder} is held by {owner}: stop it, or use another folder")]
    Held {
        /// The folder.
        folder: String,
        /// The holder, such as `process 123 (diptych)`.
        owner: String,
    },
    /// The log is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A file was written by a newer version of this program.
    #[error("{file} has format {format}, newer than this program reads: use a newer version")]
    Newer {
        /// The file.
        file: String,
        /// Its format version.
        format: u16,
    },
    /// The operating system refused.
    #[error("{what}: {cause}")]
    Io {
        /// The operation that failed, with the path.
        what: String,
        /// The error that it returned.
        #[source]
        cause: io::Error,
    },
    /// The folder holds an unfinished restore or an unfinished backup.
    #[error("{what} into {folder} was not finished: {advice}")]
    Unfinished {
        /// The folder.
        folder: String,
        /// The operation that was begun.
        what: &'static str,
        /// Advice on how to go on.
        advice: &'static str,
    },
    /// The folder is a backup, and was to be opened to append to it.
    #[error("{}", takes_nothing(.folder))]
    Backup {
        /// The folder.
        folder: String,
    },
    /// The folder is not where it was when the log was last appended to: it is a copy, or was put
    /// on another file system.
    #[error("{}", moved(.folder, .was, .is))]
    Moved {
        /// The folder.
        folder: String,
        /// The place that it had.
        was: String,
        /// The place that it has.
        is: String,
    },
    /// The folder is a replica, and was to be opened to append to it.
    #[error(
        "{folder} is a replica of a log and takes no commits: append to the log itself, or make \
         the replica a log of its own, in a new epoch, with `diptych adopt --copy`"
    )]
    Replica {
        /// The folder.
        folder: String,
    },
    /// The options contradict each other or the format.
    #[error("{problem}")]
    Options {
        /// The options at fault, and values that would do.
        problem: String,
    },
}

/// Why a verification did not find everything in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Damage: the first found in each file.
    #[error("{} damaged places", .0.len())]
    Damaged(Vec<Damage>),
    /// It could not be read at all.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why there is no backup, or no log from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The target folder cannot be used. Nothing was changed.
    #[error("{folder} {problem}")]
    Target {
        /// The folder.
        folder: String,
        /// The reason, and advice.
        problem: String,
    },
    /// The source of the copy is damaged.
    #[error("{}", places(.0))]
    Damaged(Vec<Damage>),
    /// A folder is held or unfinished, a file is damaged, or the operating system refused.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a backup cannot be written to.
pub(crate) fn takes_nothing(folder: &str) -> String {
    format!(
        "{folder} is a backup and can only be read; `diptych restore` makes a log of it, in \
         another folder"
    )
}

fn moved(folder: &str, was: &str, is: &str) -> String {
    format!(
        "{folder} was {was}, and is {is} now: if it is the only one that goes on, take it with \
         `diptych adopt --moved`; if it is a copy of a log that also goes on, `diptych adopt \
         --copy` gives it a new epoch; for a volume that moves often, open it with \
         PlacePolicy::Follow"
    )
}

fn places(damage: &[Damage]) -> String {
    let place = |Damage { file, offset, what, advice }: &Damage| {
        format!("{} at byte {offset}: {what}; {advice}", file.display())
    };
    damage.iter().map(place).collect::<Vec<_>>().join("\n")
}

pub(crate) const RESTORE: &str = "restore the log from a backup; `diptych verify` lists all damage";

pub(crate) fn corruption(path: &Path, offset: u64, what: impl Into<String>) -> Corruption {
    Corruption {
        place: format!("{} at byte {offset}", path.display()),
        what: what.into(),
        advice: RESTORE.to_owned(),
    }
}

/// Adds the failed operation to an error of the operating system.
pub(crate) fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let what = format!("cannot {what} {}", path.display());
    move |cause| OpenError::Io { what, cause }
}

/// The error of a read for which the operating system did not deliver.
pub(crate) fn read_failed(path: &Path, cause: &io::Error) -> ReadError {
    if cause.kind() == io::ErrorKind::InvalidData {
        return corruption(path, 0, cause.to_string()).into();
    }
    let what = io::Error::new(cause.kind(), format!("cannot read {}: {cause}", path.display()));
    ReadError::Unavailable(Unavailable::Backend(Arc::new(what)))
}

/// The error of an append whose condition or key could not be checked, because a read failed.
pub(crate) fn check_failed(error: ReadError) -> AppendError {
    match error {
        ReadError::Invalid(invalid) => invalid.into(),
        ReadError::Corrupt(corruption) => corruption.into(),
        ReadError::Unavailable(unavailable) => unavailable.into(),
        other => SyncError { cause: Unavailable::Backend(Arc::new(other)) }.into(),
    }
}
