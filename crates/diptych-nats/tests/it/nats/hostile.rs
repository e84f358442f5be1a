//! Streams that lose messages, belong to others, or follow another log.

use std::time::Duration;

use diptych::{
    Memory, Position,
    collaboration::{
        FeedCursor, FeedError, FeedHandle, FeedName, FeedPage, FeedRead, FeedSource, IntakeState,
    },
    store::Store,
};
use diptych_nats::{
    BridgeError, BridgeOptions, BridgeReport, BridgeState, NatsBridge, NatsFeed, StreamError,
    async_nats::{
        Client,
        jetstream::{self, stream::Config},
    },
};
use tokio::task::JoinHandle;

use super::{
    numbers,
    server::{NatsServer, create_again},
    services::{Ordering, Shipping},
};

/// Longer than the waits of the bridges.
const SILENCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_of_another_log_ends_and_leaves_the_stream_as_it_is() {
    let Some(server) = NatsServer::start() else { return };
    let client = server.client().await;
    let ordering = Ordering::start().await;
    ordering.place(0..3).await;
    let (mut status, running) =
        ordering.bridge_with(client.clone(), BridgeOptions::default()).await;
    status.until(|report| report.position == ordering.head()).await.unwrap();
    running.abort();

    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    shipping.until(|status| status.state == IntakeState::Live).await;
    // A log that is shorter than the stream, and a longer one. They leave the readers as they are.
    for orders in [1, 5] {
        let other = Ordering::start().await;
        other.place(0..orders).await;
        let (_, running) = other.bridge_with(client.clone(), BridgeOptions::default()).await;
        let error = running.await.unwrap();
        assert!(matches!(error, BridgeError::OtherHistory { .. }), "{error}");
    }
    let page = NatsFeed::new(server.client().await, "orders");
    let page = page.read(FeedRead::after(FeedCursor::End)).await.unwrap();
    assert_eq!((page.log, page.upto), (ordering.log(), ordering.head()));

    // The readers learn of a log that was restored.
    let restored = |page: &mut FeedPage| {
        page.log.epoch = page.log.epoch.next();
        page.events.clear();
    };
    let error = altered(&ordering, client.clone(), restored).await.await.unwrap();
    assert!(matches!(error, BridgeError::OtherHistory { .. }), "{error}");
    let stopped =
        shipping.until(|status| matches!(status.state, IntakeState::Stopped { .. })).await;
    let IntakeState::Stopped { reason } = stopped.state else { unreachable!() };
    assert!(reason.contains("was restored"), "{reason}");
    let stream = jetstream::new(client).get_stream("orders").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intake_stalls_while_no_bridge_is_at_work() {
    let Some(server) = NatsServer::start() else { return };
    let ordering = Ordering::start().await;
    ordering.place(0..3).await;
    let feed = NatsFeed::new(server.client().await, "orders").bridge_silence(SILENCE);
    let shipping = Shipping::over(feed, &Store::new(Memory::new())).await;
    let stalled =
        shipping.until(|status| matches!(status.state, IntakeState::Stalled { .. })).await;
    assert!(matches!(&stalled.state, IntakeState::Stalled { reason } if reason.contains("orders")));
    let options = BridgeOptions::default();
    let (_, running) = ordering.bridge_with(server.client().await, options).await;
    shipping.until(|status| status.state == IntakeState::Live).await;
    running.abort();
    let stalled =
        shipping.until(|status| matches!(status.state, IntakeState::Stalled { .. })).await;
    let IntakeState::Stalled { reason } = stalled.state else { unreachable!() };
    assert!(reason.contains("its bridge wrote nothing for 3s"), "{reason}");
    let _bridge = ordering.bridge(server.client().await).await;
    ordering.place(3..4).await;
    shipping.until(|status| status.state == IntakeState::Live).await;
    assert_eq!(shipping.parcels().await, numbers(4));
}

/// A feed whose pages are altered on their way.
struct AlteredFeed {
    feed: FeedHandle,
    alter: fn(&mut FeedPage),
}

impl FeedSource for AlteredFeed {
    fn name(&self) -> String {
        "altered orders".to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let mut page = self.feed.page(read).await?;
        (self.alter)(&mut page);
        Ok(page)
    }
}

/// A bridge of an altered feed to the stream `orders`.
async fn altered(
    ordering: &Ordering,
    client: Client,
    alter: fn(&mut FeedPage),
) -> JoinHandle<BridgeError> {
    let feed = AlteredFeed { feed: ordering.feed(), alter };
    let mut options = BridgeOptions::default();
    options.wait = Duration::from_secs(1);
    let bridge = NatsBridge::open(client, "orders", feed, options).await.unwrap();
    tokio::spawn(bridge.run())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_of_another_feed_of_the_log_ends() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..3).await;
    let mut bridge = ordering.bridge(client.clone()).await;
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    ordering.place(3..4).await;
    let renamed = |page: &mut FeedPage| {
        for event in &mut page.events {
            let feed = FeedName { log: page.log, feed: "invoices".to_owned() };
            event.source = feed.to_string();
        }
    };
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    let other = altered(&ordering, client.clone(), renamed).await;
    ordering.place(4..5).await;
    let error = other.await.unwrap();
    let BridgeError::OtherFeed { before, now, .. } = &error else { panic!("{error}") };
    assert_eq!((before.as_str(), now.as_str()), ("orders", "invoices"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_stores_no_page_with_a_gap() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..3).await;
    let feed = AlteredFeed { feed: ordering.feed(), alter: |page| drop(page.events.remove(4)) };
    let options = BridgeOptions::default();
    let bridge = NatsBridge::open(client.clone(), "orders", feed, options).await.unwrap();
    let mut status = bridge.status();
    let running = tokio::spawn(bridge.run());
    let is_stalled = |report: &BridgeReport| match &report.state {
        BridgeState::Stalled { reason } => reason.contains("an event is missing"),
        _ => false,
    };
    status.until(is_stalled).await.unwrap();
    running.abort();
    let stream = jetstream::new(client).get_stream("orders").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intake_from_now_on_leaves_out_events_that_the_stream_gets_later() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..5).await;
    // The bridge is behind.
    let behind = |page: &mut FeedPage| {
        page.upto = Position::new(2);
        page.events.retain(|event| event.place().unwrap().position <= Position::new(2));
    };
    let running = altered(&ordering, client.clone(), behind).await;
    let feed = NatsFeed::new(client.clone(), "orders");
    let is_behind = async || {
        let page = feed.read(FeedRead::after(FeedCursor::Position(Position::START))).await;
        page.is_ok_and(|page| page.upto == Position::new(2) && page.head == ordering.head())
    };
    while !is_behind().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let page = feed.read(FeedRead::after(FeedCursor::End)).await.unwrap();
    assert_eq!((page.upto, page.events.len()), (ordering.head(), 0));
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_at_rest_fills_a_stream_that_was_made_anew() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..3).await;
    let mut bridge = ordering.bridge(client.clone()).await;
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    let context = jetstream::new(client.clone());
    let stream = context.get_stream("orders").await.unwrap();
    let settings = stream.cached_info().config.clone();
    context.delete_stream("orders").await.unwrap();
    create_again(&context, settings).await;
    bridge.until(|report| report.stored == 18).await.unwrap();
    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_lost_all_messages_goes_on_by_its_mark_or_by_a_position() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..3).await;
    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    let (mut status, running) =
        ordering.bridge_with(client.clone(), BridgeOptions::default()).await;
    // The mark is written after the last page.
    status.until(|report| report.position == ordering.head()).await.unwrap();
    shipping.until(|status| status.state == IntakeState::Live).await;
    running.abort();
    let context = jetstream::new(client.clone());
    let stream = context.get_stream("orders").await.unwrap();
    stream.purge().await.unwrap();

    // An intake that lacks the events is told so.
    let late = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    let stalled = late.until(|status| matches!(status.state, IntakeState::Stalled { .. })).await;
    let IntakeState::Stalled { reason } = stalled.state else { unreachable!() };
    assert!(reason.contains("had events up to position 3"), "{reason}");

    let (mut status, running) =
        ordering.bridge_with(client.clone(), BridgeOptions::default()).await;
    ordering.place(3..6).await;
    status.until(|report| report.position == ordering.head()).await.unwrap();
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(6));
    running.abort();
    stream.purge().await.unwrap();
    context.delete_key_value("diptych-orders").await.unwrap();

    let (_, running) = ordering.bridge_with(client.clone(), BridgeOptions::default()).await;
    let error = running.await.unwrap();
    assert!(matches!(error, BridgeError::PlaceLost { lost: 18, .. }), "{error}");
    let mut options = BridgeOptions::default();
    options.after = Some(ordering.head());
    let (mut status, _) = ordering.bridge_with(client, options).await;
    ordering.place(6..9).await;
    status.until(|report| report.position == ordering.head()).await.unwrap();
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intake_stalls_if_events_that_it_lacks_were_removed_from_the_stream() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..10).await;
    let mut bridge = ordering.bridge(client.clone()).await;
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    let stream = jetstream::new(client).get_stream("orders").await.unwrap();
    stream.purge().sequence(7).await.unwrap();
    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    let stalled =
        shipping.until(|status| matches!(status.state, IntakeState::Stalled { .. })).await;
    let IntakeState::Stalled { reason } = stalled.state else { unreachable!() };
    assert!(reason.contains("begins with 00000000000000000003"), "{reason}");
    assert!(reason.contains("were removed"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_message_ends_the_bridge_and_stalls_the_intake() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..3).await;
    let (mut status, running) =
        ordering.bridge_with(client.clone(), BridgeOptions::default()).await;
    status.until(|report| report.position == ordering.head()).await.unwrap();
    let context = jetstream::new(client);
    context.publish("orders.other", "no event".into()).await.unwrap().await.unwrap();
    ordering.place(3..4).await;
    let error = running.await.unwrap();
    assert!(error.to_string().contains("message 10 of the stream is no event"), "{error}");
    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    let stalled =
        shipping.until(|status| matches!(status.state, IntakeState::Stalled { .. })).await;
    let IntakeState::Stalled { reason } = stalled.state else { unreachable!() };
    assert!(reason.contains("message 10 of the stream is no event"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_long_for_the_server_ends_the_bridge_with_the_setting_to_raise() {
    let Some(server) = NatsServer::start() else { return };
    let ordering = Ordering::start().await;
    ordering.place(0..1).await;
    ordering.place_padded(1, 2 << 20).await;
    let options = BridgeOptions::default();
    let (status, running) = ordering.bridge_with(server.client().await, options).await;
    let error = running.await.unwrap();
    let BridgeError::Event { id, reason, .. } = error else { panic!("{error}") };
    assert_eq!(id, "00000000000000000002");
    assert!(reason.contains("max_payload"), "{reason}");
    drop(status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_other_settings_is_refused_with_what_to_change() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    let context = jetstream::new(client.clone());
    let subjects = |subject: &str| vec![subject.to_owned()];
    let name = "orders".to_owned();
    let settings = Config { name: name.clone(), subjects: subjects("a.>"), ..Config::default() };
    context.create_stream(settings).await.unwrap();
    let open = || async {
        let options = BridgeOptions::default();
        NatsBridge::open(client.clone(), "orders", ordering.feed(), options).await.map(drop)
    };
    let refused = open().await.unwrap_err().to_string();
    assert!(refused.contains("a.>") && refused.contains("orders.>"), "{refused}");
    context.delete_stream("orders").await.unwrap();
    let settings = Config {
        name,
        subjects: subjects("orders.>"),
        max_messages_per_subject: 1,
        ..Config::default()
    };
    create_again(&context, settings).await;
    let refused = open().await.unwrap_err().to_string();
    assert!(refused.contains("removes messages from its middle"), "{refused}");
    let options = BridgeOptions::default();
    let named = NatsBridge::open(client.clone(), "a name", ordering.feed(), options).await;
    assert!(matches!(named, Err(StreamError::Unusable { .. })));
}
