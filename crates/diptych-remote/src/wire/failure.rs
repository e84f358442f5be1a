//! Errors of a store as messages, and as statuses of gRPC.

use std::{error::Error, sync::Arc};

use diptych_store::{
    AppendError, Corruption, Epoch, HistoryChanged, InvalidRequest, LogId, LogIdentity, Position,
    ReadError, Refusal, SyncError, Unavailable,
};
use prost::Message;
use tonic::{Code, Status};

mod storage;

use crate::wire::{
    MessageError,
    messages::{self, Failure, failure, invalid, refusal},
    stored::{identity_message, identity_of},
};

/// An error of a store that a server reports to a client.
pub trait FailureCause {
    /// The error as a message, without a head.
    fn kind(&self) -> failure::Kind;
}

impl FailureCause for AppendError {
    fn kind(&self) -> failure::Kind {
        match self {
            AppendError::Invalid(invalid) => invalid.kind(),
            // Clients know no such refusal, and show these words.
            AppendError::Refused(rows @ Refusal::Rows { .. }) => {
                failure::Kind::Unavailable(text(rows.to_string()))
            }
            AppendError::Refused(refusal) => failure::Kind::Refusal(refusal_message(refusal)),
            AppendError::Corrupt(corruption) => corruption.kind(),
            AppendError::Unavailable(unavailable) => unavailable.kind(),
            AppendError::OutcomeUnknown(SyncError { cause }) => {
                failure::Kind::OutcomeUnknown(unavailable_message(cause))
            }
            other => failure::Kind::Unavailable(text(other.to_string())),
        }
    }
}

impl FailureCause for ReadError {
    fn kind(&self) -> failure::Kind {
        match self {
            ReadError::Invalid(invalid) => invalid.kind(),
            ReadError::Corrupt(corruption) => corruption.kind(),
            ReadError::Unavailable(unavailable) => unavailable.kind(),
            other => failure::Kind::Unavailable(text(other.to_string())),
        }
    }
}

impl FailureCause for SyncError {
    fn kind(&self) -> failure::Kind {
        failure::Kind::OutcomeUnknown(unavailable_message(&self.cause))
    }
}

impl FailureCause for Corruption {
    fn kind(&self) -> failure::Kind {
        let Corruption { place, what, advice } = self.clone();
        failure::Kind::Corruption(messages::Corruption { place, what, advice })
    }
}

impl FailureCause for Unavailable {
    fn kind(&self) -> failure::Kind {
        failure::Kind::Unavailable(unavailable_message(self))
    }
}

impl FailureCause for InvalidRequest {
    fn kind(&self) -> failure::Kind {
        let kind = match self {
            InvalidRequest::AboveHead { position, head } => {
                let (position, head) = (position.get(), head.get());
                invalid::Kind::AboveHead(messages::AboveHead { position, head })
            }
            InvalidRequest::WithinCommit { position, first, last } => {
                let (position, first, last) = (position.get(), first.get(), last.get());
                invalid::Kind::WithinCommit(messages::WithinCommit { position, first, last })
            }
            InvalidRequest::RecordedAt { problem } => {
                invalid::Kind::RecordedAt((*problem).to_owned())
            }
            InvalidRequest::TooLarge { what, bytes, limit, name } => {
                invalid::Kind::OverLimit(over_limit((what, *bytes), (name, *limit), true))
            }
            InvalidRequest::TooMany { what, count, limit, name } => {
                invalid::Kind::OverLimit(over_limit((what, *count), (name, *limit), false))
            }
            other => invalid::Kind::Other(other.to_string()),
        };
        failure::Kind::Invalid(messages::Invalid { kind: Some(kind) })
    }
}

/// A message that cannot be used is a mistake of the client.
impl FailureCause for MessageError {
    fn kind(&self) -> failure::Kind {
        let kind = Some(invalid::Kind::Other(self.to_string()));
        failure::Kind::Invalid(messages::Invalid { kind })
    }
}

