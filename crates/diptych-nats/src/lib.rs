//! The [feeds](diptych::collaboration) of Diptych over NATS JetStream.
//!
//! - [`NatsBridge`] copies a feed into a stream. It runs beside the service that publishes.
//! - [`NatsFeed`] reads that stream. It is the source of an intake in another service.
//!
//! ```text
//! feed -> NatsBridge -> stream of JetStream -> NatsFeed -> intake
//!                                           -> programs of other languages
//! ```
//!
//! An intake has the same promises as over HTTP: each event once, in order, and with an answer if
//! one is missing. The service that publishes can be away while others read, and a thousand readers
//! cost it nothing.
//!
//! ```no_run
//! use diptych::{App, collaboration::FeedHandle};
//! use diptych_nats::{BridgeOptions, NatsBridge, NatsFeed, async_nats};
//!
//! # async fn example(feed: FeedHandle) -> Result<(), Box<dyn std::error::Error>> {
//! let client = async_nats::connect("nats://localhost:4222").await?;
//!
//! // In the service that publishes:
//! let bridge = NatsBridge::open(client.clone(), "orders", feed, BridgeOptions::default()).await?;
//! tokio::spawn(bridge.run());
//!
//! // In a service that takes the feed in:
//! let source = NatsFeed::new(client, "orders");
//! # let _ = source;
//! # Ok(()) }
//! ```
//!
//! # The stream
//!
//! A stream has one feed. The subject of a message is the name of the stream and the type of the
//! event, such as `orders.order-accepted.v1`. The message is a CloudEvent in the structured mode of
//! the NATS binding: JSON, with `application/cloudevents+json` in the header `content-type`.
//!
//! # The place of the bridge
//!
//! The bridge stores its place nowhere else than in the stream: it goes on after the last message.
//! Each message is stored on condition that it follows the message before it. So two bridges of one
//! feed do no harm, and a message whose acknowledgement was lost is not stored twice.
//!
//! # Where to go next
//!
//! The [guide] has the settings that a stream needs, and how to operate it.
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/nats.md

mod bridge;
mod feed;
mod mark;
mod message;
mod retry;
mod stream;

/// The client of NATS: an application connects with it.
pub use async_nats;
pub use bridge::{BridgeError, BridgeOptions, BridgeReport, BridgeState, BridgeStatus, NatsBridge};
pub use feed::NatsFeed;
pub use stream::StreamError;
