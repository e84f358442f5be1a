use std::{collections::BTreeSet, fmt, future::Future, pin::Pin, sync::Arc};

use crate::{
    append::{AcceptedCommit, Append, KeyedCommit, Tracking},
    batch::{Batch, Read},
    checksum::EventChecksum,
    error::{AppendError, ReadError},
    filter::Filter,
    head::Head,
    identity::LogIdentity,
    limits::Limits,
    position::Position,
    tag::Tag,
};

/// A store of events. This is the one trait that a backend implements.
///
/// It moves named bytes and knows no domain types. It does not retry, cache, upcast or take
/// snapshots. The conformance suite (feature `testing`) checks all of its promises; the most
/// important ones are:
///
/// - A commit is atomic, positions are dense and in commit order, and `recorded_at` never
///   decreases.
/// - [`append`](EventStore::append) answers when the commit is *accepted*: it has its positions, and
///   every later check sees it. It is durable once its [`AcceptedCommit::synced`] returns. Only then
///   do reads, [`head`](EventStore::head), look-ups and refusals show it.
/// - After a failed write or sync the store accepts no commit until it is opened again.
/// - If the future of an append is dropped, its commit is made completely or not at all.
pub trait EventStore: Send + Sync + 'static {
    /// The id and the epoch of the log.
    fn identity(&self) -> LogIdentity;

    /// The limits of the store.
    fn limits(&self) -> Limits;

    /// The published head: the last published position, and a way to wait for the next.
    fn head(&self) -> Head;

    /// Commits the events if tracking, key and conditions allow it. The store checks them in this
    /// order.
    ///
    /// The call waits while the store holds its maximum of unsynced commits.
    fn append(
        &self,
        append: Append,
    ) -> impl Future<Output = Result<AcceptedCommit, AppendError>> + Send;

    /// Reads one batch of matching events.
    ///
    /// A batch may have fewer events than the limit of the read, or none. Its `upto` tells how far
    /// the log was considered. It is beyond the start of the read, unless there was nothing to
    /// consider. It is an error if [`Read::after`] is above the head.
    fn read(
        &self,
        filter: &Filter,
        read: Read,
    ) -> impl Future<Output = Result<Batch, ReadError>> + Send;

    /// The position of the last matching event at or below `upto`.
    fn last(
        &self,
        filter: &Filter,
        upto: Position,
    ) -> impl Future<Output = Result<Option<Position>, ReadError>> + Send;

    /// The number of events at or below `upto` that carry the tag. Up to the head, it is the
    /// revision of the classic stream that the tag stands for. Up to the position of an event, it
    /// is the rank of that event in the stream.
    fn count(
        &self,
        tag: &Tag,
        upto: Position,
    ) -> impl Future<Output = Result<u64, ReadError>> + Send;

    /// The commit that was made under this idempotency key.
    fn keyed(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<KeyedCommit>, ReadError>> + Send;

    /// The stored tracking of this source: the position up to which it was imported.
    fn tracked(
        &self,
        source: &str,
    ) -> impl Future<Output = Result<Option<Tracking>, ReadError>> + Send;

    /// The names of the event types in the log up to the head, each once, in order. Apps use it for
    /// checks when they start.
    ///
    /// The default reads the whole log. A store with an index of types should answer from the
    /// index.
    fn types(&self) -> impl Future<Output = Result<Vec<String>, ReadError>> + Send {
        read_types(self)
    }
}

/// Reads the whole log.
async fn read_types<S: EventStore + ?Sized>(store: &S) -> Result<Vec<String>, ReadError> {
    let (head, mut after) = (store.head().position(), Position::START);
    let (everything, mut types) = (Filter::everything(), BTreeSet::new());
    while after < head {
        let batch = store.read(&everything, Read::after(after).upto(head)).await?;
        for event in batch.iter() {
            if !types.contains(event.event_type()) {
                types.insert(event.event_type().to_owned());
            }
        }
        after = batch.upto();
    }
    Ok(types.into_iter().collect())
}

/// A handle on a store of any kind. Clones are cheap. All code above the store holds one.
#[derive(Clone)]
pub struct Store(Arc<dyn ErasedStore>);

impl Store {
    /// A handle on this store.
    pub fn new(store: impl EventStore) -> Store {
        Store(Arc::new(store))
    }

