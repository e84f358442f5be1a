//! A store with something around each of its calls, so that a test can be where nobody else is:
//! between a decision and its append, or between an append and its answer.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use diptych::{EventStore, Filter, Limits, LogIdentity, Position, Store, Tag};
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, Head, KeyedCommit, Read, ReadError, Tracking,
};

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeAppend,
    AfterAppend,
    BeforeLook,
    AfterLook,
}

type Hook = dyn Fn(Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

pub(crate) struct Around {
    store: Store,
    hook: Arc<Hook>,
}

impl Around {
    pub(crate) fn new<F>(
        store: impl EventStore,
        hook: impl Fn(Moment) -> F + Send + Sync + 'static,
    ) -> Around
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Around::of(Store::new(store), hook)
    }

    /// The same of a store that others use too.
    pub(crate) fn of<F>(store: Store, hook: impl Fn(Moment) -> F + Send + Sync + 'static) -> Around
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Around { store, hook: Arc::new(move |moment| Box::pin(hook(moment))) }
    }

    /// Each call lets others go first, before it is made and after.
    pub(crate) fn yielding(store: impl EventStore) -> Around {
        Around::new(store, |_| YieldOnce(false))
    }

    async fn look<T>(&self, call: impl Future<Output = T>) -> T {
        (self.hook)(Moment::BeforeLook).await;
        let answer = call.await;
        (self.hook)(Moment::AfterLook).await;
        answer
    }
}

struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl EventStore for Around {
    fn identity(&self) -> LogIdentity {
        self.store.identity()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Head {
        self.store.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        (self.hook)(Moment::BeforeAppend).await;
        let answer = self.store.append(append).await;
        (self.hook)(Moment::AfterAppend).await;
        answer
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.look(self.store.read(filter, read)).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.look(self.store.last(filter, upto)).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.look(self.store.count(tag, upto)).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.look(self.store.keyed(key)).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.look(self.store.tracked(source)).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.store.types().await
    }
}
