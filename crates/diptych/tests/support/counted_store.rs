//! A store that counts its calls, lets another writer append before a call, and can be slow. The
//! module also has a listener for the warnings of the crate.

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
    EventStore, Filter, Position, Store, Timestamp,
    store::{LogIdentity, RawEvent},
    testing::Clock,
};
use diptych_store::{
    Append, Read,
    testing::{Call, Reply, WrappedStore},
};
use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A store that counts its calls.
#[derive(Clone)]
pub(crate) struct CountedStore {
    wrapped: WrappedStore,
    seen: Arc<SeenCalls>,
}

struct SeenCalls {
    store: Store,
    /// The clock that stamps appends, for a store that takes the time from its caller.
    clock: Option<Clock>,
    reads: AtomicU64,
    events_read: AtomicU64,
    appends: AtomicU64,
    slow: AtomicBool,
    /// Another writer appends this before the next append, read or look-up of a last event.
    other: Mutex<Option<Append>>,
}

impl CountedStore {
    pub(crate) fn new(store: impl EventStore) -> CountedStore {
        let identity = store.identity();
        CountedStore::as_log(store, identity, None)
    }

    /// A store that reports this identity and stamps its appends with this clock.
    pub(crate) fn as_log(
        store: impl EventStore,
        identity: LogIdentity,
        clock: Option<Clock>,
    ) -> CountedStore {
        CountedStore::over(Store::new(store), identity, clock)
    }

    /// A second counter over the inner store, under this identity.
    pub(crate) fn again_as(&self, identity: LogIdentity) -> CountedStore {
        CountedStore::over(self.inner().clone(), identity, None)
    }

    fn over(store: Store, identity: LogIdentity, clock: Option<Clock>) -> CountedStore {
        let seen = Arc::new(SeenCalls {
            store: store.clone(),
            clock,
            reads: AtomicU64::new(0),
            events_read: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            slow: AtomicBool::new(false),
            other: Mutex::new(None),
        });
        let before = seen.clone();
        let begin = move |call: Call<'_>| {
            before.count(call);
            let turn = before.turn();
            async move {
                turn.await;
                Ok(())
            }
        };
        let after = seen.clone();
        let end = move |reply: Reply<'_>| {
            if let Reply::Read(filter, read, Ok(batch)) = reply
                && !is_look(filter, read)
            {
                after.events_read.fetch_add(batch.len() as u64, Ordering::SeqCst);
            }
            after.turn()
        };
        let wrapped = WrappedStore::over(store).identity(move || identity).before(begin).after(end);
        CountedStore { wrapped, seen }
    }

    /// The store for an app.
    pub(crate) fn store(&self) -> WrappedStore {
        self.wrapped.clone()
    }

    /// The inner store, whose calls are not counted. Other writers use it.
    pub(crate) fn inner(&self) -> &Store {
        &self.seen.store
    }

    /// Number of reads so far, without look-ups of a single event.
    pub(crate) fn reads(&self) -> u64 {
        self.seen.reads.load(Ordering::SeqCst)
    }

    /// Number of events that these reads returned so far.
    pub(crate) fn events_read(&self) -> u64 {
        self.seen.events_read.load(Ordering::SeqCst)
    }

    /// Number of attempted appends so far.
    pub(crate) fn appends(&self) -> u64 {
        self.seen.appends.load(Ordering::SeqCst)
    }

    /// Makes each later call yield once before it and once after it.
    pub(crate) fn slow(&self) {
        self.seen.slow.store(true, Ordering::SeqCst);
    }

    /// Makes later calls no longer yield.
    pub(crate) fn quick(&self) {
        self.seen.slow.store(false, Ordering::SeqCst);
    }

    /// Another writer appends this before the next append, read or look-up of a last event.
    pub(crate) fn other_writes(&self, append: Append) {
        *self.seen.other.lock() = Some(append);
    }

    /// Another writer appends this now.
    pub(crate) fn write(&self, append: Append) {
        self.seen.write(append);
    }
}

impl SeenCalls {
    fn count(&self, call: Call<'_>) {
        if let Call::Append(_) | Call::Read(..) | Call::Last(..) = call {
            let other = self.other.lock().take();
            if let Some(append) = other {
                self.write(append);
            }
        }
        match call {
            Call::Append(append) => {
                self.appends.fetch_add(1, Ordering::SeqCst);
                self.stamp(append);
            }
            Call::Read(filter, read) if !is_look(filter, read) => {
                self.reads.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    fn write(&self, mut append: Append) {
        self.stamp(&mut append);
        write(&self.store, append);
    }

    fn stamp(&self, append: &mut Append) {
        append.recorded_at = self.clock.as_ref().map(Clock::now);
    }

    fn turn(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let is_slow = self.slow.load(Ordering::SeqCst);
        async move {
            if is_slow {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Whether the read asks for the one event that a snapshot or a token names. It is not counted.
fn is_look(filter: &Filter, read: &Read) -> bool {
    read.upto == read.after.plus(1) && *filter == Filter::everything()
}

/// Appends this to a store that answers at once.
pub(crate) fn write(store: &Store, append: Append) {
    let _accepted = now(store.append(append)).unwrap();
}

/// Appends this event to a store that answers at once.
pub(crate) fn write_event(store: &Store, event: RawEvent) {
    write(store, Append::event(event));
}

/// The answer of a future that is ready at its first poll.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the future should be ready at its first poll"),
    }
}

/// All events in the log, as they are stored.
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

/// The warnings on this thread while the listener exists.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Listens on this thread until the guard is dropped.
    pub(crate) fn listen() -> (Warnings, tracing::subscriber::DefaultGuard) {
        let warnings = Warnings::default();
        let guard = tracing::subscriber::set_default(warnings.clone());
        (warnings, guard)
    }

    /// Takes the warnings since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    /// Takes the warnings since the last call, and asserts that there is exactly one.
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
