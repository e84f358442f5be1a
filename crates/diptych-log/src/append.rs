//! Appending: callers accept their commits under one short lock, and one thread at a time writes
//! and syncs them in batches.

pub(crate) mod accept;
pub(crate) mod batch_waiters;
pub(crate) mod encoded;
pub(crate) mod queue;
pub(crate) mod writer;
