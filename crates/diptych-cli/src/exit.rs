//! The exit codes of the program, and the code for each error.

use std::{io, process::ExitCode};

use diptych_log::{MoveError, OpenError};
use diptych_store::{AppendError, InvalidRequest, ReadError, SyncError};

/// The exit codes, as every `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done; also when the reader of the output went away, as in `diptych read … | head`
  1  the command line or the input is wrong; the message says where
  2  damage was found, and where
  3  refused because of what is in the log (a condition, a key, or rows), or rows differ from it
  4  another process holds the folder or the address; the message names it
  5  the store or a file failed, or the outcome of a commit is unknown";

/// An exit code other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command line or the input is wrong.
    Input = 1,
    /// Damage was found.
    Damage = 2,
    /// The store refused because of what is in the log, or rows differ from it.
    Refused = 3,
    /// Another process holds the folder or the address.
    Held = 4,
    /// The store or a file failed, or the outcome of a commit is unknown.
    Failed = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The reason why a command stopped early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An error, with the exit code and the message.
    #[error("{message}")]
    Stopped { exit: Exit, message: String },
    /// An error that was reported in another way.
    #[error("the error was reported")]
    Reported { exit: Exit },
    /// The reader of standard output went away, so there is no work left.
    #[error("standard output is closed")]
    ReaderGone,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure::Stopped { exit, message: message.into() }
    }

    pub(crate) fn input(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Input, message)
    }

    /// Adds `more` to the end of the message.
    #[must_use]
    pub(crate) fn and(self, more: &str) -> Failure {
        match self {
            Failure::Stopped { exit, message } => Failure::new(exit, format!("{message}; {more}")),
            other => other,
        }
    }
}

/// Treats a plain I/O error as a failed write to standard output, because no other code here
/// returns one.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ReaderGone;
        }
        Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))
    }
}

impl From<InvalidRequest> for Failure {
    fn from(error: InvalidRequest) -> Failure {
        Failure::input(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let exit = match &error {
            OpenError::Held { .. } => Exit::Held,
            OpenError::Corrupt(_) => Exit::Damage,
            // The user meant another folder, or has to do something else first.
            OpenError::Unfinished { .. }
            | OpenError::Backup { .. }
            | OpenError::Moved { .. }
            | OpenError::Replica { .. }
            | OpenError::Left { .. }
            | OpenError::Arriving { .. }
            | OpenError::Archive { .. } => Exit::Input,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<MoveError> for Failure {
    fn from(error: MoveError) -> Failure {
        match error {
            MoveError::Open(error) => error.into(),
            other => Failure::input(other.to_string()),
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        let exit = match &error {
            AppendError::Invalid(_) => Exit::Input,
            AppendError::Refused(_) => Exit::Refused,
            AppendError::Corrupt(_) => Exit::Damage,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let exit = match &error {
            ReadError::Invalid(_) => Exit::Input,
            ReadError::Corrupt(_) => Exit::Damage,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::{Corruption, Position, Refusal, Unavailable};

    use super::*;

    fn exit(failure: impl Into<Failure>) -> Exit {
        match failure.into() {
            Failure::Stopped { exit, .. } => exit,
            other => panic!("ended without a code: {other}"),
        }
    }

    fn corruption() -> Corruption {
        Corruption { place: "segment 3".into(), what: "torn".into(), advice: "restore".into() }
    }

    #[test]
    fn every_kind_of_error_has_its_documented_code() {
        let held =
            OpenError::Held { folder: "data".into(), owner: "process 1".into(), advice: "stop it" };
        assert_eq!(exit(held), Exit::Held);
        assert_eq!(exit(OpenError::Corrupt(corruption())), Exit::Damage);
        let at = Position::new(1);
        let conflict = Refusal::Conflict { at, after: Position::START };
        assert_eq!(exit(AppendError::Refused(conflict)), Exit::Refused);
        assert_eq!(exit(AppendError::Corrupt(corruption())), Exit::Damage);
        assert_eq!(exit(AppendError::Invalid(InvalidRequest::NoType)), Exit::Input);
        let unknown = SyncError { cause: Unavailable::Closed };
        assert_eq!(exit(AppendError::OutcomeUnknown(unknown)), Exit::Failed);
        assert_eq!(exit(ReadError::Unavailable(Unavailable::Closed)), Exit::Failed);
        assert_eq!(exit(ReadError::Corrupt(corruption())), Exit::Damage);
        assert_eq!(exit(io::Error::other("no space")), Exit::Failed);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(gone, Failure::ReaderGone));
    }
}
