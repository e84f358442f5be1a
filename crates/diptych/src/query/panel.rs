//! The right panel of an app as one value: everything that queries of the present and the past
//! read.

use std::sync::Arc;

use diptych_store::{Head, Position, Store};

use crate::{event::Schema, follow::Followers, lineage::Lineage, pool::ThreadPool, view::Views};

/// The right panel of an app.
///
/// The threads of the pool and of the followers read the log. Their fields come first, so that they
/// end before the store is dropped.
pub(crate) struct RightPanel {
    /// The threads that fold the past.
    pub(crate) past: ThreadPool,
    pub(crate) followers: Followers,
    pub(crate) views: Views,
    pub(crate) schema: Arc<Schema>,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) head: Head,
    /// Maximum number of events that one answer of the past keeps in memory to sort them.
    pub(crate) past_events: usize,
}

impl RightPanel {
    pub(crate) fn new(
        lineage: Arc<Lineage>,
        schema: Arc<Schema>,
        (followers, views): (Followers, Views),
        past: ThreadPool,
        past_events: usize,
    ) -> RightPanel {
        let head = lineage.store().head();
        RightPanel { past, followers, views, schema, lineage, head, past_events }
    }

    pub(crate) fn store(&self) -> &Store {
        self.lineage.store()
    }

    /// The position up to which events are durable.
    pub(crate) fn durable(&self) -> Position {
        self.head.position()
    }
}
