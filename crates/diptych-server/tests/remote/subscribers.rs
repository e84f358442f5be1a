//! Subscribers of live events, readers of a long log, and appends with one reply.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::store::{
    Append, Delivery, EventStore, Filter, Memory, Position, RawEvent, Read, Store,
    SubscribeOptions, Subscription, Tag,
};
use diptych_remote::{
    AppendAnswer, RemoteStore,
    wire::messages::{
        AppendRequest, Call, Event, SubscribeRequest, call_reply, log_client::LogClient,
        subscribe_reply,
    },
};
use diptych_store::{Limits, testing};
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    append_stream::open_session,
    served_log::{ServedLog, connect},
};

/// Longer than any answer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn about(account: u64) -> RawEvent {
    RawEvent::new(format!("type-{}", account % 3), vec![b'x'; 100]).tag(Tag::new("k", account))
}

fn put(store: &Store, events: impl IntoIterator<Item = RawEvent>) {
    let append = Append::events(events);
    pollster::block_on(async { store.append(append).await.unwrap().synced().await.unwrap() });
}

/// The positions of the events in the log that match.
fn matching(store: &Store, filter: &Filter) -> Vec<u64> {
    let (mut after, head) = (Position::START, store.head().position());
    let mut positions = Vec::new();
    while after < head {
        let batch = pollster::block_on(store.read(filter, Read::after(after))).unwrap();
        positions.extend(batch.iter().map(|event| event.position().get()));
        after = batch.upto();
    }
    positions
}

/// The store, with a count of the reads that have this filter.
fn counting(store: Store, filter: Filter) -> (Store, Arc<AtomicU64>) {
    let reads = Arc::new(AtomicU64::new(0));
    let counter = reads.clone();
    let counted = testing::WrappedStore::over(store).before(move |call| {
        if let testing::Call::Read(of, _) = call
            && *of == filter
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        async { Ok(()) }
    });
    (Store::new(counted), reads)
}

/// Follows until the subscription has passed this position. Returns the positions of its events.
async fn follow(subscription: &mut Subscription, upto: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    while subscription.upto() < Position::new(upto) {
        let delivery = timeout(PATIENCE, subscription.next()).await.expect("a delivery in time");
        if let Delivery::Batch(batch) = delivery.unwrap() {
            positions.extend(batch.iter().map(|event| event.position().get()));
        }
    }
    positions
}

async fn caught_up(subscription: &mut Subscription) {
    while !matches!(subscription.next().await.unwrap(), Delivery::CaughtUp { .. }) {}
}

fn subscribe(store: &RemoteStore, filter: &Filter, batch_events: usize) -> Subscription {
    let options = SubscribeOptions { batch_events, ..SubscribeOptions::default() };
    Store::new(store.clone()).subscribe(filter.clone(), Position::START, options)
}

#[test]
fn subscribers_that_come_while_others_append_miss_nothing_and_get_nothing_twice() {
    const WRITERS: u64 = 4;
    const COMMITS: u64 = 150;
    let store = Store::new(Memory::new());
    let served = ServedLog::start(store.clone());
    let filters: Vec<Filter> = (0..5)
        .map(|account| Filter::tag(Tag::new("k", account)))
        .chain([Filter::everything(), Filter::event_type("type-1")])
        .chain([Filter::tag(Tag::new("k", 1)).or(Filter::event_type("type-0"))])
        .collect();
    let end = WRITERS * COMMITS * 2;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                for number in 0..COMMITS {
                    put(store, [about((number + writer) % 5), about(number % 7)]);
                    if number % 8 == 0 {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
            });
        }
        for (number, filter) in filters.iter().cycle().take(24).enumerate() {
            let (store, address) = (&store, served.address);
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(7 * number as u64));
                let remote = connect(address, AppendAnswer::Synced);
                // Some take batches that are smaller than the pages of the server.
                let batch_events = if number % 3 == 0 { 2 } else { 4_096 };
                let mut subscription = subscribe(&remote, filter, batch_events);
                let found = pollster::block_on(async {
                    let runtime = Runtime::new().unwrap();
                    let _inside = runtime.enter();
                    let found = follow(&mut subscription, end).await;
                    runtime.shutdown_background();
                    found
                });
                assert_eq!(found, matching(store, filter), "{filter}");
            });
        }
    });
}

