use std::error::Error;

use diptych_store::{
    AppendError, Corruption, InvalidRequest, Position, RawEvent, ReadError, Refusal, SyncError,
    Unavailable,
};

use super::{Invalid, OrdinalError};
use crate::{
    event::{BoundaryError, OutdatedEvent, Recorded, RetagFailure, SchemaError},
    fold::FoldError,
    token::{ClaimError, TokenError},
};

/// Why a command has no receipt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError<R: Error + 'static> {
    /// The rule rejected the command. Nothing was written.
    #[error("rejected: {0}")]
    Rejected(#[source] R),
    /// The command failed for another reason.
    #[error(transparent)]
    Failed(#[from] CommandError),
}

/// Why a command failed. Unless it is [`OutcomeUnknown`](CommandError::OutcomeUnknown), nothing was
/// written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The command makes no sense by itself.
    #[error("invalid: {0}")]
    Invalid(#[source] Invalid),
    /// Concurrent commits won at every attempt, or an event came after the position or revision
    /// that the caller expected.
    #[error(transparent)]
    Conflict(Conflict),
    /// The idempotency key belongs to another command.
    #[error(transparent)]
    KeyReused(KeyReused),
    /// A token of the caller does not belong to this log or its history.
    #[error(transparent)]
    Token(TokenError),
    /// The store does not take the request: it is beyond a limit, or names a position that the log
    /// has not reached.
    #[error(transparent)]
    InvalidRequest(InvalidRequest),
    /// A mistake in the program: the boundary cannot match the events that it seems to ask for.
    #[error(transparent)]
    Boundary(#[from] BoundaryError),
    /// A mistake in the program: the decided events cannot be written so that they can be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The program is older than the log: it would write an event without a tag that rules of a
    /// newer program need. Deploy the newer program.
    #[error(transparent)]
    Outdated(#[from] OutdatedEvent),
    /// The boundary's events could not be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// A mistake in the program: the rule panicked.
    #[error(transparent)]
    Panicked(CommandPanic),
    /// The log is damaged where the decision had to read it.
    #[error(transparent)]
    Corrupt(Corruption),
    /// The store takes no commands now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The commit was accepted, and then its sync failed: its events may be in the log or not.
    #[error(transparent)]
    OutcomeUnknown(OutcomeUnknown),
    /// The [tracking](crate::Execute::tracking) of the command was refused: another command was
    /// committed for this or a later position of the source, or the source has another history.
    #[error("{0}")]
    Tracking(Refusal),
    /// The rows that the store writes together with the commit could not be written: the refusal
    /// is [`Refusal::Rows`].
    #[error("{0}")]
    Rows(Refusal),
    /// The command is out of the order of its client's commands.
    #[error(transparent)]
    Ordinal(#[from] OrdinalError),
    /// The app was stopped before this command was decided.
    #[error("the app was stopped: start it again and send the command again")]
    Stopped,
}

impl CommandError {
    /// Whether the program cannot decide the command, although the store would take it.
    pub(crate) fn is_mistake(&self) -> bool {
        use CommandError::{Boundary, Fold, Outdated, Panicked, Schema};
        matches!(self, Boundary(_) | Schema(_) | Outdated(_) | Fold(_) | Panicked(_))
    }
}

/// An event came that the decision did not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("conflict: {}", self.story())]
pub struct Conflict {
    /// The position of the event that the decision did not know.
    pub at: Position,
    /// The position up to which the boundary was known.
    pub after: Position,
    /// How often the command was decided.
    pub attempts: u32,
    /// The events since then as they are today, in order; at most [`Conflict::MISSED_EVENTS`]. An
    /// event whose upcaster fails is given as it is stored.
    pub missed: Vec<Recorded<RawEvent>>,
}

impl Conflict {
    /// Maximum number of missed events that a conflict lists.
    pub const MISSED_EVENTS: usize = 100;

    fn story(&self) -> String {
        let Conflict { at, after, attempts, missed } = self;
        if at <= after {
            return format!(
                "the stream ends at position {at}, before the expected revision: check that it is \
                 the right stream of the right log"
            );
        }
        format!(
            "position {at} came after position {after}, which the decision was based on \
             ({attempts} tries, {} events missed): look at what happened, then decide again",
            missed.len()
        )
    }
}

/// The idempotency key was used for another command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key {key:?} was used by a different command, committed at {first} to {last}: use a new \
     key for a new command; if it is the same command, it serialises differently each time, as an \
     unordered set does"
)]
pub struct KeyReused {
    /// The key.
    pub key: String,
    /// Where the other command's events begin.
    pub first: Position,
    /// Where they end.
    pub last: Position,
}

/// A rule panicked. Nothing was written. The next command reads the state anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`decide` of {command} panicked: {message}; nothing was written")]
pub struct CommandPanic {
    /// The Rust type of the command.
    pub command: &'static str,
    /// The message of the panic.
    pub message: String,
}

/// A commit was accepted, or sent to a server, and may or may not be durable.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "outcome unknown: {}: {cause}; start again and look for them, or send the command again under \
     the same key", self.how_far_they_came()
)]
pub struct OutcomeUnknown {
    /// Where its events begin, if the log has them. It is [`Position::START`] if they were sent to
    /// a server that gave no usable answer.
    pub first: Position,
    /// Where they end.
    pub last: Position,
    /// The failure of the store.
    pub cause: Unavailable,
}

