//! A store that gives the answers of another one, with one lie.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, BatchBuilder, CommitBatch, EventStore, Filter,
    Head, HeadPublisher, KeyedCommit, Limits, LogIdentity, Position, RawEvent, Read, ReadCommits,
    ReadError, Store, Tag, Timestamp, Tracking, encoding,
};

/// The lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Every third batch has events with another payload.
    OtherBytes,
    /// Every third batch has one more event, at a position that no log reaches.
    OneMoreEvent,
    /// Every second head is the head at the start.
    FirstHead,
    /// The handle is the only one that writes.
    WritesAlone,
}

pub(crate) struct Tampered {
    store: Store,
    lie: Lie,
    first: Position,
    calls: AtomicU64,
}

impl Tampered {
    pub(crate) fn new(store: Store, lie: Lie) -> Tampered {
        let first = store.head().position();
        Tampered { store, lie, first, calls: AtomicU64::new(0) }
    }

    fn is_turn(&self, lie: Lie, every: u64) -> bool {
        self.lie == lie && self.calls.fetch_add(1, Ordering::SeqCst) % every == every - 1
    }

    fn rebuild(&self, batch: &Batch, more: Option<u64>) -> Batch {
        let mut builder = BatchBuilder::new();
        let mut push = |position: Position, at: Timestamp, event: &RawEvent| {
            let mut bytes = Vec::new();
            encoding::encode(event, &Limits::default(), &mut bytes).unwrap();
            let end = u32::try_from(bytes.len()).unwrap();
            let chunk = builder.chunk(Bytes::from(bytes));
            builder.push(position, at, chunk, 0, end).unwrap();
        };
        for event in batch.iter() {
            let mut raw = event.to_raw();
            if more.is_none() {
                raw.payload.push(b'!');
            }
            push(event.position(), event.recorded_at(), &raw);
        }
        if let Some(position) = more {
            push(position.into(), Timestamp::NEVER, &RawEvent::new("opened", b"phantom"));
        }
        builder.finish(batch.upto(), batch.commit_end())
    }
}

impl EventStore for Tampered {
    fn identity(&self) -> LogIdentity {
        self.store.identity()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Head {
        match self.is_turn(Lie::FirstHead, 2) {
            true => {
                let publisher = HeadPublisher::new(self.first);
                let head = publisher.head();
                // A publisher that is dropped ends its head, which would be another lie.
                std::mem::forget(publisher);
                head
            }
            false => self.store.head(),
        }
    }

    fn has_other_writers(&self) -> bool {
        self.lie != Lie::WritesAlone && self.store.has_other_writers()
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.store.fresh_head().await
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.store.append(append).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        let forwards = read.direction == diptych_store::Direction::Forwards;
        let batch = self.store.read(filter, read.clone()).await?;
        if self.is_turn(Lie::OtherBytes, 3) {
            return Ok(self.rebuild(&batch, None));
        }
        if forwards && batch.len() < read.limit && self.is_turn(Lie::OneMoreEvent, 3) {
            return Ok(self.rebuild(&batch, Some(1_000_000)));
        }
        Ok(batch)
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.store.commits(read).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.store.last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.store.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.store.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.store.tracked(source).await
    }
}
