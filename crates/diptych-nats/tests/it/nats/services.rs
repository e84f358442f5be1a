//! Ordering, which publishes orders, and shipping, which takes them in.

use std::{error::Error, ops::Range, time::Duration};

use diptych::{
    App, Event, Memory, Position, Recorded, Store,
    collaboration::{
        Feed, FeedHandle, ForeignEvent, Intake, IntakeOptions, IntakeStart, IntakeStatus,
        PublicEvent,
    },
    store::{Append, LogIdentity, RawEvent, Read},
};
use diptych_nats::async_nats::Client;
use diptych_nats::{BridgeError, BridgeOptions, BridgeStatus, NatsBridge, NatsFeed, StreamError};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

/// Each order is three public events, of which shipping takes one in.
#[derive(Event, Serialize, Deserialize)]
#[event("order-placed")]
struct Placed {
    #[tag]
    order: u64,
    /// The number of bytes of each public event beside its fields.
    padding: usize,
}

#[derive(PublicEvent, Serialize, Deserialize)]
#[event("order-accepted")]
struct Accepted {
    #[tag]
    order: u64,
    line: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    padding: String,
}

struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Placed;
    type Public = Accepted;

    fn publish(event: &Recorded<Placed>) -> impl IntoIterator<Item = Accepted> {
        let Placed { order, padding } = event.event;
        (0..3).map(move |line| Accepted { order, line, padding: "x".repeat(padding) })
    }
}

#[derive(Event, Serialize, Deserialize)]
#[event("parcel-due")]
struct ParcelDue {
    #[tag]
    order: u64,
}

struct Parcels;

impl Intake for Parcels {
    const NAME: &'static str = "parcels";
    type Public = Accepted;
    type Event = ParcelDue;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<ParcelDue>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, line, .. } = event.event;
        // The last line tells that all lines came.
        Ok(if line == 2 { vec![ParcelDue { order }] } else { Vec::new() })
    }
}

/// The service that publishes.
pub(super) struct Ordering {
    app: App,
}

impl Ordering {
    pub(super) async fn start() -> Ordering {
        Ordering {
            app: App::over_store(Store::new(Memory::new())).feed::<Orders>().start().await.unwrap(),
        }
    }

    pub(super) fn feed(&self) -> FeedHandle {
        self.app.feed("orders").unwrap()
    }

    pub(super) fn log(&self) -> LogIdentity {
        self.app.store().identity()
    }

    pub(super) fn head(&self) -> Position {
        self.app.store().head().position()
    }

    pub(super) async fn place(&self, orders: Range<u64>) {
        for order in orders {
            self.place_padded(order, 0).await;
        }
    }

    /// An event that is no business of the feed.
    pub(super) async fn append_other(&self) {
        let other = Append::event(RawEvent::new("stock-counted", Vec::new()));
        self.app.store().append(other).await.unwrap().synced().await.unwrap();
    }

    /// An order whose public events have this number of bytes.
    pub(super) async fn place_padded(&self, order: u64, padding: usize) {
        let placed = Placed { order, padding }.encode().unwrap();
        let accepted = self.app.store().append(Append::event(placed)).await.unwrap();
        accepted.synced().await.unwrap();
    }

    /// Starts a bridge to the stream `orders`.
    pub(super) async fn bridge(&self, client: Client) -> BridgeStatus {
        let (status, running) = self.bridge_with(client, BridgeOptions::default()).await;
        drop(running);
        status
    }

    pub(super) async fn bridge_with(
        &self,
        client: Client,
        mut options: BridgeOptions,
    ) -> (BridgeStatus, JoinHandle<BridgeError>) {
        options.wait = Duration::from_secs(1);
        // The servers of a cluster elect a leader first.
        let mut bridge =
            Err(StreamError::Unreachable { stream: String::new(), reason: String::new() });
        for _ in 0..600 {
            let (client, options) = (client.clone(), options.clone());
            bridge = NatsBridge::open(client, "orders", self.feed(), options).await;
            if !matches!(bridge, Err(StreamError::Unreachable { .. })) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let bridge = bridge.unwrap();
        (bridge.status(), tokio::spawn(bridge.run()))
    }

    pub(super) async fn stop(self) {
        self.app.stop().await.unwrap();
    }
}

/// The service that takes orders in.
pub(super) struct Shipping {
    app: App,
}

impl Shipping {
    pub(super) async fn start(client: Client, store: &Store) -> Shipping {
        Shipping::over(NatsFeed::new(client, "orders"), store).await
    }

    pub(super) async fn over(feed: NatsFeed, store: &Store) -> Shipping {
        let mut options = IntakeOptions::default();
        (options.wait, options.longest_wait) = (Duration::from_secs(1), Duration::from_millis(50));
        let app = App::over_store(store.clone())
            .intake_with::<Parcels>(feed, IntakeStart::Beginning, options)
            .start();
        Shipping { app: app.await.unwrap() }
    }

    /// Waits until the status of the intake meets a condition.
    pub(super) async fn until(&self, is_so: impl Fn(&IntakeStatus) -> bool) -> IntakeStatus {
        let intake = self.app.intake("parcels").unwrap();
        for _ in 0..12_000 {
            let status = intake.status();
            if is_so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the intake came no further than {:?}", intake.status());
    }

    /// The parcels in the own log, in its order.
    pub(super) async fn parcels(&self) -> Vec<u64> {
        let due = diptych::Filter::types(["parcel-due"]);
        let batch = self.app.store().read(&due, Read::all()).await.unwrap();
        let number = |tag: &str| tag.strip_prefix("order:").unwrap().parse().unwrap();
        batch.iter().map(|event| number(event.tags().next().unwrap())).collect()
    }
}
