use std::{error::Error as StdError, sync::Arc};

use crate::{identity::LogIdentity, position::Position};

/// The caller asked for something that no store would do; ask differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// An event has an empty type.
    #[error("an event has no type: give it a stable name such as money-withdrawn")]
    NoType,
    /// Something has more bytes than a limit allows.
    #[error("{what} has {bytes} bytes, more than the {limit} that limit {name} allows")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
    },
    /// There is more of something than a limit allows.
    #[error("{count} {what}, more than the {limit} that limit {name} allows")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
    },
    /// A key was given with no event that it could point to.
    #[error("a key needs at least one event: a commit that wrote nothing is not remembered")]
    KeyWithoutEvents,
    /// A key or source has no name.
    #[error("the {what} is empty: give it a name")]
    NoName {
        /// What has no name.
        what: &'static str,
    },
    /// A position that the log has not reached: a receipt or checkpoint of another log or epoch,
    /// or of a log that lost commits.
    #[error(
        "position {position} is above the head {head}: it belongs to another log or epoch; \
         compare log id and epoch, then start again from a position of this log"
    )]
    AboveHead {
        /// The position that was asked for.
        position: Position,
        /// The last position there is.
        head: Position,
    },
    /// The store keeps its own time, or it was told to take it from the caller and got none.
    #[error("{problem}")]
    RecordedAt {
        /// Which of the two.
        problem: &'static str,
    },
}

impl InvalidRequest {
    /// Something has more bytes than the limit of this name allows.
    pub fn too_large(
        what: &'static str,
        bytes: usize,
        limit: usize,
        name: &'static str,
    ) -> InvalidRequest {
        InvalidRequest::TooLarge { what, bytes, limit, name }
    }

    /// There is more of something than the limit of this name allows.
    pub fn too_many(
        what: &'static str,
        count: usize,
        limit: usize,
        name: &'static str,
    ) -> InvalidRequest {
        InvalidRequest::TooMany { what, count, limit, name }
    }
}

/// The store understood an append and refused it, for a reason that is in the log: an outcome
/// like another, checked in this order. Nothing was written.
///
/// What a refusal rests on is durable: a store answers it only once that is synced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// This or a later position of the source was taken in before.
    #[error(
        "source {source_name:?} was taken in up to {tracked} by a commit after position {at}; \
         go on after that"
    )]
    AlreadyTracked {
        /// The source.
        source_name: String,
        /// The position of the source that is stored.
        tracked: Position,
        /// The head of this log when it was stored: the commit's events, if any, end there.
        at: Position,
    },
    /// The source is another log, or another epoch of it, than the one taken in so far.
    #[error(
        "source {source_name:?} was taken in from {} up to {tracked} (stored at position {at}), \
         not from {}: its positions do not continue; find out what was lost, then take it in \
         under a new source name",
        origin_text(.stored), origin_text(.given)
    )]
    OriginChanged {
        /// The source.
        source_name: String,
        /// The origin that is stored.
        stored: Option<LogIdentity>,
        /// The origin that was given.
        given: Option<LogIdentity>,
        /// The position of the source that is stored.
        tracked: Position,
        /// The head of this log when it was stored.
        at: Position,
    },
    /// The same request was committed before; this is where its events are.
    #[error("the key was used by the same request, committed at {first} to {last}")]
    KeyTaken {
        /// The first event of the commit with this key.
        first: Position,
        /// The last event of the commit with this key.
        last: Position,
    },
    /// Another request was committed under this key before.
    #[error(
        "the key was used by a different request, committed at {first} to {last}: \
         use a new key for a new request"
    )]
    KeyReused {
        /// The first event of the commit with this key.
        first: Position,
        /// The last event of the commit with this key.
        last: Position,
    },
    /// An event that a condition forbids is in the log.
    #[error(
        "position {at} matches the condition and is after the {after} that the decision \
         was based on: read on from there and decide again"
    )]
    Conflict {
        /// The last event that any of the conditions forbids.
        at: Position,
        /// The position that the condition which forbids it named; the lowest, where several do.
        after: Position,
    },
}

fn origin_text(origin: &Option<LogIdentity>) -> String {
    origin.map_or("a source without identity".to_owned(), |identity| identity.to_string())
}

/// The store cannot do anything now, whatever it is asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// A write or sync failed. What is readable stays readable; nothing more is taken.
    #[error("the store stopped taking commits: {reason}; mend the cause, then open it again")]
    Failed {
        /// What failed, where.
        reason: Arc<str>,
    },
    /// It was closed.
    #[error("the store is closed; open it again")]
    Closed,
    /// Something below the store does not answer.
    #[error("the store's backend does not answer: {0}; try again")]
    Backend(#[source] Arc<dyn StdError + Send + Sync>),
}

/// Bytes that were written whole and are not whole now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {advice}")]
pub struct Corruption {
    /// Where: file and offset in bytes, or whatever else finds it.
    pub place: String,
    /// What is wrong there.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// Why an append has no positions.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The request itself is wrong. Nothing was written.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The store refused it for what is in the log. Nothing was written.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The index that the checks need is damaged beyond repair. Nothing was written.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The store takes nothing now. Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The commit was accepted, and then its sync failed: it may or may not be there when the
    /// store is opened again.
    #[error(transparent)]
    OutcomeUnknown(#[from] SyncError),
}

/// A commit was accepted and may or may not be durable.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "outcome unknown: the commit was accepted, but not known to be synced when this happened: \
     {cause}; open the store again and look (a key makes a second try safe)"
)]
pub struct SyncError {
    /// What happened to the store.
    pub cause: Unavailable,
}

/// Why a read has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// Bytes of the log are damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The store answers nothing now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a subscription ended. It never ends in silence.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A read failed.
    #[error("subscription ended after position {after}: {cause}")]
    Read {
        /// Everything up to here was delivered: where to subscribe again.
        after: Position,
        /// Why the read failed.
        cause: ReadError,
    },
    /// No commit will ever follow: everything published was delivered.
    #[error("subscription ended after position {after}: {cause}")]
    Ended {
        /// Everything up to here was delivered: where to subscribe again.
        after: Position,
        /// What ended the store.
        cause: Unavailable,
    },
}