fn over_limit(
    (what, found): (&str, usize),
    (name, limit): (&str, usize),
    is_bytes: bool,
) -> messages::OverLimit {
    let (what, name) = (what.to_owned(), name.to_owned());
    messages::OverLimit { what, found: found as u64, limit: limit as u64, name, is_bytes }
}

fn refusal_message(refusal: &Refusal) -> messages::Refusal {
    let kind = match refusal {
        Refusal::AlreadyTracked { source_name, tracked, at } => {
            let (source, tracked, at) = (source_name.clone(), tracked.get(), at.get());
            Some(refusal::Kind::AlreadyTracked(messages::AlreadyTracked { source, tracked, at }))
        }
        Refusal::OriginChanged { source_name, stored, given, tracked, at } => {
            let (stored, given) = (stored.map(identity_message), given.map(identity_message));
            let (source, tracked, at) = (source_name.clone(), tracked.get(), at.get());
            let changed = messages::OriginChanged { source, stored, given, tracked, at };
            Some(refusal::Kind::OriginChanged(changed))
        }
        Refusal::KeyTaken { first, last } => {
            let (first, last) = (first.get(), last.get());
            Some(refusal::Kind::KeyTaken(messages::KeyTaken { first, last }))
        }
        Refusal::KeyReused { first, last } => {
            let (first, last) = (first.get(), last.get());
            Some(refusal::Kind::KeyReused(messages::KeyTaken { first, last }))
        }
        Refusal::Conflict { at, after } => {
            let (at, after) = (at.get(), after.get());
            Some(refusal::Kind::Conflict(messages::Conflict { at, after }))
        }
        _ => None,
    };
    messages::Refusal { kind }
}

/// A failure with no other facts than this text.
fn text(text: String) -> messages::Unavailable {
    messages::Unavailable { text, ..messages::Unavailable::default() }
}

/// Why a store does not serve, as a message.
pub fn unavailable_message(unavailable: &Unavailable) -> messages::Unavailable {
    match unavailable {
        Unavailable::Failed { reason } => {
            messages::Unavailable { failed: true, ..text(reason.to_string()) }
        }
        Unavailable::Closed => messages::Unavailable { closed: true, ..text(String::new()) },
        Unavailable::HistoryChanged(HistoryChanged { is, .. }) => messages::Unavailable {
            changed_to: Some(identity_message(*is)),
            ..text(unavailable.to_string())
        },
        Unavailable::Server { what } => text(what.to_string()),
        Unavailable::Backend(error) => {
            messages::Unavailable { temporary: true, ..text(with_causes(&**error)) }
        }
        Unavailable::Storage { what, cause, .. } => {
            let failure = storage::message(what, cause);
            let words = storage::error(&failure).to_string();
            messages::Unavailable { temporary: true, storage: Some(failure), ..text(words) }
        }
        other => messages::Unavailable { temporary: true, ..text(with_causes(other)) },
    }
}

/// The text of an error, with those of its causes that it does not contain.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The failure with this cause, and the head at that moment.
pub fn failure_of(cause: &impl FailureCause, head: Position) -> Failure {
    Failure { kind: Some(cause.kind()), head: head.get() }
}

/// The failure as a status of gRPC, which carries the message in its details.
pub fn status(failure: &Failure) -> Status {
    let code = match &failure.kind {
        Some(failure::Kind::Invalid(_)) => Code::InvalidArgument,
        Some(failure::Kind::Refusal(_)) => Code::FailedPrecondition,
        Some(failure::Kind::Corruption(_)) => Code::DataLoss,
        Some(failure::Kind::Unavailable(_)) => Code::Unavailable,
        Some(failure::Kind::OutcomeUnknown(_)) => Code::Aborted,
        None => Code::Internal,
    };
    Status::with_details(code, words(failure), failure.encode_to_vec().into())
}

