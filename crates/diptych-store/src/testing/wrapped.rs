mod own_answers;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{
    append::{AcceptedCommit, Append, KeyedCommit, Tracking},
    batch::{Batch, Read},
    checksum::EventChecksum,
    commits::{CommitBatch, ReadCommits},
    error::{AppendError, InvalidRequest, ReadError, SyncError, Unavailable},
    filter::Filter,
    head::{CommitNumber, Head, HeadPublisher},
    identity::LogIdentity,
    limits::Limits,
    live::LiveEvents,
    position::Position,
    store::{EventStore, Store},
    tag::Tag,
};

use self::own_answers::OwnAnswers;

type BoxedFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Identity = dyn Fn() -> LogIdentity + Send + Sync;
type Before = dyn Fn(Call<'_>) -> BoxedFuture<Result<(), ReadError>> + Send + Sync;
type After = dyn Fn(Reply<'_>) -> BoxedFuture<()> + Send + Sync;

/// A store that passes each call on to another store, with hooks around the call. Tests use it to
/// count calls, delay them, change them, let them fail, answer them without the other store, or
/// report another identity.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// use diptych_store::{Memory, testing::{Call, WrappedStore}};
///
/// let appends = Arc::new(AtomicU64::new(0));
/// let counter = appends.clone();
/// let store = WrappedStore::new(Memory::new()).before(move |call| {
///     if let Call::Append(_) = call {
///         counter.fetch_add(1, Ordering::Relaxed);
///     }
///     async { Ok(()) }
/// });
/// # drop(store);
/// ```
#[derive(Clone)]
pub struct WrappedStore {
    store: Store,
    identity: Option<Arc<Identity>>,
    before: Option<Arc<Before>>,
    after: Option<Arc<After>>,
    /// The head of a handle that is behind.
    behind: Option<Arc<HeadPublisher>>,
    own: OwnAnswers,
}

/// A call, before the store gets it. A hook may change an append, a read, or the end of a look-up.
#[derive(Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// [`EventStore::append`].
    Append(&'a mut Append),
    /// [`EventStore::read`].
    Read(&'a Filter, &'a mut Read),
    /// [`EventStore::fresh_head`].
    FreshHead,
    /// [`EventStore::commits`].
    Commits(&'a mut ReadCommits),
    /// [`EventStore::checksum`].
    Checksum(Position),
    /// [`EventStore::last`].
    Last(&'a Filter, &'a mut Position),
    /// [`EventStore::count`].
    Count(&'a Tag, &'a mut Position),
    /// [`EventStore::keyed`].
    Keyed(&'a str),
    /// [`EventStore::tracked`].
    Tracked(&'a str),
    /// [`EventStore::types`].
    Types,
    /// [`EventStore::close`].
    Close,
}

/// The reply of the inner store to a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// To [`EventStore::append`].
    Append(&'a Result<AcceptedCommit, AppendError>),
    /// To [`EventStore::read`], with the request.
    Read(&'a Filter, &'a Read, &'a Result<Batch, ReadError>),
    /// To [`EventStore::fresh_head`].
    FreshHead(&'a Result<Position, ReadError>),
    /// To [`EventStore::commits`], with the request.
    Commits(&'a ReadCommits, &'a Result<CommitBatch, ReadError>),
    /// To [`EventStore::checksum`].
    Checksum(&'a Result<Option<EventChecksum>, ReadError>),
    /// To [`EventStore::last`].
    Last(&'a Result<Option<Position>, ReadError>),
    /// To [`EventStore::count`].
    Count(&'a Result<u64, ReadError>),
    /// To [`EventStore::keyed`].
    Keyed(&'a Result<Option<KeyedCommit>, ReadError>),
    /// To [`EventStore::tracked`].
    Tracked(&'a Result<Option<Tracking>, ReadError>),
    /// To [`EventStore::types`].
    Types(&'a Result<Vec<String>, ReadError>),
}

impl WrappedStore {
    /// A store without hooks around this one.
    pub fn new(store: impl EventStore) -> WrappedStore {
        WrappedStore::over(Store::new(store))
    }

    /// A store without hooks around a store that other handles use, too.
    pub fn over(store: Store) -> WrappedStore {
        WrappedStore {
            store,
            identity: None,
            before: None,
            after: None,
            behind: None,
            own: OwnAnswers::default(),
        }
    }

    /// Reports this identity instead of that of the inner store.
    #[must_use]
    pub fn identity(
        mut self,
        identity: impl Fn() -> LogIdentity + Send + Sync + 'static,
    ) -> WrappedStore {
        self.identity = Some(Arc::new(identity));
        self
    }

    /// Awaits this hook before each call. If it fails, the call fails with its error, and does not
    /// reach the inner store.
    #[must_use]
    pub fn before<F>(mut self, hook: impl Fn(Call<'_>) -> F + Send + Sync + 'static) -> WrappedStore
    where
        F: Future<Output = Result<(), ReadError>> + Send + 'static,
    {
        self.before = Some(Arc::new(move |call| Box::pin(hook(call))));
        self
    }

    /// Awaits this hook after the inner store has replied, and before the caller gets the reply.
    #[must_use]
    pub fn after<F>(mut self, hook: impl Fn(Reply<'_>) -> F + Send + Sync + 'static) -> WrappedStore
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.after = Some(Arc::new(move |reply| Box::pin(hook(reply))));
        self
    }

    /// Makes this another handle on the log of the inner store, whose head is behind: it stays
    /// where it is now, until this handle is asked for the fresh head or for whole commits, appends
    /// itself, or [catches up](WrappedStore::catch_up). Reads of events and look-ups show only what
    /// is at or below it.
    ///
    /// Tests use it to find code that takes the head of a handle for the end of the log.
    #[must_use]
    pub fn behind(mut self) -> WrappedStore {
        let publisher = HeadPublisher::new(self.store.head().position());
        self.behind = Some(Arc::new(publisher));
        self
    }

    /// Moves the head of a handle that is [behind](WrappedStore::behind) to that of the inner
    /// store.
    pub fn catch_up(&self) {
        self.publish(self.store.head().position());
    }

    fn publish(&self, position: Position) {
        if let Some(behind) = &self.behind {
            behind.publish(position, CommitNumber::default());
        }
    }

    /// The part of `upto` that this handle shows.
    fn shown(&self, upto: Position) -> Position {
        self.behind.as_ref().map_or(upto, |behind| upto.min(behind.head().position()))
    }

    /// The commit that the inner store accepted, once this handle shows it.
    async fn synced_here(&self, accepted: AcceptedCommit) -> Result<AcceptedCommit, AppendError> {
        if self.behind.is_none() {
            return Ok(accepted);
        }
        // Its sync is that of the inner store, which knows nothing of the head of this handle.
        accepted.sync.clone().wait().await?;
        self.publish(accepted.last);
        Ok(accepted)
    }

    fn check_after(&self, after: Position) -> Result<(), InvalidRequest> {
        let head = self.head().position();
        match after > head {
            true => Err(InvalidRequest::AboveHead { position: after, head }),
            false => Ok(()),
        }
    }

    /// The inner store, without hooks.
    pub fn inner(&self) -> &Store {
        &self.store
    }

    async fn begin(&self, call: Call<'_>) -> Result<(), ReadError> {
        // The hook gets the call at once, so that its future need not borrow from it.
        let hook = self.before.as_ref().map(|before| before(call));
        match hook {
            Some(hook) => hook.await,
            None => Ok(()),
        }
    }

    async fn end(&self, reply: Reply<'_>) {
        let hook = self.after.as_ref().map(|after| after(reply));
        if let Some(hook) = hook {
            hook.await;
        }
    }
}

impl fmt::Debug for WrappedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedStore").field("store", &self.store).finish_non_exhaustive()
    }
}

impl EventStore for WrappedStore {
    fn identity(&self) -> LogIdentity {
        self.identity.as_ref().map_or_else(|| self.store.identity(), |identity| identity())
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Head {
        match (&self.own.head, &self.behind) {
            (Some(own), _) => own(&self.store),
            (None, Some(behind)) => behind.head(),
            (None, None) => self.store.head(),
        }
    }

    fn has_other_writers(&self) -> bool {
        let passed_on = || self.behind.is_some() || self.store.has_other_writers();
        self.own.other_writers.unwrap_or_else(passed_on)
    }

    fn is_replica(&self) -> bool {
        self.store.is_replica()
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.begin(Call::FreshHead).await?;
        let reply = self.store.fresh_head().await;
        if let Ok(position) = reply {
            self.publish(position);
        }
        self.end(Reply::FreshHead(&reply)).await;
        reply
    }

    async fn append(&self, mut append: Append) -> Result<AcceptedCommit, AppendError> {
        self.begin(Call::Append(&mut append)).await.map_err(append_error)?;
        let answer = match &self.own.append {
            Some(own) => own(self.store.clone(), append).await,
            None => self.store.append(append).await,
        };
        let reply = match answer {
            Ok(accepted) => self.synced_here(accepted).await,
            Err(error) => {
                if let AppendError::Refused(_) = error {
                    // The inner store published the commits that the refusal rests on.
                    self.catch_up();
                }
                Err(error)
            }
        };
        self.end(Reply::Append(&reply)).await;
        reply
    }

    async fn read(&self, filter: &Filter, mut read: Read) -> Result<Batch, ReadError> {
        self.begin(Call::Read(filter, &mut read)).await?;
        let reply = match self.check_after(read.after) {
            Ok(()) => {
                let shown = Read { upto: self.shown(read.upto), ..read.clone() };
                match &self.own.read {
                    Some(own) => own(self.store.clone(), filter.clone(), shown).await,
                    None => self.store.read(filter, shown).await,
                }
            }
            Err(invalid) => Err(invalid.into()),
        };
        self.end(Reply::Read(filter, &read, &reply)).await;
        reply
    }

    async fn commits(&self, mut read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.begin(Call::Commits(&mut read)).await?;
        let reply = self.store.commits(read.clone()).await;
        if let Ok(batch) = &reply {
            // The batch shows the log up to there.
            self.publish(batch.upto());
        }
        self.end(Reply::Commits(&read, &reply)).await;
        reply
    }

    async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        self.begin(Call::Checksum(position)).await?;
        let reply = self.store.checksum(position).await;
        self.end(Reply::Checksum(&reply)).await;
        reply
    }

    async fn last(
        &self,
        filter: &Filter,
        mut upto: Position,
    ) -> Result<Option<Position>, ReadError> {
        self.begin(Call::Last(filter, &mut upto)).await?;
        let reply = self.store.last(filter, self.shown(upto)).await;
        self.end(Reply::Last(&reply)).await;
        reply
    }

    async fn count(&self, tag: &Tag, mut upto: Position) -> Result<u64, ReadError> {
        self.begin(Call::Count(tag, &mut upto)).await?;
        let reply = self.store.count(tag, self.shown(upto)).await;
        self.end(Reply::Count(&reply)).await;
        reply
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.begin(Call::Keyed(key)).await?;
        let reply = self.store.keyed(key).await;
        let shown = |commit: &KeyedCommit| commit.last <= self.shown(commit.last);
        let reply = reply.map(|found| found.filter(shown));
        self.end(Reply::Keyed(&reply)).await;
        reply
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.begin(Call::Tracked(source)).await?;
        let reply = self.store.tracked(source).await;
        self.end(Reply::Tracked(&reply)).await;
        reply
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.begin(Call::Types).await?;
        let reply = self.store.types().await;
        self.end(Reply::Types(&reply)).await;
        reply
    }

    fn live(&self, filter: &Filter, after: Position) -> Option<Box<dyn LiveEvents>> {
        self.own.live.as_ref().and_then(|own| own(filter, after))
    }

    async fn close(&self) -> Result<(), SyncError> {
        self.begin(Call::Close).await.map_err(|error| match error {
            ReadError::Unavailable(cause) => SyncError { cause },
            error => SyncError { cause: Unavailable::Backend(Arc::new(error)) },
        })?;
        self.store.close().await
    }
}

fn append_error(error: ReadError) -> AppendError {
    match error {
        ReadError::Invalid(error) => error.into(),
        ReadError::Corrupt(error) => error.into(),
        ReadError::Unavailable(error) => error.into(),
    }
}