#[test]
fn a_live_subscription_of_a_store_gets_events_without_a_read() {
    let filter = Filter::tag(Tag::new("k", 1));
    let (store, reads) = counting(Store::new(Memory::new()), filter.clone());
    let served = ServedLog::start(store.clone());
    let remote = connect(served.address, AppendAnswer::Synced);
    Runtime::new().unwrap().block_on(async {
        let mut subscription = subscribe(&remote, &filter, 4_096);
        caught_up(&mut subscription).await;
        // The first events may come while the server still catches up by reads.
        let (mut number, mut without_read) = (0, 0);
        while without_read < 48 {
            let before = reads.load(Ordering::Relaxed);
            number += 1;
            put(&store, [about(1)]);
            assert_eq!(follow(&mut subscription, number).await, [number]);
            let is_live = reads.load(Ordering::Relaxed) == before;
            without_read = if is_live { without_read + 1 } else { 0 };
            assert!(number < 200, "the server still reads after {number} events");
        }
        // Other events move the position.
        let before = reads.load(Ordering::Relaxed);
        put(&store, [about(2)]);
        assert!(follow(&mut subscription, number + 1).await.is_empty());
        assert_eq!(reads.load(Ordering::Relaxed), before);
    });
}

#[test]
fn a_subscription_goes_on_after_its_server_was_away() {
    let store = Store::new(Memory::new());
    let served = ServedLog::start(store.clone());
    let address = served.address;
    let remote = connect(address, AppendAnswer::Synced);
    Runtime::new().unwrap().block_on(async {
        let mut subscription = subscribe(&remote, &Filter::everything(), 4_096);
        caught_up(&mut subscription).await;
        put(&store, [about(1)]);
        assert_eq!(follow(&mut subscription, 1).await, [1]);
        drop(served);
        put(&store, [about(2), about(3)]);
        let _again = ServedLog::start_at(store.clone(), address);
        assert_eq!(follow(&mut subscription, 3).await, [2, 3]);
        put(&store, [about(4)]);
        assert_eq!(follow(&mut subscription, 4).await, [4]);
    });
}

async fn raw(served: &ServedLog) -> LogClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    let log = LogClient::new(endpoint.connect().await.unwrap());
    log.max_decoding_message_size(64 << 20)
}

/// The window of the connection, the mailbox and the log are what such a client keeps waiting.
#[test]
fn a_client_that_reads_nothing_for_a_while_gets_every_event_later() {
    const EVENTS: u64 = 400;
    let store = Store::new(Memory::new());
    let served = ServedLog::start(store.clone());
    Runtime::new().unwrap().block_on(async {
        let request = SubscribeRequest { as_messages: true, ..SubscribeRequest::default() };
        let mut stream = raw(&served).await.subscribe(request).await.unwrap().into_inner();
        // It has caught up, so the server sends it live events.
        let first = stream.message().await.unwrap().unwrap().delivery.unwrap();
        assert!(matches!(first, subscribe_reply::Delivery::CaughtUp(_)), "{first:?}");
        for _ in 0..EVENTS {
            put(&store, [RawEvent::new("large", vec![0; 100 << 10])]);
        }
        let mut found = Vec::new();
        while found.len() < EVENTS as usize {
            let reply = timeout(PATIENCE, stream.message()).await.expect("a message in time");
            if let Some(subscribe_reply::Delivery::Batch(batch)) = reply.unwrap().unwrap().delivery
            {
                found.extend(batch.events.iter().map(|event| event.position));
            }
        }
        assert_eq!(found, (1..=EVENTS).collect::<Vec<_>>());
    });
}

/// A reader of a remote log that goes on where it stopped.
async fn read_all(remote: &RemoteStore, filter: &Filter, limit: usize) -> (Vec<u64>, usize) {
    let (mut positions, mut batches) = (Vec::new(), 0);
    let (mut after, head) = (Position::START, remote.fresh_head().await.unwrap());
    while after < head {
        let batch = remote.read(filter, Read::after(after).limit(limit)).await.unwrap();
        assert!(batch.upto() > after && batch.len() <= limit);
        positions.extend(batch.iter().map(|event| event.position().get()));
        (after, batches) = (batch.upto(), batches + 1);
    }
    (positions, batches)
}

