//! Rows that are written in the transaction of an append, so that they always equal a fold of the
//! log up to its head.
//!
//! The row of the log names its inline projections with their versions. The function that appends
//! refuses a transaction that does not say that it writes all of them.

mod append;
mod set;
mod start;

use std::sync::Arc;

pub(crate) use append::{AppendAnswer, RefusedRows, RowsAppend};
use diptych_store::{Batch, EventChecksum, Filter, LogIdentity, Position, Timestamp};
pub(crate) use set::InlineSet;
pub(crate) use start::start;
use tokio_postgres::Client;

/// Locks the row of the log, as the function that appends does.
const LOCKED: &str = "select head, inline from diptych.log where id = $1 for no key update";

/// Why a name cannot be that of an inline projection.
pub(crate) const MISNAMED: &str =
    "a name of an inline projection is not empty, has no NUL, and is given once: rename it";

/// Rows that the store writes in the transaction of each append. For authors of projections;
/// `diptych-postgres-tables` makes them from its projections.
///
/// All methods may block. They are called on a thread where blocking is allowed, one at a time, and
/// never by two stores.
pub trait InlineRows: Send + 'static {
    /// The name in the row of the log, such as `public.sales`. The database has no other rows of
    /// this name.
    fn name(&self) -> String;

    /// The version of the code that makes the rows.
    fn version(&self) -> u32;

    /// Makes what is missing in the database, and finds the place that the rows have reached. It is
    /// called before the first [`write`](InlineRows::write), outside of a transaction, on a
    /// connection of its own. Settings that it makes on this connection may stay.
    ///
    /// # Errors
    /// [`RowsError`]. The store is not opened then.
    fn begin(&mut self, client: &Arc<Client>, log: LogIdentity) -> Result<RowsStart, RowsError>;

    /// Writes the rows of these events, and moves the stored place of the rows from
    /// [`after`](RowsBatch::after) to [`upto`](RowsBatch::upto). A transaction has begun on the
    /// connection, and the store commits it. Settings may be changed by `SET LOCAL` only. The
    /// client is not kept.
    ///
    /// # Errors
    /// [`RowsError`]. The store rolls back, and writes nothing of the events that were refused.
    fn write(&mut self, client: &Arc<Client>, batch: &RowsBatch) -> Result<(), RowsError>;
}

/// The place from which rows continue.
#[derive(Clone, Debug)]
pub struct RowsStart {
    /// The events that the rows are made from.
    pub filter: Filter,
    /// The log and the position that the rows were made from, and the checksum of the event there.
    /// `None` before the first event.
    pub reached: Option<(LogIdentity, Position, Option<EventChecksum>)>,
}

/// Events whose rows are written together.
#[derive(Clone, Debug)]
pub struct RowsBatch {
    /// The log.
    pub log: LogIdentity,
    /// The events. They may include events that the rows are not made from.
    pub events: Batch,
    /// The position that the rows have reached before.
    pub after: Position,
    /// The position that they reach.
    pub upto: Position,
    /// The checksum of the event at `upto`.
    pub checksum: EventChecksum,
    /// When the log recorded the event at `upto`, if that event is among the events.
    pub recorded_at: Option<Timestamp>,
}

/// Why rows could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// The projection, or a rule of its tables, refused an event.
    #[error("{reason}")]
    Refused {
        /// The error.
        reason: String,
    },
    /// The rows have reached another place than the batch begins at.
    #[error("the rows have reached another position than {expected}")]
    Moved {
        /// The place that was expected.
        expected: Position,
    },
    /// The database cannot be used for now. The store tries again.
    #[error("{reason}")]
    Passing {
        /// The obstacle.
        reason: String,
    },
    /// The rows cannot be written until something is fixed.
    #[error("{reason}")]
    Broken {
        /// The fault, and how to fix it.
        reason: String,
    },
}
