use std::{error::Error as StdError, io, sync::Arc};

use crate::{identity::LogIdentity, position::Position};

/// The request itself is wrong. The caller has to change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// An event has an empty type.
    #[error("an event has no type: give it a stable name such as money-withdrawn")]
    NoType,
    /// A part of the request has more bytes than a limit allows.
    #[error("{what} has {bytes} bytes, more than the {limit} that limit {name} allows")]
    TooLarge {
        /// The part that is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size that is allowed.
        limit: usize,
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
    },
    /// The request has more parts of a kind than a limit allows.
    #[error("{count} {what}, more than the {limit} that limit {name} allows")]
    TooMany {
        /// The kind of the parts.
        what: &'static str,
        /// Their number.
        count: usize,
        /// The largest number that is allowed.
        limit: usize,
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
    },
    /// The request has a key, but no event that the key could point to.
    #[error("a key needs at least one event: a commit that wrote nothing is not remembered")]
    KeyWithoutEvents,
    /// A key or source has no name.
    #[error("the {what} is empty: give it a name")]
    NoName {
        /// The part without a name.
        what: &'static str,
    },
    /// The log has not reached this position. It comes from a receipt or checkpoint of another log
    /// or epoch, or of a log that lost commits.
    #[error(
        "position {position} is above the head {head}: it belongs to another log or epoch; \
         compare log id and epoch, then start again from a position of this log"
    )]
    AboveHead {
        /// The position in the request.
        position: Position,
        /// The last position of the log.
        head: Position,
    },
    /// A read of whole commits begins within a commit.
    #[error(
        "position {position} is within the commit {first} to {last}: whole commits are read after \
         the end of one, such as {} or {last}", first.before()
    )]
    WithinCommit {
        /// The position in the request.
        position: Position,
        /// The first position of the commit.
        first: Position,
        /// The last position of the commit.
        last: Position,
    },
    /// An event occurred at an instant that has no text, so that the log could not be copied as
    /// text.
    #[error(
        "an event occurred {micros} microseconds from 1970, and only instants from \
         -009999-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z have a text: for \"ever\" give \
         `Timestamp::MAX`, for an unknown instant none"
    )]
    OccurredAt {
        /// The instant as [`Timestamp::as_micros`](crate::Timestamp::as_micros).
        micros: i64,
    },
    /// The request has a time that the store takes from its clock, or lacks one that the store
    /// takes from its caller.
    #[error("{problem}")]
    RecordedAt {
        /// Which of the two problems it is, and what to do.
        problem: &'static str,
    },
}

impl InvalidRequest {
    /// The problem of an append with a time, if the store takes the time from its clock.
    pub const TIME_NOT_TAKEN: &'static str =
        "recorded_at was given, but this store takes it from its clock: leave it out";
    /// The problem of an append without a time, if the store takes the time from its caller.
    pub const TIME_MISSING: &'static str =
        "recorded_at is missing, and this store takes it from its caller: set it";
    /// The problem of an append without a time, if the log of a server receives a copy.
    pub const COPY_UNDER_WAY: &'static str = "this server receives a copy: it takes only the \
         commits of `diptych copy`, which have times of their own; append once the copy is \
         complete, and the server runs without --receive-copy";

    /// The error for a part that has more bytes than the limit `name` allows.
    pub fn too_large(
        what: &'static str,
        bytes: usize,
        limit: usize,
        name: &'static str,
    ) -> InvalidRequest {
        InvalidRequest::TooLarge { what, bytes, limit, name }
    }

    /// The error for a number of parts above the limit `name`.
    pub fn too_many(
        what: &'static str,
        count: usize,
        limit: usize,
        name: &'static str,
    ) -> InvalidRequest {
        InvalidRequest::TooMany { what, count, limit, name }
    }
}

/// A store refused a valid append because of the events in the log, or of the rows beside them. It
/// is an ordinary outcome, and nothing was written. The variants are in the order of the checks.
///
/// A refusal depends on durable commits only: the store answers after the commits that cause it are
/// synced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// This or a later position of the source was imported before.
    #[error(
        "source {source_name:?} was imported up to {tracked} (stored at position {at}); \
         continue after {tracked}"
    )]
    AlreadyTracked {
        /// The source.
        source_name: String,
        /// The position of the source that is stored.
        tracked: Position,
        /// The head of this log when that position was stored. The events of that commit, if it has
        /// any, end there.
        at: Position,
    },
    /// The source is another log, or has another epoch, than the source that was imported so far.
    #[error(
        "source {source_name:?} was imported from {} up to {tracked} (stored at position {at}), \
         not from {}: its positions do not continue; find out which events were lost, then import \
         it under a new source name",
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
        /// The head of this log when that position was stored.
        at: Position,
    },
    /// This request was committed before, at these positions.
    #[error("the key was used by the same request, committed at {first} to {last}")]
    KeyTaken {
        /// The first event of the commit with this key.
        first: Position,
        /// The last event of the commit with this key.
        last: Position,
    },
    /// A different request was committed under this key before.
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
    /// The log has an event that a condition forbids.
    #[error(
        "the event at position {at} matches the condition, and the decision knew the log only up \
         to {after}: read on from there and decide again"
    )]
    Conflict {
        /// Position of the last event that a condition forbids.
        at: Position,
        /// The position of the condition that forbids this event. If several conditions forbid it,
        /// this is the lowest of their positions.
        after: Position,
    },
    /// The rows that the store writes together with the commit could not be written.
    #[error(
        "the rows of the inline projection {projection} were refused: {reason}; nothing of the \
         commit was kept: correct its events, or the projection"
    )]
    Rows {
        /// The projection.
        projection: String,
        /// The error of the projection or of its database.
        reason: String,
    },
}