    /// The id and the epoch of the log.
    pub fn identity(&self) -> LogIdentity {
        self.0.identity()
    }

    /// The limits of the store.
    pub fn limits(&self) -> Limits {
        self.0.limits()
    }

    /// The published head: the last published position, and a way to wait for the next.
    pub fn head(&self) -> Head {
        self.0.head()
    }

    /// See [`EventStore::append`].
    pub async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.0.append(append).await
    }

    /// See [`EventStore::read`].
    pub async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.0.read(filter, read).await
    }

    /// See [`EventStore::last`].
    pub async fn last(
        &self,
        filter: &Filter,
        upto: Position,
    ) -> Result<Option<Position>, ReadError> {
        self.0.last(filter, upto).await
    }

    /// See [`EventStore::count`].
    pub async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.0.count(tag, upto).await
    }

    /// See [`EventStore::keyed`].
    pub async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.0.keyed(key).await
    }

    /// See [`EventStore::tracked`].
    pub async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.0.tracked(source).await
    }

    /// The checksum of the event at this position, or `None` above the head. It costs a read of one
    /// event.
    ///
    /// # Errors
    /// As [`EventStore::read`].
    pub async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        if position == Position::START {
            return Ok(Some(EventChecksum::START));
        }
        if position > self.head().position() {
            return Ok(None);
        }
        let one = Read::after(position.before()).upto(position).limit(1);
        let batch = self.read(&Filter::everything(), one).await?;
        let event = batch.get(0).filter(|event| event.position() == position);
        Ok(event.map(|event| EventChecksum::of(&event)))
    }

    /// See [`EventStore::types`].
    pub async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.0.types().await
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("log", &self.identity()).field("head", &self.head()).finish()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An object-safe [`EventStore`] with boxed futures, so that a handle need not know the store's
/// type.
trait ErasedStore: Send + Sync {
    fn identity(&self) -> LogIdentity;
    fn limits(&self) -> Limits;
    fn head(&self) -> Head;
    fn append(&self, append: Append) -> BoxFuture<'_, Result<AcceptedCommit, AppendError>>;
    fn read<'a>(
        &'a self,
        filter: &'a Filter,
        read: Read,
    ) -> BoxFuture<'a, Result<Batch, ReadError>>;
    fn last<'a>(
        &'a self,
        filter: &'a Filter,
        upto: Position,
    ) -> BoxFuture<'a, Result<Option<Position>, ReadError>>;
    fn count<'a>(&'a self, tag: &'a Tag, upto: Position) -> BoxFuture<'a, Result<u64, ReadError>>;
    fn keyed<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyedCommit>, ReadError>>;
    fn tracked<'a>(&'a self, source: &'a str)
    -> BoxFuture<'a, Result<Option<Tracking>, ReadError>>;
    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, ReadError>>;
}

impl<S: EventStore> ErasedStore for S {
    fn identity(&self) -> LogIdentity {
        EventStore::identity(self)
    }

    fn limits(&self) -> Limits {
        EventStore::limits(self)
    }

    fn head(&self) -> Head {
        EventStore::head(self)
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<AcceptedCommit, AppendError>> {
        Box::pin(EventStore::append(self, append))
    }

    fn read<'a>(
        &'a self,
        filter: &'a Filter,
        read: Read,
    ) -> BoxFuture<'a, Result<Batch, ReadError>> {
        Box::pin(EventStore::read(self, filter, read))
    }

    fn last<'a>(
        &'a self,
        filter: &'a Filter,
        upto: Position,
    ) -> BoxFuture<'a, Result<Option<Position>, ReadError>> {
        Box::pin(EventStore::last(self, filter, upto))
    }

    fn count<'a>(&'a self, tag: &'a Tag, upto: Position) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(EventStore::count(self, tag, upto))
    }

    fn keyed<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyedCommit>, ReadError>> {
        Box::pin(EventStore::keyed(self, key))
    }

    fn tracked<'a>(
        &'a self,
        source: &'a str,
    ) -> BoxFuture<'a, Result<Option<Tracking>, ReadError>> {
        Box::pin(EventStore::tracked(self, source))
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, ReadError>> {
        Box::pin(EventStore::types(self))
    }
}
