//! Hooks that answer a call instead of the inner store.

use std::sync::Arc;

use super::{BoxedFuture, WrappedStore};
use crate::{
    append::{AcceptedCommit, Append},
    batch::{Batch, Read},
    error::{AppendError, ReadError},
    filter::Filter,
    head::Head,
    live::LiveEvents,
    position::Position,
    store::Store,
};

type OwnAppend =
    dyn Fn(Store, Append) -> BoxedFuture<Result<AcceptedCommit, AppendError>> + Send + Sync;
type OwnRead = dyn Fn(Store, Filter, Read) -> BoxedFuture<Result<Batch, ReadError>> + Send + Sync;
type OwnHead = dyn Fn(&Store) -> Head + Send + Sync;
type OwnLive = dyn Fn(&Filter, Position) -> Option<Box<dyn LiveEvents>> + Send + Sync;

/// The hooks. A call without one is passed on.
#[derive(Clone, Default)]
pub(super) struct OwnAnswers {
    pub(super) append: Option<Arc<OwnAppend>>,
    pub(super) read: Option<Arc<OwnRead>>,
    pub(super) head: Option<Arc<OwnHead>>,
    pub(super) other_writers: Option<bool>,
    pub(super) live: Option<Arc<OwnLive>>,
}

impl WrappedStore {
    /// Lets this hook answer each append. It gets the inner store, which has not seen the append.
    #[must_use]
    pub fn append_by<F>(
        mut self,
        hook: impl Fn(Store, Append) -> F + Send + Sync + 'static,
    ) -> WrappedStore
    where
        F: Future<Output = Result<AcceptedCommit, AppendError>> + Send + 'static,
    {
        self.own.append = Some(Arc::new(move |store, append| Box::pin(hook(store, append))));
        self
    }

    /// Lets this hook answer each read of events. It gets the inner store, which has not seen the
    /// read.
    #[must_use]
    pub fn read_by<F>(
        mut self,
        hook: impl Fn(Store, Filter, Read) -> F + Send + Sync + 'static,
    ) -> WrappedStore
    where
        F: Future<Output = Result<Batch, ReadError>> + Send + 'static,
    {
        self.own.read =
            Some(Arc::new(move |store, filter, read| Box::pin(hook(store, filter, read))));
        self
    }

    /// Shows the head that this hook gives, instead of that of the inner store.
    #[must_use]
    pub fn head_by(
        mut self,
        hook: impl Fn(&Store) -> Head + Send + Sync + 'static,
    ) -> WrappedStore {
        self.own.head = Some(Arc::new(hook));
        self
    }

    /// Says whether the log has other writers, instead of the inner store.
    #[must_use]
    pub fn other_writers(mut self, has_other_writers: bool) -> WrappedStore {
        self.own.other_writers = Some(has_other_writers);
        self
    }

    /// Gives subscriptions the events that this hook sends by itself.
    #[must_use]
    pub fn live_by(
        mut self,
        hook: impl Fn(&Filter, Position) -> Option<Box<dyn LiveEvents>> + Send + Sync + 'static,
    ) -> WrappedStore {
        self.own.live = Some(Arc::new(hook));
        self
    }
}
