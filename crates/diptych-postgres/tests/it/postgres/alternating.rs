//! Several handles on one log as one store, so that parallel commits come from several sessions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use diptych_postgres::PostgresStore;
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventStore, Filter, Head, KeyedCommit,
    Limits, LogIdentity, Position, Read, ReadCommits, ReadError, Tag, Tracking,
};

/// Appends go to the handles in turns. Everything else goes to the first one.
#[derive(Clone)]
pub(super) struct Alternating {
    handles: Arc<[PostgresStore]>,
    next: Arc<AtomicUsize>,
}

impl Alternating {
    pub(super) fn new(handles: Vec<PostgresStore>) -> Alternating {
        Alternating { handles: handles.into(), next: Arc::default() }
    }

    fn first(&self) -> &PostgresStore {
        &self.handles[0]
    }
}

impl EventStore for Alternating {
    fn identity(&self) -> LogIdentity {
        self.first().identity()
    }

    fn limits(&self) -> Limits {
        self.first().limits()
    }

    fn head(&self) -> Head {
        self.first().head()
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.first().fresh_head().await
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        let turn = self.next.fetch_add(1, Ordering::SeqCst);
        let answer = self.handles[turn % self.handles.len()].append(append).await;
        // The head that callers have is that of the first handle.
        self.first().fresh_head().await.unwrap();
        answer
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.first().read(filter, read).await
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.first().commits(read).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.first().last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.first().count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.first().keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.first().tracked(source).await
    }
}
