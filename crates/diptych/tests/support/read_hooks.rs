//! A store with something in the way of its reads: they are counted, fail, or are never answered;
//! or it says that it is another log.

use std::{future::Future, pin::Pin};

use diptych::{EventStore, Filter, Limits, LogIdentity, Position, ReadError, Store, Tag};
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, Head, KeyedCommit, Read, Tracking,
};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type BeforeRead = dyn Fn(&Filter, &Read) -> Boxed<Result<(), ReadError>> + Send + Sync;

pub(crate) struct Wrapped {
    store: Store,
    identity: LogIdentity,
    before_read: Box<BeforeRead>,
}

impl Wrapped {
    pub(crate) fn new(store: Store) -> Wrapped {
        let identity = store.identity();
        Wrapped { store, identity, before_read: Box::new(|_, _| Box::pin(async { Ok(()) })) }
    }

    pub(crate) fn identity(mut self, identity: LogIdentity) -> Wrapped {
        self.identity = identity;
        self
    }

    /// Each read comes to this first.
    pub(crate) fn before_read<F>(
        mut self,
        before: impl Fn(&Filter, &Read) -> F + Send + Sync + 'static,
    ) -> Wrapped
    where
        F: Future<Output = Result<(), ReadError>> + Send + 'static,
    {
        self.before_read = Box::new(move |filter, read| Box::pin(before(filter, read)));
        self
    }
}

impl EventStore for Wrapped {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Head {
        self.store.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.store.append(append).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        (self.before_read)(filter, &read).await?;
        self.store.read(filter, read).await
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

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.store.types().await
    }
}