/// The failure in words, for people and for clients without the message.
fn words(failure: &Failure) -> String {
    // The server does not know the history that the client had. The text names it.
    if let Some(failure::Kind::Unavailable(unavailable)) = &failure.kind
        && unavailable.changed_to.is_some()
    {
        return unavailable.text.clone();
    }
    let was = LogIdentity { id: LogId::from_bytes([0; 16]), epoch: Epoch::from_u64(0) };
    match as_append_error(failure.clone(), was) {
        Ok(error) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The failure in the details of a status.
///
/// # Errors
/// The status, if it has none: the transport failed, or another program answered.
pub fn from_status(status: Status) -> Result<Failure, Status> {
    match Failure::decode(status.details()) {
        Ok(failure) if failure.kind.is_some() => Ok(failure),
        _ => Err(status),
    }
}

/// Whether the details of a status are a failure of a kind that this version does not know. The
/// message of the status has its words.
pub fn is_unknown_failure(status: &Status) -> bool {
    let details = status.details();
    !details.is_empty() && Failure::decode(details).is_ok_and(|failure| failure.kind.is_none())
}

/// The error of an append to a log whose history was `was` when the client connected.
///
/// # Errors
/// [`MessageError`] if the failure has no meaning for this version.
pub fn as_append_error(failure: Failure, was: LogIdentity) -> Result<AppendError, MessageError> {
    Ok(match failure.kind.ok_or(MessageError::new("a failure has no kind"))? {
        failure::Kind::Invalid(invalid) => match invalid_of(invalid)? {
            Ok(invalid) => AppendError::Invalid(invalid),
            Err(other) => AppendError::Unavailable(other),
        },
        failure::Kind::Refusal(refusal) => AppendError::Refused(refusal_of(refusal)?),
        failure::Kind::Corruption(corruption) => AppendError::Corrupt(corruption_of(corruption)),
        failure::Kind::Unavailable(unavailable) => {
            AppendError::Unavailable(unavailable_of(unavailable, was)?)
        }
        failure::Kind::OutcomeUnknown(cause) => {
            AppendError::OutcomeUnknown(SyncError { cause: unavailable_of(cause, was)? })
        }
    })
}

/// The error of a read from a log whose history was `was` when the client connected.
///
/// # Errors
/// [`MessageError`] if the failure has no meaning for this version, or none for a read.
pub fn as_read_error(failure: Failure, was: LogIdentity) -> Result<ReadError, MessageError> {
    match as_append_error(failure, was)? {
        AppendError::Invalid(invalid) => Ok(ReadError::Invalid(invalid)),
        AppendError::Corrupt(corruption) => Ok(ReadError::Corrupt(corruption)),
        AppendError::Unavailable(unavailable) => Ok(ReadError::Unavailable(unavailable)),
        _ => Err(MessageError::new("a read was answered with a failure of an append")),
    }
}

/// An invalid request, or the server's words if this version cannot name the mistake.
fn invalid_of(
    invalid: messages::Invalid,
) -> Result<Result<InvalidRequest, Unavailable>, MessageError> {
    let kind = invalid.kind.ok_or(MessageError::new("an invalid request has no kind"))?;
    Ok(Ok(match kind {
        invalid::Kind::Other(what) => return Ok(Err(Unavailable::Server { what: what.into() })),
        invalid::Kind::AboveHead(messages::AboveHead { position, head }) => {
            InvalidRequest::AboveHead { position: position.into(), head: head.into() }
        }
        invalid::Kind::WithinCommit(messages::WithinCommit { position, first, last }) => {
            let (position, first, last) = (position.into(), first.into(), last.into());
            InvalidRequest::WithinCommit { position, first, last }
        }
        invalid::Kind::RecordedAt(problem) => match known(&problem, TIME_PROBLEMS) {
            Some(problem) => InvalidRequest::RecordedAt { problem },
            None => return Ok(Err(Unavailable::Server { what: problem.into() })),
        },
        invalid::Kind::OverLimit(over) => {
            let found = usize::try_from(over.found).unwrap_or(usize::MAX);
            let limit = usize::try_from(over.limit).unwrap_or(usize::MAX);
            let what = known(&over.what, LIMITED_PARTS).unwrap_or("parts of the request");
            let name = known(&over.name, LIMIT_NAMES).unwrap_or("of the server");
            match over.is_bytes {
                true => InvalidRequest::too_large(what, found, limit, name),
                false => InvalidRequest::too_many(what, found, limit, name),
            }
        }
    }))
}

/// The constant with this text.
fn known(text: &str, constants: &[&'static str]) -> Option<&'static str> {
    constants.iter().find(|constant| **constant == text).copied()
}

/// The problems of `recorded_at` that stores of this version name.
const TIME_PROBLEMS: &[&str] = &[InvalidRequest::TIME_NOT_TAKEN, InvalidRequest::TIME_MISSING];

/// The parts of a request that limits of this version name.
const LIMITED_PARTS: &[&str] = &[
    "commit",
    "event",
    "event payload",
    "event type",
    "events in a commit",
    "conditions of a commit",
    "items in filters",
    "key",
    "metadata of an event",
    "tag",
    "tags of an event",
    "terms in filters",
    "tracking source",
    "tracking sources",
];

const LIMIT_NAMES: &[&str] = &[
    "event_bytes",
    "type_bytes",
    "tag_bytes",
    "tags_per_event",
    "metadata_bytes",
    "commit_events",
    "commit_bytes",
    "commit_conditions",
    "key_bytes",
    "source_bytes",
    "tracking_sources",
    "filter_items",
    "filter_terms",
    "batch_events",
    "batch_bytes",
];

/// A trouble of the server that can pass.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ServerTrouble(String);

fn refusal_of(message: messages::Refusal) -> Result<Refusal, MessageError> {
    Ok(match message.kind.ok_or(MessageError::new("a refusal has no kind"))? {
        refusal::Kind::AlreadyTracked(messages::AlreadyTracked { source, tracked, at }) => {
            let (tracked, at) = (tracked.into(), at.into());
            Refusal::AlreadyTracked { source_name: source, tracked, at }
        }
        refusal::Kind::OriginChanged(changed) => Refusal::OriginChanged {
            source_name: changed.source,
            stored: changed.stored.map(identity_of).transpose()?,
            given: changed.given.map(identity_of).transpose()?,
            tracked: changed.tracked.into(),
            at: changed.at.into(),
        },
        refusal::Kind::KeyTaken(messages::KeyTaken { first, last }) => {
            Refusal::KeyTaken { first: first.into(), last: last.into() }
        }
        refusal::Kind::KeyReused(messages::KeyTaken { first, last }) => {
            Refusal::KeyReused { first: first.into(), last: last.into() }
        }
        refusal::Kind::Conflict(messages::Conflict { at, after }) => {
            Refusal::Conflict { at: at.into(), after: after.into() }
        }
    })
}

fn corruption_of(message: messages::Corruption) -> Corruption {
    let messages::Corruption { place, what, advice } = message;
    Corruption { place, what, advice }
}

/// Why the store behind a server does not serve.
///
/// # Errors
/// [`MessageError`] if the message names an identity that is none.
pub fn unavailable_of(
    message: messages::Unavailable,
    was: LogIdentity,
) -> Result<Unavailable, MessageError> {
    let messages::Unavailable { text, failed, closed, changed_to, temporary, storage } = message;
    if let Some(failure) = storage {
        return Ok(storage::error(&failure));
    }
    Ok(match (changed_to, failed, closed) {
        (Some(is), ..) => Unavailable::HistoryChanged(HistoryChanged { was, is: identity_of(is)? }),
        (None, true, _) => Unavailable::Failed { reason: text.into() },
        (None, false, true) => Unavailable::Closed,
        (None, false, false) if temporary => Unavailable::Backend(Arc::new(ServerTrouble(text))),
        (None, false, false) => Unavailable::Server { what: Arc::from(text) },
    })
}
