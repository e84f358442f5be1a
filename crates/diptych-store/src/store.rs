use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use crate::{
    append::{AcceptedCommit, Append, KeyedCommit, Tracking},
    batch::{Batch, Read},
    checksum::EventChecksum,
    commits::{CommitBatch, ReadCommits},
    error::{AppendError, HistoryChanged, ReadError, SyncError, Unavailable},
    filter::Filter,
    head::Head,
    identity::LogIdentity,
    limits::Limits,
    live::LiveEvents,
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
/// - [`append`](EventStore::append) answers when the commit is *accepted*: it has its positions,
///   and every later check sees it. It is durable once its [`AcceptedCommit::synced`] returns. Only
///   then do reads, [`head`](EventStore::head), look-ups and refusals show it.
/// - After a failed write or sync the store accepts no commit until it is opened again.
/// - If the future of an append is dropped, its commit is made completely or not at all.
/// - A store that loses its connection and finds the same identity again goes on. If it finds
///   another identity, it ends the head with [`Unavailable::HistoryChanged`], and publishes the new
///   history through a new head.
///
/// A log may have other writers: other handles on it, in this process or elsewhere. Their commits
/// move the head of this handle by themselves, a little later. Until then reads and look-ups need
/// not show them. Checks of an append see all commits accepted anywhere, and the commits that a
/// refusal rests on are published by this handle before it returns the refusal.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store of events",
    label = "an app works over a store",
    note = "stores are `Log`, `ReadOnlyLog` and `Memory`; an app over a `Store` handle is begun by \
            `App::over_store`"
)]
pub trait EventStore: Send + Sync + 'static {
    /// The id and the epoch of the log.
    fn identity(&self) -> LogIdentity;

    /// The limits of the store.
    fn limits(&self) -> Limits;

    /// The published head: the last published position, and a way to wait for the next. If the log
    /// has [other writers](EventStore::has_other_writers), it is the last position that this handle
    /// has seen.
    fn head(&self) -> Head;

    /// Whether commits can come from elsewhere than from calls of this handle and its clones. If
    /// not, the head is always the end of the log.
    fn has_other_writers(&self) -> bool {
        false
    }

    /// Whether the handle reads from a copy that follows the log, and can be behind it. The end of
    /// the copy is its [fresh head](EventStore::fresh_head). A replica takes no appends.
    fn is_replica(&self) -> bool {
        false
    }

    /// The end of the log: at least each position whose commit was synced anywhere before the call.
    /// The head of this handle has reached it when the call returns, so reads and look-ups show the
    /// events up to there. Of a [replica](EventStore::is_replica) it is the end of the copy.
    ///
    /// The default is the head, for stores without other writers.
    fn fresh_head(&self) -> impl Future<Output = Result<Position, ReadError>> + Send {
        async { Ok(self.head().position()) }
    }

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
    /// the log was considered. This position is beyond the start of the read, unless there was
    /// nothing to consider. It is an error if [`Read::after`] is above the head.
    fn read(
        &self,
        filter: &Filter,
        read: Read,
    ) -> impl Future<Output = Result<Batch, ReadError>> + Send;

    /// Reads whole commits, with their keys, tracking and times.
    ///
    /// The order is that of the log. It is an error if [`ReadCommits::after`] is above the head, or
    /// within a commit.
    fn commits(
        &self,
        read: ReadCommits,
    ) -> impl Future<Output = Result<CommitBatch, ReadError>> + Send;

    /// The checksum of the event at this position, or `None` above the head. A [`Store`] asks for
    /// the [fresh head](EventStore::fresh_head) first if the position is above the head.
    ///
    /// The default reads one event.
    fn checksum(
        &self,
        position: Position,
    ) -> impl Future<Output = Result<Option<EventChecksum>, ReadError>> + Send {
        read_checksum(self, position)
    }

    /// The position of the last matching event at or below `upto`.
    fn last(
        &self,
        filter: &Filter,
        upto: Position,
    ) -> impl Future<Output = Result<Option<Position>, ReadError>> + Send;

    /// The number of events at or below `upto` that carry the tag. Counted up to the head, it is
    /// the revision of the classic stream that the tag stands for. Counted up to the position of an
    /// event, it is the rank of that event in the stream.
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

    /// The matching events after this position, which the handle has seen, as the store sends them
    /// by itself. A [`Subscription`](crate::Subscription) that has caught up asks for them, and
    /// reads from the store without them.
    ///
    /// The default is `None`, for stores whose reads take no longer than to wait for a message.
    fn live(&self, filter: &Filter, after: Position) -> Option<Box<dyn LiveEvents>> {
        let _ = (filter, after);
        None
    }

    /// Closes the store for all its handles: it accepts nothing more, makes all accepted commits
    /// durable, and releases its resources. It may block the thread. A second call does nothing.
    ///
    /// The default does nothing, for stores without such resources.
    ///
    /// # Errors
    /// [`SyncError`] if an accepted commit could not be made durable.
    fn close(&self) -> impl Future<Output = Result<(), SyncError>> + Send {
        async { Ok(()) }
    }
}

