//! Bridges that are dropped, doubled, or end half-way.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use diptych::{
    Memory,
    collaboration::{FeedError, FeedHandle, FeedPage, FeedRead, FeedSource},
    store::Store,
};
use diptych_nats::{
    BridgeOptions, BridgeReport, BridgeState, NatsBridge,
    async_nats::{
        Client,
        jetstream::{self, message::PublishMessage},
    },
};

use super::{
    numbers,
    server::{NatsServer, create_again},
    services::{Ordering, Shipping},
};

/// How many messages the stream has, and what their ids are.
async fn ids(client: &Client) -> Vec<String> {
    let stream = jetstream::new(client.clone()).get_stream("orders").await.unwrap();
    let mut ids = Vec::new();
    for number in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(number).await.unwrap();
        let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        ids.push(event["id"].as_str().unwrap().to_owned());
    }
    ids
}

/// The ids of three events for each of these positions.
fn three_for_each(positions: u64) -> Vec<String> {
    let parts = |position| {
        [format!("{position:020}"), format!("{position:020}-1"), format!("{position:020}-2")]
    };
    (1..=positions).flat_map(parts).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_that_are_dropped_at_any_time_store_each_event_once() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..600).await;
    for number in 1..=30 {
        let options = BridgeOptions::default();
        let (mut status, running) = ordering.bridge_with(client.clone(), options).await;
        // The pages are of 256 events, so most bridges end within one.
        let reached = status.until(|report| report.stored > 0 || report.head.get() == 600);
        let patience = Duration::from_millis(number);
        let _ = tokio::time::timeout(patience, reached).await;
        running.abort();
    }
    let mut bridge = ordering.bridge(client.clone()).await;
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    assert_eq!(ids(&client).await, three_for_each(600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_that_run_at_once_store_each_event_once() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    let mut bridges = Vec::new();
    for _ in 0..3 {
        bridges.push(ordering.bridge(server.client().await).await);
    }
    ordering.place(0..300).await;
    for bridge in &mut bridges {
        bridge.until(|report| report.position == ordering.head()).await.unwrap();
    }
    assert_eq!(ids(&client).await, three_for_each(300));
    let stored: u64 = bridges.iter().map(|bridge| bridge.report().stored).sum();
    assert!(stored <= 900, "the bridges count {stored} messages of 900");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_position_are_taken_in_together_after_a_bridge_ended_between_them() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(0..2).await;
    let (mut status, running) =
        ordering.bridge_with(client.clone(), BridgeOptions::default()).await;
    status.until(|report| report.stored == 6).await.unwrap();
    running.abort();

    // A stream as a bridge leaves it that ends after the fourth event.
    let context = jetstream::new(client.clone());
    let stream = context.get_stream("orders").await.unwrap();
    let mut messages = Vec::new();
    for number in 1..=4 {
        messages.push(stream.get_raw_message(number).await.unwrap());
    }
    let settings = stream.cached_info().config.clone();
    context.delete_stream("orders").await.unwrap();
    create_again(&context, settings).await;
    for message in messages {
        let same = PublishMessage::build().payload(message.payload).headers(message.headers);
        let sent = context.send_publish(message.subject, same).await.unwrap();
        sent.await.unwrap();
    }

    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    shipping.until(|status| status.position.get() == 1).await;
    assert_eq!(shipping.parcels().await, [0]);
    let mut bridge = ordering.bridge(client.clone()).await;
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(2));
    assert_eq!(ids(&client).await, three_for_each(2));
}

/// A feed that refuses, then does not answer, and then does both right.
struct Capricious {
    feed: FeedHandle,
    questions: AtomicU64,
}

impl FeedSource for Capricious {
    fn name(&self) -> String {
        "capricious orders".to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        match self.questions.fetch_add(1, SeqCst) {
            0 => Err(FeedError::Refused { reason: "the token is old".to_owned() }),
            1 => std::future::pending().await,
            _ => self.feed.page(read).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_tries_again_after_a_refusal_and_after_silence() {
    let Some(server) = NatsServer::start() else { return };
    let ordering = Ordering::start().await;
    ordering.place(0..2).await;
    let feed = Capricious { feed: ordering.feed(), questions: AtomicU64::new(0) };
    let mut options = BridgeOptions::default();
    (options.wait, options.answer_within) = (Duration::ZERO, Duration::from_millis(50));
    let client = server.client().await;
    let bridge = NatsBridge::open(client.clone(), "orders", feed, options).await.unwrap();
    let mut status = bridge.status();
    let running = tokio::spawn(bridge.run());
    for words in ["the token is old", "no answer of capricious orders within 50ms"] {
        let is_stalled = |report: &BridgeReport| match &report.state {
            BridgeState::Stalled { reason } => reason.contains(words),
            _ => false,
        };
        status.until(is_stalled).await.unwrap();
    }
    status.until(|report| report.position == ordering.head()).await.unwrap();
    running.abort();
    assert_eq!(ids(&client).await, three_for_each(2));
}