impl OutcomeUnknown {
    fn how_far_they_came(&self) -> String {
        match (self.first, self.last) {
            (Position::START, _) => {
                "the events were sent, and no usable answer says whether they are durable"
                    .to_owned()
            }
            (first, last) => format!(
                "the events were accepted at {first} to {last}, but their sync was not confirmed"
            ),
        }
    }
}

impl From<ClaimError> for CommandError {
    fn from(error: ClaimError) -> CommandError {
        match error {
            ClaimError::Token(error) => CommandError::Token(error),
            ClaimError::Read(error) => error.into(),
            // Not reached: a command does not limit this wait.
            ClaimError::Late { .. } | ClaimError::Behind { .. } => {
                CommandError::Unavailable(Unavailable::Closed)
            }
        }
    }
}

impl From<RetagFailure> for CommandError {
    fn from(failure: RetagFailure) -> CommandError {
        match failure {
            RetagFailure::Read(error) => error.into(),
            RetagFailure::Schema(error) => error.into(),
        }
    }
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> CommandError {
        match error {
            ReadError::Invalid(invalid) => CommandError::InvalidRequest(invalid),
            ReadError::Corrupt(corruption) => CommandError::Corrupt(corruption),
            ReadError::Unavailable(unavailable) => CommandError::Unavailable(unavailable),
            other => CommandError::Unavailable(Unavailable::Backend(std::sync::Arc::new(other))),
        }
    }
}

/// The error of an append without positions, except refusals that are outcomes of their own.
impl From<AppendError> for CommandError {
    fn from(error: AppendError) -> CommandError {
        match error {
            AppendError::Invalid(invalid) => CommandError::InvalidRequest(invalid),
            AppendError::Corrupt(corruption) => CommandError::Corrupt(corruption),
            AppendError::Unavailable(unavailable) => CommandError::Unavailable(unavailable),
            AppendError::OutcomeUnknown(SyncError { cause }) => {
                let (first, last) = (Position::START, Position::START);
                CommandError::OutcomeUnknown(OutcomeUnknown { first, last, cause })
            }
            other => CommandError::Unavailable(Unavailable::Backend(std::sync::Arc::new(other))),
        }
    }
}

/// The error of a refusal that is no outcome of its own.
pub(crate) fn refused(refusal: Refusal) -> CommandError {
    AppendError::Refused(refusal).into()
}
