use std::{
    sync::atomic::AtomicU64,
    task::{Context, Waker},
};

use diptych::store::{Append, FilterItem, Memory, RawEvent, Tag};
use diptych_remote::wire::{
    EncodedReply, batch_of,
    messages::{SubscribeReply, subscribe_reply::Delivery},
};
use diptych_store::testing::{Call, WrappedStore};
use prost::Message;

use super::*;
use crate::hinge::live::mailbox::MAILBOX_BYTES;

async fn put(store: &Store, events: impl IntoIterator<Item = RawEvent>) {
    store.append(Append::events(events)).await.unwrap().synced().await.unwrap();
}

fn about(number: u64, payload: usize) -> RawEvent {
    RawEvent::new("kind", vec![0; payload]).tag(Tag::new("k", number))
}

/// The positions of the events in a delivery.
fn positions(delivery: &EncodedReply) -> Vec<u64> {
    let message = SubscribeReply::decode(delivery.bytes().clone()).unwrap();
    let Some(Delivery::Batch(batch)) = message.delivery else { panic!("no batch") };
    batch_of(batch).unwrap().iter().map(|event| event.position().get()).collect()
}

#[tokio::test]
async fn subscribers_of_one_filter_share_one_read_and_one_encoding() {
    let reads = Arc::new(AtomicU64::new(0));
    let counter = reads.clone();
    let store = Store::new(WrappedStore::new(Memory::new()).before(move |call| {
        if let Call::Read(..) = call {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        async { Ok(()) }
    }));
    let (feeds, filter) = (LiveFeeds::default(), Filter::tag(Tag::new("k", 1)));
    let members: Vec<_> = (0..10).map(|_| feeds.join(&store, &filter)).collect();
    put(&store, [about(1, 3), about(2, 3), about(1, 3)]).await;
    let mut encodings = Vec::new();
    for member in &members {
        let page = member.next().await.unwrap();
        encodings.push(page.delivery(member.from(), false).unwrap());
    }
    assert_eq!(positions(&encodings[0]), [1, 3]);
    let first = encodings[0].bytes().as_ptr();
    assert!(encodings.iter().all(|encoding| encoding.bytes().as_ptr() == first));
    assert_eq!(reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_subscriber_without_a_matching_event_is_not_woken_and_its_position_moves() {
    let store = Store::new(Memory::new());
    let feeds = LiveFeeds::default();
    let idle = feeds.join(&store, &Filter::tag(Tag::new("k", 1)));
    let other = feeds.join(&store, &Filter::everything());
    let mut waiting = watched(idle.next());
    assert!(waiting.is_pending());
    for _ in 0..5 {
        put(&store, [about(2, 3)]).await;
        other.next().await.unwrap();
    }
    assert!(waiting.is_pending_and_was_not_woken());
    drop(waiting);
    assert_eq!(idle.settled(), Some(Position::new(5)));
    put(&store, [about(1, 3)]).await;
    let page = idle.next().await.unwrap();
    assert_eq!(positions(&page.delivery(idle.from(), false).unwrap()), [6]);
}

/// A future with a waker that counts.
struct FutureWithCount<F> {
    future: std::pin::Pin<Box<F>>,
    woken: Arc<CountWaker>,
}

#[derive(Default)]
struct CountWaker(AtomicU64);

impl std::task::Wake for CountWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn watched<F: Future>(future: F) -> FutureWithCount<F> {
    FutureWithCount { future: Box::pin(future), woken: Arc::default() }
}

impl<F: Future> FutureWithCount<F> {
    fn is_pending(&mut self) -> bool {
        let waker = Waker::from(self.woken.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
    }

    fn is_pending_and_was_not_woken(&mut self) -> bool {
        self.woken.0.load(Ordering::SeqCst) == 0 && self.is_pending()
    }
}

#[tokio::test]
async fn a_subscriber_that_takes_no_pages_loses_its_mailbox_and_the_memory_of_them() {
    let store = Store::new(Memory::new());
    let feeds = LiveFeeds::default();
    let slow = feeds.join(&store, &Filter::everything());
    let quick = feeds.join(&store, &Filter::everything());
    let commits = 2 * MAILBOX_BYTES as u64 / (256 << 10);
    for _ in 0..commits {
        put(&store, [about(1, 256 << 10)]).await;
        quick.next().await.unwrap();
        let waiting = slow.feed.memory.bytes();
        assert!(waiting <= MAILBOX_BYTES + (512 << 10), "{waiting} bytes wait");
    }
    assert!(slow.next().await.is_none(), "a slow subscriber reads from the log");
    assert_eq!(slow.settled(), None, "it does not have everything");
    assert_eq!(slow.feed.memory.bytes(), 0);
}

#[tokio::test]
async fn a_feed_that_ends_closes_its_mailboxes_and_makes_place_for_another() {
    let store = Store::new(Memory::new());
    let feeds = LiveFeeds::default();
    let member = feeds.join(&store, &Filter::everything());
    feeds.current.lock().as_ref().unwrap().task.abort();
    assert!(member.next().await.is_none());
    // The next subscriber has a new feed.
    let next = feeds.join(&store, &Filter::everything());
    put(&store, [about(1, 3)]).await;
    assert!(next.next().await.is_some());
}

/// A filter of up to three items over few names.
fn random_filter(dice: &mut fastrand::Rng) -> Filter {
    let items = (0..dice.usize(0..4)).map(|_| {
        let types = (0..dice.usize(0..3)).map(|_| format!("type-{}", dice.u8(0..4)));
        let item = types.fold(FilterItem::everything(), FilterItem::or_type);
        let tags = (0..dice.usize(0..3)).map(|_| Tag::new("k", dice.u8(0..5)));
        tags.fold(item, FilterItem::and_tag)
    });
    items.collect()
}

#[tokio::test]
async fn every_subscriber_gets_the_events_that_its_filter_matches_and_no_others() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let store = Store::new(Memory::new());
    let feeds = LiveFeeds::default();
    let mut members = Vec::new();
    for round in 0..60 {
        let events = (0..dice.usize(1..5)).map(|_| {
            let event = RawEvent::new(format!("type-{}", dice.u8(0..4)), "x");
            let tags: Vec<u8> = (0..3).map(|_| dice.u8(0..5)).collect();
            tags.into_iter().fold(event, |event, tag| event.tag(Tag::new("k", tag)))
        });
        put(&store, events.collect::<Vec<_>>()).await;
        if round % 2 == 0 {
            let filter = random_filter(&mut dice);
            members.push((filter.clone(), feeds.join(&store, &filter)));
        }
        if round % 7 == 6 {
            members.swap_remove(dice.usize(..members.len()));
        }
    }
    let head = store.head().position();
    for (filter, member) in members {
        let wanted = store.read(&filter, Read::after(member.from())).await.unwrap();
        let wanted: Vec<_> = wanted.iter().map(|event| event.position().get()).collect();
        let mut found = Vec::new();
        while member.settled().is_none_or(|settled| settled < head) {
            if let Ok(page) =
                tokio::time::timeout(std::time::Duration::from_millis(20), member.next()).await
            {
                let page = page.expect("nobody is too slow");
                found.extend(positions(&page.delivery(member.from(), false).unwrap()));
            }
        }
        assert_eq!(found, wanted, "seed {seed}, filter {filter}");
    }
}