#[test]
fn a_reader_that_goes_on_gets_every_event_once_in_batches_within_its_limit() {
    let mut limits = Limits::default();
    limits.batch_events = 500;
    let store = Store::new(Memory::new().limits(limits));
    for number in 0..100 {
        put(&store, (0..100).map(|event| about(number * event % 11)));
    }
    let served = ServedLog::start(store.clone());
    let remote = connect(served.address, AppendAnswer::Synced);
    Runtime::new().unwrap().block_on(async {
        for filter in [Filter::everything(), Filter::tag(Tag::new("k", 3))] {
            for limit in [usize::MAX, 70] {
                let (positions, batches) = read_all(&remote, &filter, limit).await;
                assert_eq!(positions, matching(&store, &filter), "{filter}, {limit}");
                assert!(batches > 1, "the read was one batch");
            }
        }
        // A reader that pauses for long makes a new call.
        let first = remote.read(&Filter::everything(), Read::all().limit(10)).await.unwrap();
        let read = Read::after(first.upto()).limit(10);
        let second = remote.read(&Filter::everything(), read).await.unwrap();
        sleep(Duration::from_millis(1_500)).await;
        let mut after = second.upto();
        for _ in 0..5 {
            let read = Read::after(after).limit(10);
            let batch = remote.read(&Filter::everything(), read).await.unwrap();
            let positions: Vec<_> = batch.iter().map(|event| event.position()).collect();
            assert_eq!(positions.first(), Some(&after.plus(1)));
            assert_eq!(positions.len() as u64, batch.upto().get() - after.get());
            after = batch.upto();
        }
        // The upper bound of a read holds for batches that were read ahead.
        let read = Read::after(after).limit(10).upto(after.plus(3));
        let batch = remote.read(&Filter::everything(), read).await.unwrap();
        assert_eq!((batch.len(), batch.upto()), (3, after.plus(3)));
    });
}

#[test]
fn readers_that_go_on_ask_for_later_batches_in_one_call() {
    let filter = Filter::everything();
    let (store, reads) = counting(Store::new(Memory::new()), filter.clone());
    for _ in 0..40 {
        put(&store, (0..100).map(about));
    }
    let served = ServedLog::start(store);
    let remote = connect(served.address, AppendAnswer::Synced);
    Runtime::new().unwrap().block_on(async {
        let read = async |after| {
            let read = Read::after(after).limit(100);
            remote.read(&filter, read).await.unwrap().upto()
        };
        let after = read(read(Position::START).await).await;
        // The server reads ahead of the client, so it has read more than the client asked for.
        let begin = Instant::now();
        while reads.load(Ordering::Relaxed) <= 2 {
            assert!(begin.elapsed() < PATIENCE, "the server does not read ahead");
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(after, Position::new(200));
    });
}

#[test]
fn many_reads_in_a_short_time_have_their_answers() {
    const READERS: usize = 64;
    let store = Store::new(Memory::new());
    for _ in 0..10 {
        put(&store, (0..100).map(about));
    }
    let served = ServedLog::start(store);
    let remote = connect(served.address, AppendAnswer::Synced);
    Runtime::new().unwrap().block_on(async {
        let reads = async |number: usize| {
            let filter = Filter::tag(Tag::new("k", number % 100));
            for _ in 0..60 {
                assert_eq!(remote.read(&filter, Read::all()).await.unwrap().len(), 10);
            }
        };
        futures_util::future::join_all((0..READERS).map(reads)).await;
    });
}

/// The replies of a session to its calls, by number.
async fn replies(served: &ServedLog, synced_only: bool) -> Vec<(u64, bool)> {
    const CALLS: u64 = 20;
    let event = Event { r#type: "a".to_owned(), ..Event::default() };
    let events = vec![event];
    let call = |number| Call { number, events: events.clone(), synced_only, ..Call::default() };
    let calls = (1..=CALLS).map(call).collect();
    let first = AppendRequest { calls, ..AppendRequest::default() };
    let (_requests, mut stream) = open_session(&mut raw(served).await, 7, first).await;
    let (mut found, mut synced) = (Vec::new(), 0);
    while synced < CALLS {
        let reply = timeout(PATIENCE, stream.message()).await.expect("a message in time");
        for reply in reply.unwrap().unwrap().replies {
            let is_synced = match reply.outcome.unwrap() {
                call_reply::Outcome::Accepted(place) => {
                    assert_eq!(place.first, reply.number, "the first session has the log alone");
                    place.synced
                }
                call_reply::Outcome::Synced(_) => true,
                call_reply::Outcome::Failure(failure) => panic!("{failure:?}"),
            };
            synced += u64::from(is_synced);
            found.push((reply.number, is_synced));
        }
    }
    found
}

#[test]
fn a_call_that_waits_for_the_sync_only_has_one_reply() {
    let folder = tempfile::tempdir().unwrap();
    let log = diptych_log::Log::open(folder.path(), diptych_log::LogOptions::default()).unwrap();
    let served = ServedLog::start(Store::new(log.clone()));
    Runtime::new().unwrap().block_on(async {
        let found = replies(&served, true).await;
        assert_eq!(found, (1..=20).map(|number| (number, true)).collect::<Vec<_>>());
        // The session has the outcomes, so a stream that asks for both replies gets one, too.
        let again = replies(&served, false).await;
        assert_eq!(again, found);
    });
    drop(served);
    log.close().unwrap();
}
