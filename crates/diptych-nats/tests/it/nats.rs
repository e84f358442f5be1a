//! A service publishes a feed over NATS, and another one takes it in.

mod bridges;
mod hostile;
mod server;
mod services;

use diptych::{
    Memory,
    collaboration::{IntakeState, IntakeStatus},
    store::Store,
};
use diptych_nats::{BridgeOptions, BridgeState, async_nats::jetstream};

use self::{
    server::NatsServer,
    services::{Ordering, Shipping},
};

/// The numbers from 0 up to this one, each once and in order.
fn numbers(upto: u64) -> Vec<u64> {
    (0..upto).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_is_taken_in_over_nats_once_and_in_order() {
    let Some(server) = NatsServer::start() else { return };
    let ordering = Ordering::start().await;
    ordering.place(0..2_500).await;
    let mut bridge = ordering.bridge(server.client().await).await;
    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(2_500));

    // Single events come by the question that waits.
    for order in 2_500..2_520 {
        ordering.place(order..order + 1).await;
        shipping.until(|status| status.position == ordering.head()).await;
    }
    assert_eq!(shipping.parcels().await, numbers(2_520));
    let report = bridge.until(|report| report.position == ordering.head()).await.unwrap();
    assert_eq!((report.state, report.stored), (BridgeState::Live, 2_520 * 3));
    // An event that is not for the feed leaves the intake at the end of the log.
    ordering.append_other().await;
    let is_live = |status: &IntakeStatus| status.state == IntakeState::Live;
    let is_at_end = |status: &IntakeStatus| is_live(status) && status.position == ordering.head();
    shipping.until(is_at_end).await;

    // The copy stays when the source and NATS are away.
    ordering.stop().await;
    drop(server);
    assert_eq!(shipping.parcels().await, numbers(2_520));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_a_cloud_event_that_other_programs_read() {
    let Some(server) = NatsServer::start() else { return };
    let (ordering, client) = (Ordering::start().await, server.client().await);
    ordering.place(7..8).await;
    let mut bridge = ordering.bridge(client.clone()).await;
    bridge.until(|report| report.stored == 3).await.unwrap();
    let stream = jetstream::new(client).get_stream("orders").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(message.subject.as_str(), "orders.order-accepted.v1");
    let form = message.headers.get("content-type").unwrap().as_str();
    assert_eq!(form, "application/cloudevents+json");
    let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "order-accepted.v1");
    assert_eq!(event["subject"], "order:7");
    assert_eq!(event["data"], serde_json::json!({ "order": 7, "line": 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let Some(mut server) = NatsServer::start() else { return };
    let ordering = Ordering::start().await;
    let bridge = ordering.bridge(server.client().await).await;
    let shipping = Shipping::start(server.client().await, &Store::new(Memory::new())).await;
    for round in 0..5 {
        ordering.place(round * 400..round * 400 + 200).await;
        server.kill();
        ordering.place(round * 400 + 200..round * 400 + 400).await;
        server.restart();
    }
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(2_000));
    assert_eq!(bridge.report().position, ordering.head());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replicated_stream_takes_a_feed_and_survives_the_loss_of_a_server() {
    let Some(mut servers) = NatsServer::start_cluster() else { return };
    let ordering = Ordering::start().await;
    ordering.place(0..1_000).await;
    let mut options = BridgeOptions::default();
    options.stream.num_replicas = 3;
    let (mut bridge, _) = ordering.bridge_with(servers[0].client().await, options).await;
    bridge.until(|report| report.position == ordering.head()).await.unwrap();
    let store = Store::new(Memory::new());
    let shipping = Shipping::start(servers[0].client().await, &store).await;
    servers[2].kill();
    ordering.place(1_000..2_000).await;
    shipping.until(|status| status.position == ordering.head()).await;
    assert_eq!(shipping.parcels().await, numbers(2_000));
    assert_eq!(bridge.report().stored, 6_000);
}
