//! Several handles on one log as one store, so that parallel commits come from several sessions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use diptych_postgres::PostgresStore;
use diptych_store::{EventStore, testing::WrappedStore};

/// Appends go to the handles in turns. Everything else goes to the first one.
pub(super) fn alternating(handles: Vec<PostgresStore>) -> WrappedStore {
    let first = handles[0].clone();
    let (handles, next): (Arc<[_]>, _) = (handles.into(), AtomicUsize::new(0));
    WrappedStore::new(first).other_writers(true).append_by(move |first, append| {
        let turn = next.fetch_add(1, Ordering::SeqCst);
        let handle: PostgresStore = handles[turn % handles.len()].clone();
        async move {
            let answer = handle.append(append).await;
            // The head that callers have is that of the first handle.
            first.fresh_head().await.unwrap();
            answer
        }
    })
}
