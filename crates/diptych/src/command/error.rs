use std::error::Error;

use diptych_store::{
    AppendError, Corruption, InvalidRequest, Position, RawEvent, ReadError, Refusal, SyncError,
    Unavailable,
};

use super::{BoundaryError, Invalid};
use crate::{
    event::{Recorded, SchemaError},
    fold::FoldError,
    lineage::ClaimError,
    token::TokenError,
};

/// Why a command has no receipt. Unless it is [`OutcomeUnknown`](ExecuteError::OutcomeUnknown),
/// nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError<R: Error + 'static> {
    /// The command makes no sense by itself.
    #[error("invalid: {0}")]
    Invalid(#[source] Invalid),
    /// The rule says no.
    #[error("rejected: {0}")]
    Rejected(#[source] R),
    /// Others were quicker, as often as was tried; or something came since the position or
    /// revision that the caller expected.
    #[error(transparent)]
    Conflict(Conflict),
    /// The idempotency key belongs to another command.
    #[error(transparent)]
    KeyReused(KeyReused),
    /// What the caller carries along makes no sense here.
    #[error(transparent)]
    Token(TokenError),
    /// The store does not take it: it is beyond a limit, or names a position that the log has
    /// not reached.
    #[error(transparent)]
    NotTaken(InvalidRequest),
    /// A mistake in the program: the boundary cannot match what it seems to ask for.
    #[error(transparent)]
    Boundary(BoundaryError),
    /// A mistake in the program: what was decided cannot be written so that it could be read.
    #[error(transparent)]
    Schema(SchemaError),
    /// The boundary's events could not be folded.
    #[error(transparent)]
    Fold(FoldError),
    /// A mistake in the program: the rule panicked.
    #[error(transparent)]
    Panicked(Panicked),
    /// The log is damaged where the decision had to read it.
    #[error(transparent)]
    Corrupt(Corruption),
    /// The store takes no commands now.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// The commit was accepted and then its sync failed: it may be there or not.
    #[error(transparent)]
    OutcomeUnknown(OutcomeUnknown),
    /// The app was stopped before this command was decided.
    #[error("the app was stopped: start it again and send the command again")]
    Stopped,
}

/// Something came that the decision did not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("conflict: {}", self.story())]
pub struct Conflict {
    /// The position that won.
    pub at: Position,
    /// The position up to which the boundary was known.
    pub after: Position,
    /// How often the command was decided.
    pub attempts: u32,
    /// What came since, in order; at most [`Conflict::MISSED_EVENTS`] of it.
    pub missed: Vec<Recorded<RawEvent>>,
}

impl Conflict {
    /// How many missed events a conflict lists.
    pub const MISSED_EVENTS: usize = 100;

    fn story(&self) -> String {
        let Conflict { at, after, attempts, missed } = self;
        if at <= after {
            return format!(
                "the stream ends at position {at}, before the revision that was expected: look \
                 whether it is the right stream of the right log"
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
     key for a new command; if it is the same one, it serialises differently each time, as a set \
     without an order does"
)]
pub struct KeyReused {
    /// The key.
    pub key: String,
    /// Where the other command's events begin.
    pub first: Position,
    /// Where they end.
    pub last: Position,
}

/// A rule panicked. Nothing was written, and the state that it was given is read anew next time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`decide` of {command} panicked: {message}; nothing was written")]
pub struct Panicked {
    /// The Rust type of the command.
    pub command: &'static str,
    /// What the panic said.
    pub message: String,
}

/// A commit was accepted and may or may not be durable.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "outcome unknown: the events were accepted at {first} to {last}, and not known to be synced \
     when this happened: {cause}; start again and look, or send the command again under the \
     same key"
)]
pub struct OutcomeUnknown {
    /// Where its events begin, if they are there.
    pub first: Position,
    /// Where they end.
    pub last: Position,
    /// What happened to the store.
    pub cause: Unavailable,
}

/// What can go wrong whatever the command is.
#[derive(Debug)]
pub enum Failure {
    Invalid(Invalid),
    Conflict(Conflict),
    KeyReused(KeyReused),
    Token(TokenError),
    NotTaken(InvalidRequest),
    Boundary(BoundaryError),
    Schema(SchemaError),
    Fold(FoldError),
    Panicked(Panicked),
    Corrupt(Corruption),
    Unavailable(Unavailable),
    OutcomeUnknown(OutcomeUnknown),
    Stopped,
}

impl Failure {
    /// Whether the program cannot decide the command, although the store would take it.
    pub(crate) fn is_mistake(&self) -> bool {
        use Failure::{Boundary, Fold, Panicked, Schema};
        matches!(self, Boundary(_) | Schema(_) | Fold(_) | Panicked(_))
    }
}

impl<R: Error + 'static> From<Failure> for ExecuteError<R> {
    fn from(failure: Failure) -> ExecuteError<R> {
        match failure {
            Failure::Invalid(error) => ExecuteError::Invalid(error),
            Failure::Conflict(error) => ExecuteError::Conflict(error),
            Failure::KeyReused(error) => ExecuteError::KeyReused(error),
            Failure::Token(error) => ExecuteError::Token(error),
            Failure::NotTaken(error) => ExecuteError::NotTaken(error),
            Failure::Boundary(error) => ExecuteError::Boundary(error),
            Failure::Schema(error) => ExecuteError::Schema(error),
            Failure::Fold(error) => ExecuteError::Fold(error),
            Failure::Panicked(error) => ExecuteError::Panicked(error),
            Failure::Corrupt(error) => ExecuteError::Corrupt(error),
            Failure::Unavailable(error) => ExecuteError::Unavailable(error),
            Failure::OutcomeUnknown(error) => ExecuteError::OutcomeUnknown(error),
            Failure::Stopped => ExecuteError::Stopped,
        }
    }
}

impl From<BoundaryError> for Failure {
    fn from(error: BoundaryError) -> Failure {
        Failure::Boundary(error)
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Failure {
        Failure::Schema(error)
    }
}

impl From<FoldError> for Failure {
    fn from(error: FoldError) -> Failure {
        Failure::Fold(error)
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Failure {
        Failure::Unavailable(error)
    }
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Failure {
        match error {
            ClaimError::Token(error) => Failure::Token(error),
            ClaimError::Read(error) => error.into(),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        match error {
            ReadError::Invalid(invalid) => Failure::NotTaken(invalid),
            ReadError::Corrupt(corruption) => Failure::Corrupt(corruption),
            ReadError::Unavailable(unavailable) => Failure::Unavailable(unavailable),
            other => Failure::Unavailable(Unavailable::Backend(std::sync::Arc::new(other))),
        }
    }
}

/// An append that has no positions, apart from what is an outcome of its own.
impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        match error {
            AppendError::Invalid(invalid) => Failure::NotTaken(invalid),
            AppendError::Corrupt(corruption) => Failure::Corrupt(corruption),
            AppendError::Unavailable(unavailable) => Failure::Unavailable(unavailable),
            AppendError::OutcomeUnknown(SyncError { cause }) => {
                let (first, last) = (Position::START, Position::START);
                Failure::OutcomeUnknown(OutcomeUnknown { first, last, cause })
            }
            other => Failure::Unavailable(Unavailable::Backend(std::sync::Arc::new(other))),
        }
    }
}

/// What a store refuses is an outcome of its own: these are what is left.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    AppendError::Refused(refusal).into()
}
