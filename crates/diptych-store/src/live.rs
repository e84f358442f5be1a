//! Events that a store sends by itself.

use std::{
    fmt,
    task::{Context, Poll},
};

use crate::batch::Batch;

/// Matching events that a store sends when they are published, without being asked for each batch.
/// For authors of stores: see [`EventStore::live`](crate::EventStore::live).
///
/// The batches follow each other without a gap: each has the matching events after the
/// [`upto`](Batch::upto) of the batch before. A batch without events only moves that position.
pub trait LiveEvents: fmt::Debug + Send {
    /// The next batch, or `None` after the end. The store may end at any time, as when the reader
    /// is too slow. The events after the last batch are in the log.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>>;
}
