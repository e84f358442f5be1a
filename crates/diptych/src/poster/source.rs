//! The store that a poster follows, without its writes.

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventChecksum, EventStore, Filter,
    Head, KeyedCommit, Limits, LogIdentity, Position, Read, ReadCommits, ReadError, Store,
    SyncError, Tag, Tracking, Unavailable,
};

use super::{PosterError, PosterOptions};

#[cfg(feature = "remote")]
mod address;

/// Where the source is.
pub(crate) enum SourcePlace {
    #[cfg(feature = "remote")]
    Address(String),
    Store(Store),
}

impl SourcePlace {
    pub(crate) async fn open(self, options: &PosterOptions) -> Result<Store, PosterError> {
        Ok(Store::new(ReadOnlySource(self.find(options).await?)))
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

/// A store that refuses every append.
struct ReadOnlySource(Store);

impl EventStore for ReadOnlySource {
    fn identity(&self) -> LogIdentity {
        self.0.identity()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn head(&self) -> Head {
        self.0.head()
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.0.fresh_head().await
    }

    /// Always an error: [`Unavailable::Failed`].
    async fn append(&self, _append: Append) -> Result<AcceptedCommit, AppendError> {
        let reason = "a poster writes nothing: send the command to the application that owns the \
                      log";
        Err(Unavailable::Failed { reason: reason.into() }.into())
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.0.read(filter, read).await
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.0.commits(read).await
    }

    async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        self.0.checksum(position).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.0.last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.0.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.0.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.0.tracked(source).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.0.types().await
    }

    async fn close(&self) -> Result<(), SyncError> {
        self.0.close().await
    }
}