/// Reads the event at the position.
async fn read_checksum<S: EventStore + ?Sized>(
    store: &S,
    position: Position,
) -> Result<Option<EventChecksum>, ReadError> {
    if position == Position::START {
        return Ok(Some(EventChecksum::START));
    }
    if position > store.head().position() {
        return Ok(None);
    }
    let one = Read::after(position.before()).upto(position).limit(1);
    let batch = store.read(&Filter::everything(), one).await?;
    let event = batch.get(0).filter(|event| event.position() == position);
    Ok(event.map(|event| EventChecksum::of(&event)))
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

/// The answer of a replica to the question for the end of the log.
const UNKNOWN_END: &str = "it is read from a replica, which can be behind and does not know the \
     end of the log: ask with a token, or connect to the primary";

/// A handle on a store of any kind. Clones are cheap. All code above the store holds one.
#[derive(Clone)]
pub struct Store {
    store: Arc<dyn ErasedStore>,
    /// The only history that calls may meet, if the handle is pinned.
    pin: Option<Arc<PinnedHistory>>,
}

/// The history of a store at the moment when a handle was pinned.
struct PinnedHistory {
    was: LogIdentity,
    head: Head,
    /// The other history, once one was found. It stays set even if the first history comes back.
    changed: OnceLock<HistoryChanged>,
}

impl Store {
    /// A handle on this store.
    pub fn new(store: impl EventStore) -> Store {
        Store { store: Arc::new(store), pin: None }
    }

    /// A handle that works only with the history that the store has now. Once the store has another
    /// identity, each append, read and look-up of the handle fails with
    /// [`Unavailable::HistoryChanged`], and its head ends with the same error. A commit that was
    /// accepted while the history changed has an unknown outcome.
    ///
    /// A call compares the identity before an append and after each reply.
    #[must_use]
    pub fn pinned(&self) -> Store {
        let pin =
            PinnedHistory { was: self.identity(), head: self.head(), changed: OnceLock::new() };
        Store { store: self.store.clone(), pin: Some(Arc::new(pin)) }
    }

    /// Compares the history of the store with that of a [pinned](Store::pinned) handle.
    ///
    /// # Errors
    /// [`Unavailable::HistoryChanged`] if they differ, or have differed once.
    pub fn check_history(&self) -> Result<(), Unavailable> {
        let Some(pin) = &self.pin else { return Ok(()) };
        if let Some(changed) = pin.changed.get() {
            return Err(Unavailable::HistoryChanged(*changed));
        }
        let (was, is) = (pin.was, self.store.identity());
        if is == was {
            return Ok(());
        }
        let changed = *pin.changed.get_or_init(|| HistoryChanged { was, is });
        let error = Unavailable::HistoryChanged(changed);
        // Wakes all waits for more of the old history.
        pin.head.end(error.clone());
        Err(error)
    }

    /// The id and the epoch of the log. For a pinned handle they never change.
    pub fn identity(&self) -> LogIdentity {
        self.pin.as_ref().map_or_else(|| self.store.identity(), |pin| pin.was)
    }

    /// The limits of the store.
    pub fn limits(&self) -> Limits {
        self.store.limits()
    }

    /// The published head: the last published position, and a way to wait for the next.
    pub fn head(&self) -> Head {
        self.pin.as_ref().map_or_else(|| self.store.head(), |pin| pin.head.clone())
    }

    /// See [`EventStore::has_other_writers`].
    pub fn has_other_writers(&self) -> bool {
        self.store.has_other_writers()
    }

    /// See [`EventStore::is_replica`].
    pub fn is_replica(&self) -> bool {
        self.store.is_replica()
    }

    /// See [`EventStore::fresh_head`].
    ///
    /// # Errors
    /// [`Unavailable::Server`] if the store is a [replica](EventStore::is_replica), which does not
    /// know the end of the log; or the error of the store.
    pub async fn fresh_head(&self) -> Result<Position, ReadError> {
        if self.has_other_writers() && self.is_replica() {
            self.check_history()?;
            return Err(Unavailable::Server { what: UNKNOWN_END.into() }.into());
        }
        self.known_head().await
    }

    /// The [fresh head](EventStore::fresh_head) of the store. Of a replica it is the end of the
    /// copy, which can be behind the end of the log.
    ///
    /// # Errors
    /// [`ReadError`] of the store.
    pub async fn known_head(&self) -> Result<Position, ReadError> {
        if !self.has_other_writers() {
            // Many commands and queries ask, so the embedded log answers without a boxed future.
            self.check_history()?;
            let head = self.pin.as_ref().map(|pin| pin.head.position());
            return Ok(head.unwrap_or_else(|| self.store.head().position()));
        }
        self.of_this_history(self.store.fresh_head().await)
    }

    /// See [`EventStore::append`].
    pub async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.check_history()?;
        let reply = self.store.append(append).await;
        match (self.check_history(), reply) {
            (Err(cause), Ok(_)) => Err(SyncError { cause }.into()),
            // The refusal comes from the other history, and from events that this history may not
            // have.
            (Err(cause), Err(AppendError::Refused(_) | AppendError::Invalid(_))) => {
                Err(cause.into())
            }
            (_, reply) => reply,
        }
    }

    /// See [`EventStore::read`].
    pub async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.of_this_history(self.store.read(filter, read).await)
    }

    /// See [`EventStore::commits`].
    pub async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.of_this_history(self.store.commits(read).await)
    }

    /// See [`EventStore::last`].
    pub async fn last(
        &self,
        filter: &Filter,
        upto: Position,
    ) -> Result<Option<Position>, ReadError> {
        self.of_this_history(self.store.last(filter, upto).await)
    }

    /// See [`EventStore::count`].
    pub async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.of_this_history(self.store.count(tag, upto).await)
    }

    /// See [`EventStore::keyed`].
    pub async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.of_this_history(self.store.keyed(key).await)
    }

    /// See [`EventStore::tracked`].
    pub async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.of_this_history(self.store.tracked(source).await)
    }

    /// See [`EventStore::checksum`].
    pub async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        if position > self.head().position() && position > self.known_head().await? {
            return Ok(None);
        }
        self.of_this_history(self.store.checksum(position).await)
    }

    /// See [`EventStore::types`].
    pub async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.of_this_history(self.store.types().await)
    }

    /// See [`EventStore::live`].
    pub(crate) fn live(&self, filter: &Filter, after: Position) -> Option<Box<dyn LiveEvents>> {
        self.check_history().ok()?;
        self.store.live(filter, after)
    }

    /// See [`EventStore::close`].
    pub async fn close(&self) -> Result<(), SyncError> {
        self.store.close().await
    }

    /// Returns the reply, unless it may come from another history than that of the handle. An error
    /// is checked, too, because the change can cause it: the other log has other positions.
    fn of_this_history<T>(&self, reply: Result<T, ReadError>) -> Result<T, ReadError> {
        self.check_history()?;
        reply
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
    fn has_other_writers(&self) -> bool;
    fn is_replica(&self) -> bool;
    fn fresh_head(&self) -> BoxFuture<'_, Result<Position, ReadError>>;
    fn commits(&self, read: ReadCommits) -> BoxFuture<'_, Result<CommitBatch, ReadError>>;
    fn checksum(
        &self,
        position: Position,
    ) -> BoxFuture<'_, Result<Option<EventChecksum>, ReadError>>;
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
    fn live(&self, filter: &Filter, after: Position) -> Option<Box<dyn LiveEvents>>;
    fn close(&self) -> BoxFuture<'_, Result<(), SyncError>>;
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

    fn has_other_writers(&self) -> bool {
        EventStore::has_other_writers(self)
    }

    fn is_replica(&self) -> bool {
        EventStore::is_replica(self)
    }

    fn fresh_head(&self) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(EventStore::fresh_head(self))
    }

    fn commits(&self, read: ReadCommits) -> BoxFuture<'_, Result<CommitBatch, ReadError>> {
        Box::pin(EventStore::commits(self, read))
    }

    fn checksum(
        &self,
        position: Position,
    ) -> BoxFuture<'_, Result<Option<EventChecksum>, ReadError>> {
        Box::pin(EventStore::checksum(self, position))
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

    fn live(&self, filter: &Filter, after: Position) -> Option<Box<dyn LiveEvents>> {
        EventStore::live(self, filter, after)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), SyncError>> {
        Box::pin(EventStore::close(self))
    }
}
