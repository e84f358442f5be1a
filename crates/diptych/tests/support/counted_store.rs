//! A store that is watched: it counts what is asked of it, lets another writer in at a chosen
//! moment, and can be slow. And a listener to what the crate warns of.

use std::{
    fmt::{self, Debug},
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use diptych::{
    EventStore, Filter, Limits, LogIdentity, Position, RawEvent, Store, Tag, Timestamp,
    testing::Clock,
};
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, Head, KeyedCommit, Read, ReadError, Tracking,
};
use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A store through which everything passes, and what was seen.
#[derive(Clone)]
pub(crate) struct Watched(Arc<Seen>);

struct Seen {
    store: Store,
    identity: LogIdentity,
    /// When what is appended is recorded, for a store that wants to be told.
    clock: Option<Clock>,
    reads: AtomicU64,
    events_read: AtomicU64,
    appends: AtomicU64,
    slow: AtomicBool,
    /// What another writer appends before anything else is done.
    other: Mutex<Option<Append>>,
}

impl Watched {
    pub(crate) fn new(store: impl EventStore) -> Watched {
        let identity = store.identity();
        Watched::as_log(store, identity, None)
    }

    /// A store that says it is this log, and records by this clock.
    pub(crate) fn as_log(
        store: impl EventStore,
        identity: LogIdentity,
        clock: Option<Clock>,
    ) -> Watched {
        Watched::of(Store::new(store), identity, clock)
    }

    /// The same store, under the name of this log.
    pub(crate) fn again_as(&self, identity: LogIdentity) -> Watched {
        Watched::of(self.0.store.clone(), identity, None)
    }

    fn of(store: Store, identity: LogIdentity, clock: Option<Clock>) -> Watched {
        Watched(Arc::new(Seen {
            store,
            identity,
            clock,
            reads: AtomicU64::new(0),
            events_read: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            slow: AtomicBool::new(false),
            other: Mutex::new(None),
        }))
    }

    /// The store itself, unwatched: where other writers write.
    pub(crate) fn inner(&self) -> &Store {
        &self.0.store
    }

    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// Events that reads gave so far.
    pub(crate) fn events_read(&self) -> u64 {
        self.0.events_read.load(Ordering::SeqCst)
    }

    /// Appends that were tried so far.
    pub(crate) fn appends(&self) -> u64 {
        self.0.appends.load(Ordering::SeqCst)
    }

    /// From now on every call waits a turn before it does something, and another after it.
    pub(crate) fn slow(&self) {
        self.0.slow.store(true, Ordering::SeqCst);
    }

    /// From now on no call waits.
    pub(crate) fn quick(&self) {
        self.0.slow.store(false, Ordering::SeqCst);
    }

    /// Another writer appends this when the store is asked for something next, just before.
    pub(crate) fn other_writes(&self, append: Append) {
        *self.0.other.lock() = Some(append);
    }

    /// Another writer appends this now.
    pub(crate) fn write(&self, append: Append) {
        write(&self.0.store, self.timed(append));
    }

    fn timed(&self, mut append: Append) -> Append {
        append.recorded_at = self.0.clock.as_ref().map(Clock::now);
        append
    }

    fn called(&self) {
        if let Some(append) = self.0.other.lock().take() {
            self.write(append);
        }
    }

    async fn turn(&self) {
        if self.0.slow.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}

/// Appends this to a store that answers at once.
pub(crate) fn write(store: &Store, append: Append) {
    let _accepted = now(store.append(append)).unwrap();
}

/// Appends this event to a store that answers at once.
pub(crate) fn write_event(store: &Store, event: RawEvent) {
    write(store, Append::event(event));
}

/// What a future says that need not wait.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits"),
    }
}

/// Everything in the log that matches, as it stands there.
pub(crate) fn everything(store: &Store) -> Vec<(Position, Timestamp, RawEvent)> {
    let (head, mut after) = (store.head().position(), Position::START);
    let mut events = Vec::new();
    while after < head {
        let batch = now(store.read(&Filter::everything(), Read::after(after).upto(head))).unwrap();
        let read =
            batch.iter().map(|event| (event.position(), event.recorded_at(), event.to_raw()));
        events.extend(read);
        after = batch.upto();
    }
    events
}

impl EventStore for Watched {
    fn identity(&self) -> LogIdentity {
        self.0.identity
    }

    fn limits(&self) -> Limits {
        self.0.store.limits()
    }

    fn head(&self) -> Head {
        self.0.store.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.called();
        self.0.appends.fetch_add(1, Ordering::SeqCst);
        self.turn().await;
        let appended = self.0.store.append(self.timed(append)).await;
        self.turn().await;
        appended
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.called();
        // A look at the one event that a snapshot or a token names is not counted.
        let is_look = read.upto == read.after.plus(1) && *filter == Filter::everything();
        self.0.reads.fetch_add(u64::from(!is_look), Ordering::SeqCst);
        self.turn().await;
        let batch = self.0.store.read(filter, read).await?;
        let events = if is_look { 0 } else { batch.len() as u64 };
        self.0.events_read.fetch_add(events, Ordering::SeqCst);
        self.turn().await;
        Ok(batch)
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.called();
        self.turn().await;
        let last = self.0.store.last(filter, upto).await;
        self.turn().await;
        last
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.0.store.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.turn().await;
        self.0.store.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.0.store.tracked(source).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.0.store.types().await
    }
}

/// What was warned of on this thread while the listener was there.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Listens on this thread until the guard is dropped.
    pub(crate) fn listen() -> (Warnings, tracing::subscriber::DefaultGuard) {
        let warnings = Warnings::default();
        let guard = tracing::subscriber::set_default(warnings.clone());
        (warnings, guard)
    }

    /// What came since it was taken last.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    /// The one warning that came since it was taken last.
    pub(crate) fn one(&self) -> String {
        let mut warnings = self.take();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings.remove(0)
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = fmt::Write::write_fmt(&mut self.0, format_args!("{field}={value:?} "));
    }
}
