//! Appending: commits are accepted by their callers, and written and synced in batches.

pub(crate) mod accept;
pub(crate) mod batch_waiters;
pub(crate) mod writer;
