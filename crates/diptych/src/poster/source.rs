//! The store that a poster follows, without its writes.

use std::{collections::VecDeque, future::Future, io, sync::Arc, time::Duration};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventChecksum, EventStore, Filter,
    Head, KeyedCommit, Limits, LogIdentity, Position, Read, ReadCommits, ReadError, Store,
    SyncError, Tag, Tracking, Unavailable,
};
use parking_lot::Mutex;

use super::{PosterError, PosterOptions};
use crate::wait::within;

#[cfg(feature = "remote")]
mod address;

/// Where the source is.
pub(crate) enum SourcePlace {
    #[cfg(feature = "remote")]
    Address(String),
    Store(Store),
}

impl SourcePlace {
    /// Whether the poster opens the store, and so closes it.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, SourcePlace::Store(_))
    }

    pub(crate) async fn open(self, options: &PosterOptions) -> Result<Store, PosterError> {
        let store = self.find(options).await?;
        let ends = Mutex::default();
        Ok(Store::new(ReadOnlySource { store, quiet_time: options.quiet_time, ends }))
    }

    #[cfg(feature = "remote")]
    async fn find(self, options: &PosterOptions) -> Result<Store, PosterError> {
        match self {
            SourcePlace::Address(address) => address::connect(address, options).await,
            SourcePlace::Store(store) => Ok(store),
        }
    }

    #[cfg(not(feature = "remote"))]
    async fn find(self, _: &PosterOptions) -> Result<Store, PosterError> {
        let SourcePlace::Store(store) = self;
        Ok(store)
    }
}

/// A store that refuses every append, and whose short questions do not wait for a source that is
/// away.
struct ReadOnlySource {
    store: Store,
    quiet_time: Duration,
    /// The checksums of the events at which reads ended, newest last. An answer names the event at
    /// its position, also while the source is away.
    ends: Mutex<VecDeque<(Position, EventChecksum)>>,
}

/// The number of ends that are remembered: views of one poster can be some pages apart.
const REMEMBERED_ENDS: usize = 64;

impl ReadOnlySource {
    fn known(&self, position: Position) -> Option<EventChecksum> {
        let ends = self.ends.lock();
        ends.iter().find(|(end, _)| *end == position).map(|(_, checksum)| *checksum)
    }

    /// Remembers the event at the end of this batch.
    async fn remember_end(&self, batch: &Batch) {
        let end = batch.upto();
        if end == Position::START || self.known(end).is_some() {
            return;
        }
        let last = batch.iter().next_back().filter(|event| event.position() == end);
        let checksum = match last.map(|event| EventChecksum::of(&event)) {
            Some(checksum) => Some(checksum),
            // The event there is for others. If the source goes away now, an answer at this
            // position has no token, and is refused until it is back.
            None => self.soon(self.store.checksum(end)).await.ok().flatten(),
        };
        if let Some(checksum) = checksum {
            let mut ends = self.ends.lock();
            ends.push_back((end, checksum));
            if ends.len() > REMEMBERED_ENDS {
                ends.pop_front();
            }
        }
    }

    /// The answer to a short question. A query that needs one waits no longer, though the
    /// connection may be tried for longer. Reads of events are not limited: only followers wait
    /// for them, and questions about the past.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let quiet = || {
            let quiet_ms = self.quiet_time.as_millis();
            let reason = format!("the source of the poster did not answer for {quiet_ms} ms");
            Unavailable::Backend(Arc::new(io::Error::new(io::ErrorKind::TimedOut, reason)))
        };
        within(self.quiet_time, answer).await.unwrap_or_else(|| Err(quiet().into()))
    }
}

impl EventStore for ReadOnlySource {
    fn identity(&self) -> LogIdentity {
        self.store.identity()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Head {
        self.store.head()
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    fn is_replica(&self) -> bool {
        self.store.is_replica()
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.soon(self.store.known_head()).await
    }

    /// Always an error: [`Unavailable::Failed`].
    async fn append(&self, _append: Append) -> Result<AcceptedCommit, AppendError> {
        let reason = "a poster writes nothing: send the command to the application that owns the \
                      log";
        Err(Unavailable::Failed { reason: reason.into() }.into())
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        let batch = self.store.read(filter, read).await?;
        self.remember_end(&batch).await;
        Ok(batch)
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.store.commits(read).await
    }

    async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        match self.known(position) {
            Some(known) => Ok(Some(known)),
            None => self.soon(self.store.checksum(position)).await,
        }
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.soon(self.store.last(filter, upto)).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.soon(self.store.count(tag, upto)).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.soon(self.store.keyed(key)).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.soon(self.store.tracked(source)).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.store.types().await
    }

    async fn close(&self) -> Result<(), SyncError> {
        self.store.close().await
    }
}
