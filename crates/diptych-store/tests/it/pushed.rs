//! A subscription that takes the events which a store sends by itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, Delivery, EventStore, Filter, Head,
    KeyedCommit, Limits, LiveEvents, LogIdentity, Memory, Position, RawEvent, Read, ReadCommits,
    ReadError, Store, SubscribeOptions, Subscription, Tag, Tracking,
};
use pollster::block_on;

type NextBatch = Box<dyn FnOnce(&Pushing) -> Batch + Send>;

/// A store in memory that sends these batches to a subscription that has caught up.
#[derive(Clone, Default)]
struct Pushing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: Memory,
    sends: Mutex<VecDeque<NextBatch>>,
    is_restored: AtomicBool,
}

impl Pushing {
    fn append(&self, names: &[&'static str]) {
        let events = names.iter().map(|name| RawEvent::new(*name, []));
        let accepted = block_on(self.0.memory.append(Append::events(events))).unwrap();
        block_on(accepted.synced()).unwrap();
    }

    fn batch(&self, read: Read) -> Batch {
        block_on(self.0.memory.read(&Filter::everything(), read)).unwrap()
    }

    fn send(&self, send: impl FnOnce(&Pushing) -> Batch + Send + 'static) {
        self.0.sends.lock().unwrap().push_back(Box::new(send));
    }

    /// A subscription that has delivered the first event, and has caught up.
    fn subscription(&self, batch_events: usize) -> Subscription {
        self.append(&["first"]);
        let options = SubscribeOptions { batch_events, ..SubscribeOptions::default() };
        let store = Store::new(self.clone());
        let mut subscription = store.subscribe(Filter::everything(), Position::START, options);
        assert_eq!(delivered(&mut subscription), ["1 first"]);
        let caught_up = block_on(subscription.next()).unwrap();
        assert!(matches!(caught_up, Delivery::CaughtUp { .. }), "{caught_up:?}");
        subscription
    }
}

/// The positions and types of the next batch.
fn delivered(subscription: &mut Subscription) -> Vec<String> {
    match block_on(subscription.next()).unwrap() {
        Delivery::Batch(batch) => batch
            .iter()
            .map(|event| format!("{} {}", event.position(), event.event_type()))
            .collect(),
        other => panic!("{other:?} is no batch"),
    }
}

struct Sent(Pushing);

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sent")
    }
}

impl LiveEvents for Sent {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Batch>> {
        let send = self.0.0.sends.lock().unwrap().pop_front();
        Poll::Ready(send.map(|send| send(&self.0)))
    }
}

impl EventStore for Pushing {
    fn identity(&self) -> LogIdentity {
        let LogIdentity { id, epoch } = self.0.memory.identity();
        match self.0.is_restored.load(Ordering::Relaxed) {
            true => LogIdentity { id, epoch: epoch.next() },
            false => LogIdentity { id, epoch },
        }
    }

    fn limits(&self) -> Limits {
        EventStore::limits(&self.0.memory)
    }

    fn head(&self) -> Head {
        self.0.memory.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.0.memory.append(append).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.0.memory.read(filter, read).await
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.0.memory.commits(read).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.0.memory.last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.0.memory.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.0.memory.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.0.memory.tracked(source).await
    }

    fn live(&self, _: &Filter, _: Position) -> Option<Box<dyn LiveEvents>> {
        let has_more = !self.0.sends.lock().unwrap().is_empty();
        has_more.then(|| Box::new(Sent(self.clone())) as Box<dyn LiveEvents>)
    }
}

#[test]
fn events_that_a_store_sends_again_are_delivered_once() {
    let store = Pushing::default();
    let mut subscription = store.subscription(10);
    store.send(|store| {
        let before = store.batch(Read::all());
        store.append(&["second"]);
        before
    });
    store.send(|store| store.batch(Read::after(1.into())));
    assert_eq!(delivered(&mut subscription), ["2 second"]);
}

#[test]
fn a_batch_that_is_too_large_for_the_reader_is_delivered_in_parts() {
    let store = Pushing::default();
    let mut subscription = store.subscription(2);
    store.send(|store| {
        store.append(&["a", "b", "c", "d", "e"]);
        store.batch(Read::after(1.into()))
    });
    assert_eq!(delivered(&mut subscription), ["2 a", "3 b"]);
    assert_eq!(delivered(&mut subscription), ["4 c", "5 d"]);
    assert_eq!(delivered(&mut subscription), ["6 e"]);
}

#[test]
fn events_of_a_former_history_are_not_delivered() {
    let store = Pushing::default();
    let mut subscription = store.subscription(10);
    store.send(|store| {
        let former = Pushing::default();
        former.append(&["first", "lost"]);
        // The log was restored to an earlier state, and has gone on from there.
        store.0.is_restored.store(true, Ordering::Relaxed);
        store.append(&["second"]);
        former.batch(Read::after(1.into()))
    });
    assert_eq!(delivered(&mut subscription), ["2 second"]);
}