fn origin_text(origin: &Option<LogIdentity>) -> String {
    origin.map_or("a source without identity".to_owned(), |identity| identity.to_string())
}

/// The store cannot serve any request at the moment.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// A write or sync failed. Published events stay readable, but the store accepts no more
    /// commits.
    #[error("the store stopped accepting commits: {reason}; fix the cause, then open it again")]
    Failed {
        /// The operation that failed, and its place.
        reason: Arc<str>,
    },
    /// The store was closed.
    #[error("the store is closed; open it again")]
    Closed,
    /// A remote system below the store does not answer.
    #[error("the store's backend does not answer: {0}; try again")]
    Backend(#[source] Arc<dyn StdError + Send + Sync>),
    /// The server of the log answers, and does not serve this request.
    #[error("the log's server: {what}")]
    Server {
        /// The server's words: what failed, and what to do.
        what: Arc<str>,
    },
    /// The storage of this machine, or of the log's server, failed an operation. A later one may
    /// succeed.
    #[error("{what}: {cause}; {advice}")]
    Storage {
        /// The operation that failed, with its file.
        what: Arc<str>,
        /// The error of the operating system.
        #[source]
        cause: Arc<io::Error>,
        /// The next step for the operator.
        advice: &'static str,
    },
    /// The clock of the machine cannot be right, so the store records no time from it. Reads go on,
    /// and commits are accepted again once the clock is right.
    #[error("{what}; {advice}")]
    Clock {
        /// The time that the clock shows, and the time that the store expects.
        what: Arc<str>,
        /// The next step for the operator.
        advice: &'static str,
    },
    /// The store answers, but its history is not the history that the caller began with.
    #[error(transparent)]
    HistoryChanged(HistoryChanged),
}

/// The history of a log changed while it was in use: behind the address there is another log now,
/// or an older state of the log in a new epoch. States, views and positions of the old history mean
/// nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the history of the log changed from {was} to {is} while it was in use: find out whether a \
     backup was restored or the address leads to another log, then start again"
)]
pub struct HistoryChanged {
    /// The identity of the log at the start.
    pub was: LogIdentity,
    /// The identity that was found.
    pub is: LogIdentity,
}

/// Bytes of the store are damaged: they differ from the bytes that were written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {advice}")]
pub struct Corruption {
    /// The place of the damage, for example a file and an offset in bytes.
    pub place: String,
    /// The problem at that place.
    pub what: String,
    /// The next step for the operator.
    pub advice: String,
}

/// An append failed, or was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The request is invalid. Nothing was written.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The store refused the commit because of events in the log. Nothing was written.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The index that the checks need is damaged beyond repair. Nothing was written.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The store accepts no commits at the moment. Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The commit was accepted, and then its write or sync failed; or it was sent to a server, and
    /// no usable answer came. If the store stopped, it may or may not exist after the store is
    /// opened again. If the store only has no space, the commit is written when there is space,
    /// unless the process ends before.
    #[error(transparent)]
    OutcomeUnknown(#[from] SyncError),
}

/// The write or sync of an accepted commit failed, or a server gave no usable answer. The commit
/// may or may not be durable, now or later.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "outcome unknown: {}: {cause}; {} (a key makes a retry safe)",
    how_far_it_came(.cause), look_for_it(.cause)
)]
pub struct SyncError {
    /// The failure of the store.
    pub cause: Unavailable,
}

/// The last step of the commit that is known. A store on a server may have got no answer at all.
fn how_far_it_came(cause: &Unavailable) -> &'static str {
    match cause {
        Unavailable::Backend(_) | Unavailable::Server { .. } => {
            "the commit was sent, and no usable answer says whether it is durable"
        }
        _ => "the commit was accepted, but was not synced when this happened",
    }
}

/// How the caller of an accepted commit learns what became of it.
fn look_for_it(cause: &Unavailable) -> &'static str {
    match cause {
        Unavailable::Storage { .. } => {
            "the store keeps the commit and writes it when it can: look for it then"
        }
        Unavailable::Backend(_) | Unavailable::Server { .. } => "look for it in the log",
        _ => "open the store again and look for it",
    }
}

/// A read failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// Bytes of the log are damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The store answers no reads at the moment.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A subscription ended. It never ends without this error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A read failed.
    #[error("subscription ended after position {after}: {cause}")]
    Read {
        /// The last delivered position. Subscribe again after it.
        after: Position,
        /// The error of the read.
        cause: ReadError,
    },
    /// The store ended, and every published event was delivered.
    #[error("subscription ended after position {after}: {cause}")]
    Ended {
        /// The last delivered position. Subscribe again after it.
        after: Position,
        /// The reason why the store ended.
        cause: Unavailable,
    },
}
