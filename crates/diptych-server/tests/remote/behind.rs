//! A subscriber that is too slow is told that it fell behind, and by how much. It misses nothing.

use std::sync::Arc;

use diptych::store::{Append, Filter, Memory, RawEvent, Store, Tag};
use diptych_remote::wire::messages::{
    Filter as FilterMessage, FilterItem, SubscribeReply, SubscribeRequest, log_client::LogClient,
    subscribe_reply::Delivery,
};
use diptych_server::ServerLimits;
use diptych_store::testing::{Call as StoreCall, WrappedStore};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use tonic::{Streaming, transport::Endpoint};

use crate::{
    door_server::{DoorServer, LONG, in_time},
    http_json::Events,
};

/// A subscriber that is more than this number of events behind is told so.
const BEHIND_EVENTS: u64 = 65_536;
/// More than that, and more than the mailbox of a subscriber and a connection hold beside.
const EVENTS: u64 = 120_000;
/// The fewest bytes that a stream or a connection of HTTP/2 may have on their way.
const WINDOW_BYTES: u32 = 65_535;

async fn put(store: &Store, events: impl IntoIterator<Item = RawEvent>) {
    store.append(Append::events(events)).await.unwrap().synced().await.unwrap();
}

fn subscription(tag: &str) -> SubscribeRequest {
    let item = FilterItem { types: Vec::new(), tags: vec![tag.to_owned()] };
    let filter = Some(FilterMessage { items: vec![item] });
    SubscribeRequest { filter, as_messages: true, ..SubscribeRequest::default() }
}

/// The next delivery with news.
async fn news(stream: &mut Streaming<SubscribeReply>) -> Delivery {
    in_time(async {
        loop {
            match stream.message().await.unwrap().unwrap().delivery.unwrap() {
                Delivery::Heartbeat(_) => {}
                news => return news,
            }
        }
    })
    .await
}

/// The next event of a stream over HTTP with news: its name, its id and its data.
async fn named(events: &mut Events) -> (String, String, Value) {
    in_time(async {
        loop {
            let event = events.named().await;
            if !event.0.is_empty() {
                return event;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_reads_nothing_is_told_how_far_it_fell_behind() {
    let mut limits = ServerLimits::of_log();
    // The client of this test lets the server wait.
    limits.write_time = LONG;
    let server = DoorServer::start(|server| server.limits(limits)).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let endpoint = endpoint
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    // A connection for each, because the slow one keeps the window of its connection.
    let subscribe = async |tag| {
        let client = LogClient::new(endpoint.connect().await.unwrap());
        let mut client = client.max_decoding_message_size(64 << 20);
        let mut stream = client.subscribe(subscription(tag)).await.unwrap().into_inner();
        let first = news(&mut stream).await;
        assert!(matches!(first, Delivery::CaughtUp(_)), "{first:?}");
        stream
    };
    let mut slow = subscribe("n:1").await;
    let mut of_last = subscribe("n:2").await;
    for _ in 0..EVENTS / 4_000 {
        let event = RawEvent::new("counted", vec![b'x'; 200]).tag(Tag::new("n", 1));
        put(&server.store, std::iter::repeat_n(event, 4_000)).await;
    }
    put(&server.store, [RawEvent::new("last", "").tag(Tag::new("n", 2))]).await;
    // The server gives events to its subscribers in order. So it has given all to the slow one.
    let last = news(&mut of_last).await;
    assert!(matches!(last, Delivery::Batch(_)), "{last:?}");

    let (mut positions, mut fell_behind) = (Vec::new(), None);
    let caught_up = loop {
        match news(&mut slow).await {
            Delivery::Batch(batch) => {
                positions.extend(batch.events.iter().map(|event| event.position));
            }
            Delivery::FellBehind(told) => {
                assert_eq!(fell_behind.replace(told.by), None, "it was told twice");
                let last = positions.last().copied().unwrap_or(0);
                assert_eq!(told.by, EVENTS + 1 - last, "the distance to the head");
            }
            Delivery::CaughtUp(caught_up) => break caught_up.upto,
            Delivery::Heartbeat(_) => {}
        }
    };
    assert!(fell_behind.is_some_and(|by| by > BEHIND_EVENTS), "{fell_behind:?}");
    assert_eq!(caught_up, EVENTS + 1);
    assert!(positions.into_iter().eq(1..=EVENTS), "events are missing, or there twice");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_sent_events_say_that_their_reader_fell_behind_and_by_how_much() {
    let memory = Store::new(Memory::new());
    let filter = Filter::tag(Tag::new("n", 1));
    let (reads, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (told, passed) = (reads.clone(), gate.clone());
    // The reads of the subscriber take as long as the test wants.
    let store = WrappedStore::over(memory.clone()).before(move |call| {
        let is_of_subscriber = matches!(call, StoreCall::Read(of, _) if *of == filter);
        let (told, passed) = (told.clone(), passed.clone());
        async move {
            if is_of_subscriber {
                told.notify_one();
                let _passed = passed.acquire().await;
            }
            Ok(())
        }
    });
    let server = DoorServer::over(Store::new(store), |server| server).await;
    let mut events = Events::open(server.address, "/v1/logs/log/events?tag=n:1", None).await;
    assert_eq!(named(&mut events).await.0, "caught-up");
    let event = || RawEvent::new("counted", "1").tag(Tag::new("n", 1));
    put(&memory, [event()]).await;
    in_time(reads.notified()).await;
    for _ in 0..2 {
        put(&memory, std::iter::repeat_n(event(), 40_000)).await;
    }
    gate.add_permits(1);

    let (mut upto, mut fell_behind) = (0, None);
    loop {
        let (name, id, data) = named(&mut events).await;
        match name.as_str() {
            "batch" => {
                let events = data["events"].as_array().unwrap();
                for event in events {
                    upto += 1;
                    assert_eq!(event["position"], upto);
                }
            }
            "fell-behind" => {
                assert_eq!(id, upto.to_string(), "a reader that comes again goes on from there");
                let by = data["by"].as_u64().unwrap();
                assert_eq!((fell_behind.replace(by), by), (None, 80_001 - upto));
            }
            "caught-up" => {
                break assert_eq!((id.as_str(), &data["upto"]), ("80001", &80_001.into()));
            }
            other => panic!("{other}: {data}"),
        }
    }
    assert!(fell_behind.is_some_and(|by| by > BEHIND_EVENTS), "{fell_behind:?}");
    assert_eq!(upto, 80_001);
    server.stop().await;
}
