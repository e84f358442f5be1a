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
    Append, Batch, Delivery, Filter, LiveEvents, LogIdentity, Memory, Position, RawEvent, Read,
    Store, SubscribeOptions, Subscription, testing::WrappedStore,
};
use pollster::block_on;

type NextBatch = Box<dyn FnOnce(&Pushing) -> Batch + Send>;

/// A store in memory that sends these batches to a subscription that has caught up.
#[derive(Clone)]
struct Pushing(Arc<Inner>);

struct Inner {
    memory: Store,
    sends: Mutex<VecDeque<NextBatch>>,
    is_restored: AtomicBool,
}

impl Pushing {
    fn new() -> Pushing {
        let (memory, sends) = (Store::new(Memory::new()), Mutex::default());
        Pushing(Arc::new(Inner { memory, sends, is_restored: AtomicBool::new(false) }))
    }

    fn append(&self, names: &[&'static str]) {
        let events = names.iter().map(|name| RawEvent::new(*name, []));
        let accepted = block_on(self.0.memory.append(Append::events(events))).unwrap();
        block_on(accepted.synced()).unwrap();
    }

    fn batch(&self, read: Read) -> Batch {
        block_on(self.0.memory.read(&Filter::everything(), read)).unwrap()
    }

    fn store(&self) -> Store {
        let (restored, sending) = (self.clone(), self.clone());
        let wrapped = WrappedStore::over(self.0.memory.clone())
            .identity(move || restored.identity())
            .live_by(move |_, _| {
                let has_more = !sending.0.sends.lock().unwrap().is_empty();
                has_more.then(|| Box::new(SentBatches(sending.clone())) as Box<dyn LiveEvents>)
            });
        Store::new(wrapped)
    }

    fn identity(&self) -> LogIdentity {
        let LogIdentity { id, epoch } = self.0.memory.identity();
        match self.0.is_restored.load(Ordering::Relaxed) {
            true => LogIdentity { id, epoch: epoch.next() },
            false => LogIdentity { id, epoch },
        }
    }

    fn send(&self, send: impl FnOnce(&Pushing) -> Batch + Send + 'static) {
        self.0.sends.lock().unwrap().push_back(Box::new(send));
    }

    /// A subscription that has delivered the first event, and has caught up.
    fn subscription(&self, batch_events: usize) -> Subscription {
        self.append(&["first"]);
        let options = SubscribeOptions { batch_events, ..SubscribeOptions::default() };
        let store = self.store();
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

struct SentBatches(Pushing);

impl std::fmt::Debug for SentBatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sent")
    }
}

impl LiveEvents for SentBatches {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Batch>> {
        let send = self.0.0.sends.lock().unwrap().pop_front();
        Poll::Ready(send.map(|send| send(&self.0)))
    }
}

#[test]
fn events_that_a_store_sends_again_are_delivered_once() {
    let store = Pushing::new();
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
    let store = Pushing::new();
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
    let store = Pushing::new();
    let mut subscription = store.subscription(10);
    store.send(|store| {
        let former = Pushing::new();
        former.append(&["first", "lost"]);
        // The log was restored to an earlier state, and has gone on from there.
        store.0.is_restored.store(true, Ordering::Relaxed);
        store.append(&["second"]);
        former.batch(Read::after(1.into()))
    });
    assert_eq!(delivered(&mut subscription), ["2 second"]);
}
