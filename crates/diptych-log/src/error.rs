use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use diptych_store::{AppendError, Corruption, ReadError, SyncError, Unavailable};
use rustix::io::Errno;

use crate::report::Damage;

/// Why a log could not be opened. No event was changed or lost, and the open can be repeated. An
/// open that fails late can leave an empty log, or a migration that the next open finishes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or this one, has locked the folder.
    #[error("{folder} is held by {owner}: {advice}")]
    Held {
        /// The folder.
        folder: String,
        /// The holder, such as `process 123 (diptych)`.
        owner: String,
        /// Advice on the next step.
        advice: &'static str,
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
    #[error("{what}: {}", with_advice(.cause))]
    Io {
        /// The operation that failed, with the path.
        what: String,
        /// The error that it returned.
        #[source]
        cause: io::Error,
    },
    /// The folder has an unfinished restore or an unfinished backup.
    #[error("{what} into {folder} was not finished: {advice}")]
    Unfinished {
        /// The folder.
        folder: String,
        /// The operation that was begun.
        what: &'static str,
        /// Advice on the next step.
        advice: &'static str,
    },
    /// The folder is a backup, and the call needs a log that takes commits.
    #[error("{}", takes_nothing(.folder))]
    Backup {
        /// The folder.
        folder: String,
    },
    /// The folder is not in the place where the log was last appended to: it is a copy, or was
    /// moved to another file system.
    #[error("{}", moved(.folder, .was, .is))]
    Moved {
        /// The folder.
        folder: String,
        /// The place where the log was last appended to.
        was: String,
        /// The place where the folder is now.
        is: String,
    },
    /// The folder is a replica, and the call needs a log that takes commits.
    #[error(
        "{folder} is a replica of a log and takes no commits: append to the log itself, or make \
         the replica a log of its own, in a new epoch, with `diptych adopt --copy`"
    )]
    Replica {
        /// The folder.
        folder: String,
    },
    /// The log moved to another place and takes commits there.
    #[error("{}", left(.folder, .to))]
    Left {
        /// The folder.
        folder: String,
        /// The folder or the address to which the log moved.
        to: String,
    },
    /// A log is being moved to the folder, and is not whole there yet.
    #[error(
        "the log of {from} moves to {folder}, and takes no commits here until all of it is here: \
         repeat `diptych copy --move {from} {folder}`"
    )]
    Arriving {
        /// The folder.
        folder: String,
        /// The folder or the address from which the log moves.
        from: String,
    },
    /// The folder is the archive of a log, and not a log.
    #[error("{folder} is the archive of a log, and not a log: give the folder of the log itself")]
    Archive {
        /// The folder.
        folder: String,
    },
    /// The options contradict each other or the format.
    #[error("{problem}")]
    Options {
        /// The wrong options, and valid values.
        problem: String,
    },
}

impl OpenError {
    /// Whether there was no space.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, OpenError::Io { cause, .. } if is_full(cause))
    }
}

/// Why something was not written that the log needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteFailure {
    /// There was no space. Nothing that was written before is in doubt, so the log can go on once
    /// there is space.
    #[error(transparent)]
    Full(Unavailable),
    /// The log stops: what was written before may be lost, or what is on the disk is not known.
    #[error("{0}")]
    Stops(String),
}

impl WriteFailure {
    pub(crate) fn of(what: &str, path: &Path, cause: io::Error) -> WriteFailure {
        match is_full(&cause) {
            true => WriteFailure::full(format!("cannot {what} {}", path.display()), cause),
            false => WriteFailure::stops(what, path, &cause),
        }
    }

    pub(crate) fn stops(what: &str, path: &Path, cause: &io::Error) -> WriteFailure {
        WriteFailure::Stops(format!("cannot {what} {}: {}", path.display(), with_advice(cause)))
    }

    fn full(what: String, cause: io::Error) -> WriteFailure {
        let advice = match cause.kind() {
            ErrorKind::FileTooLarge => {
                "the log takes no commits for now: raise the limit on the size of a file, and the \
                 log goes on by itself"
            }
            _ => {
                "the log takes no commits for now: free space on the file system, and the log goes \
                 on by itself"
            }
        };
        WriteFailure::Full(Unavailable::Storage {
            what: what.into(),
            cause: Arc::new(cause),
            advice,
        })
    }
}

impl From<String> for WriteFailure {
    fn from(reason: String) -> WriteFailure {
        WriteFailure::Stops(reason)
    }
}

impl From<OpenError> for WriteFailure {
    fn from(error: OpenError) -> WriteFailure {
        match error {
            OpenError::Io { what, cause } if is_full(&cause) => WriteFailure::full(what, cause),
            other => WriteFailure::Stops(other.to_string()),
        }
    }
}

/// Why a verification failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The log is damaged: the first damaged place of each file.
    #[error("{} damaged places", .0.len())]
    Damaged(Vec<Damage>),
    /// The log could not be opened or read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a backup or a restore failed.
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
    /// A folder is locked by another process or unfinished, a file is damaged, or the operating
    /// system refused.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a log could not be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The folder cannot be the target of this move, or not yet. Nothing was changed.
    #[error("{folder} {problem}")]
    Target {
        /// The folder.
        folder: String,
        /// The reason, and advice.
        problem: String,
    },
    /// The log in the source folder is not the log that the target has. It is not fenced.
    #[error("{folder} {problem}")]
    Source {
        /// The folder.
        folder: String,
        /// The reason, and advice.
        problem: String,
    },
    /// A folder is locked by another process, moved or a replica, a file is damaged, or the
    /// operating system refused.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why segments could not be archived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The folder cannot be the archive of this log. Nothing was changed.
    #[error("{folder} {problem}")]
    Target {
        /// The folder.
        folder: String,
        /// The reason, and advice.
        problem: String,
    },
    /// A segment is damaged. It stays where it is.
    #[error("{}", places(.0))]
    Damaged(Vec<Damage>),
    /// The log is closed, is a backup, or has stopped taking commits.
    #[error(transparent)]
    Log(#[from] Unavailable),
    /// A folder is held, a file is damaged, or the operating system refused.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The message that a backup takes no commits.
pub(crate) fn takes_nothing(folder: &str) -> String {
    format!(
        "{folder} is a backup and can only be read; `diptych restore` makes a log of it, in \
         another folder"
    )
}

pub(crate) fn left(folder: &str, to: &str) -> String {
    format!(
        "the log of {folder} moved to {to} and takes commits there: use it there; here it can \
         still be read"
    )
}

fn moved(folder: &str, was: &str, is: &str) -> String {
    format!(
        "{folder} was {was}, and is {is} now: if the log takes commits nowhere else, accept the \
         new place with `diptych adopt --moved`; if it is a copy of a log that also takes commits, \
         `diptych adopt --copy` gives it a new epoch; for a volume that moves often, open it with \
         PlacePolicy::Follow, or serve it with `diptych serve --accept-new-place`"
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

/// The error of a read for which the files of a log were looked at as in an open.
pub(crate) fn as_read_error(error: OpenError) -> ReadError {
    match error {
        OpenError::Corrupt(corruption) => corruption.into(),
        OpenError::Io { what, cause } => storage_error(&what, cause).into(),
        other => Unavailable::Backend(Arc::new(other)).into(),
    }
}

/// The error of a read that the operating system could not do.
pub(crate) fn read_failed(path: &Path, cause: io::Error) -> ReadError {
    if cause.kind() == ErrorKind::InvalidData {
        return corruption(path, 0, cause.to_string()).into();
    }
    storage_failed("read", path, cause).into()
}

/// The error of an operation on a file that may succeed later.
pub(crate) fn storage_failed(what: &str, path: &Path, cause: io::Error) -> Unavailable {
    storage_error(&format!("cannot {what} {}", path.display()), cause)
}

/// The error of a failed operation, which `what` names with its file.
pub(crate) fn storage_error(what: &str, cause: io::Error) -> Unavailable {
    let advice = advice(&cause).unwrap_or("find the cause, then try again");
    Unavailable::Storage { what: what.into(), cause: Arc::new(cause), advice }
}

/// The text of an error of the operating system, with advice if there is any.
pub(crate) fn with_advice(cause: &io::Error) -> String {
    match advice(cause) {
        Some(advice) => format!("{cause}; {advice}"),
        None => cause.to_string(),
    }
}

/// Whether a write failed because there is no space for it, or because the file may not grow.
pub(crate) fn is_full(cause: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The error of a failed sync. Some file systems notice only then that there is no space. It does
/// not count as [`is_full`], because what was written before may be lost.
pub(crate) fn sync_failed(path: &Path, cause: io::Error) -> io::Error {
    if !is_full(&cause) {
        return cause;
    }
    io::Error::other(OtherFile { what: format!("cannot sync {}", path.display()), cause })
}

/// The next step for the operator.
fn advice(cause: &io::Error) -> Option<&'static str> {
    let number = cause.raw_os_error().map(Errno::from_raw_os_error);
    match (number, cause.kind()) {
        (Some(Errno::MFILE | Errno::NFILE), _) => {
            Some("raise the limit on open files (`ulimit -n`)")
        }
        (Some(Errno::NOMEM), _) | (_, ErrorKind::OutOfMemory) => {
            Some("free memory, or raise the limit on mapped areas (`vm.max_map_count` of Linux)")
        }
        (Some(Errno::IO), _) => Some("check the disk, then run `diptych verify`"),
        (_, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Some("free space on the file system")
        }
        (_, ErrorKind::FileTooLarge) => Some("raise the limit on the size of a file (`ulimit -f`)"),
        (_, ErrorKind::ReadOnlyFilesystem) => {
            Some("find out why the file system is read-only, and make it writable")
        }
        (_, ErrorKind::PermissionDenied) => {
            Some("give the user of this process access to the files of the log")
        }
        _ if is_unreachable_archive(cause) => Some(
            "mount the archive there, or say where it is now with `diptych archive --relocated`",
        ),
        // The error may be wrapped in an `OtherFile`, which names another file.
        _ => cause.get_ref()?.source()?.downcast_ref().and_then(advice),
    }
}

/// The archive of a log is not where the log says: it is no damage, and may be there later.
#[derive(Debug, thiserror::Error)]
#[error("the archive of the log, {folder}, {problem}")]
struct UnreachableArchive {
    folder: String,
    problem: String,
    #[source]
    cause: Option<io::Error>,
}

/// The error for an archive that is not where it should be, or that is another one.
pub(crate) fn unreachable_archive(
    folder: &str,
    problem: String,
    cause: Option<io::Error>,
) -> io::Error {
    io::Error::other(UnreachableArchive { folder: folder.to_owned(), problem, cause })
}

/// Whether an error says that the archive is not where it should be.
pub(crate) fn is_unreachable_archive(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<UnreachableArchive>())
}

/// An error of the operating system on a file other than the requested one.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
struct OtherFile {
    what: String,
    #[source]
    cause: io::Error,
}

/// Adds the failed operation to an error of the operating system, and keeps its kind.
pub(crate) fn of_other_file(what: String, cause: io::Error) -> io::Error {
    io::Error::new(cause.kind(), OtherFile { what, cause })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Once, each of these errors had the text "the store's backend does not answer; try again".
    #[test]
    fn an_error_says_file_operation_cause_and_the_next_step() {
        let path = Path::new("/data/log/index/1.run");
        for (number, advice) in [
            (Errno::MFILE, "ulimit -n"),
            (Errno::NFILE, "ulimit -n"),
            (Errno::NOMEM, "vm.max_map_count"),
            (Errno::IO, "diptych verify"),
            (Errno::NOSPC, "free space"),
            (Errno::DQUOT, "free space"),
            (Errno::ROFS, "read-only"),
            (Errno::ACCESS, "access"),
        ] {
            let cause = || io::Error::from_raw_os_error(number.raw_os_error());
            let texts = [
                read_failed(path, cause()).to_string(),
                read_failed(path, of_other_file("the next file".into(), cause())).to_string(),
                io_error("read", path)(cause()).to_string(),
            ];
            for text in texts {
                assert!(text.starts_with("cannot read /data/log/index/1.run: "), "{text}");
                assert!(text.contains(&cause().to_string()), "{text}");
                assert!(text.contains(advice), "{text}");
                assert!(!text.contains("backend"), "{text}");
            }
        }
    }
}
