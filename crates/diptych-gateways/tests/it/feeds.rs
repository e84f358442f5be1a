//! A service takes in the feed of another one over HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use diptych::{
    App, Event, Memory, Recorded, Store,
    collaboration::{
        Feed, ForeignEvent, Intake, IntakeOptions, IntakeStart, IntakeState, IntakeStatus,
        PublicEvent,
    },
    store::Append,
};
use diptych_gateways::HttpFeed;
use diptych_server::{Caller, Denial, Operation, Server, Visit};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

#[derive(Event, Serialize, Deserialize)]
#[event("order-placed")]
struct Placed {
    #[tag]
    order: u64,
    margin: u64,
}

#[derive(PublicEvent, Serialize, Deserialize)]
#[event("order-accepted")]
struct Accepted {
    #[tag]
    order: u64,
}

struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Placed;
    type Public = Accepted;

    fn publish(event: &Recorded<Placed>) -> impl IntoIterator<Item = Accepted> {
        Some(Accepted { order: event.event.order })
    }
}

#[derive(Event, Serialize, Deserialize)]
#[event("shipment-due")]
struct Due {
    #[tag]
    order: u64,
}

struct Shipments;

impl Intake for Shipments {
    const NAME: &'static str = "shipments";
    type Public = Accepted;
    type Event = Due;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<Due>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(vec![Due { order: event.event.order }])
    }
}

/// A running server of the service that publishes.
pub(crate) struct Ordering {
    app: App,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Ordering {
    pub(crate) async fn start(
        store: &Store,
        address: &str,
        may_read: &Arc<AtomicBool>,
    ) -> Ordering {
        let app = App::over_store(store.clone()).feed::<Orders>().start().await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, may_read) = (listener.local_addr().unwrap(), may_read.clone());
        let (stop, stopped) = oneshot::channel();
        let server = Server::new(app.clone()).process_operations().admit(move |visit: Visit| {
            let token = visit.headers.get("authorization").cloned();
            let is_good = token.is_some_and(|token| token == "Bearer secret");
            let may_read = may_read.load(SeqCst) && is_good;
            async move {
                match visit.operation {
                    Operation::Feed(_) | Operation::Processes if !may_read => {
                        Err(Denial::unknown("the token was revoked", "Bearer"))
                    }
                    _ => Ok(Caller::anonymous()),
                }
            }
        });
        let serving = server.serve(listener, async move { drop(stopped.await) });
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Ordering { app, address, stop, serving }
    }

    pub(crate) async fn place(&self, orders: std::ops::Range<u64>) {
        for order in orders {
            let placed = Placed { order, margin: 7 }.encode().unwrap();
            let accepted = self.app.store().append(Append::event(placed)).await.unwrap();
            accepted.synced().await.unwrap();
        }
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.serving.await.unwrap();
        self.app.stop().await.unwrap();
    }
}

pub(crate) async fn shipping(store: &Store, url: &str) -> App {
    let feed = HttpFeed::new(url, HttpFeed::options()).unwrap();
    let feed = feed.header("authorization", "Bearer secret").unwrap();
    let mut options = IntakeOptions::default();
    (options.wait, options.longest_wait) = (Duration::from_secs(1), Duration::from_millis(50));
    App::over_store(store.clone())
        .intake_with::<Shipments>(feed, IntakeStart::Beginning, options)
        .start()
        .await
        .unwrap()
}

pub(crate) async fn until(app: &App, is_so: impl Fn(&IntakeStatus) -> bool) -> IntakeStatus {
    let intake = app.intake("shipments").unwrap();
    for _ in 0..6_000 {
        let status = intake.status();
        if is_so(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the intake came no further than {:?}", intake.status());
}

async fn count(store: &Store) -> usize {
    let due = diptych::Filter::types(["shipment-due"]);
    store.read(&due, diptych::store::Read::all()).await.unwrap().len()
}

#[tokio::test]
async fn a_feed_is_taken_in_over_http_also_after_its_server_was_away() {
    let may_read = Arc::new(AtomicBool::new(true));
    let (source, own) = (Store::new(Memory::new()), Store::new(Memory::new()));
    let ordering = Ordering::start(&source, "127.0.0.1:0", &may_read).await;
    let address = ordering.address.to_string();
    ordering.place(0..2_500).await;
    let app = shipping(&own, &format!("http://{address}/feeds/orders")).await;
    until(&app, |status| status.position.get() == 2_500).await;
    assert_eq!(count(&own).await, 2_500);
    // The next event comes by the request that waits.
    ordering.place(2_500..2_501).await;
    until(&app, |status| status.position.get() == 2_501).await;

    ordering.stop().await;
    until(&app, |status| matches!(status.state, IntakeState::Stalled { .. })).await;
    let ordering = Ordering::start(&source, &address, &may_read).await;
    ordering.place(2_501..2_600).await;
    until(&app, |status| status.position.get() == 2_600).await;
    assert_eq!(count(&own).await, 2_600);
    ordering.stop().await;
}

#[tokio::test]
async fn a_revoked_token_stalls_the_intake_with_the_words_of_the_source() {
    let may_read = Arc::new(AtomicBool::new(true));
    let (source, own) = (Store::new(Memory::new()), Store::new(Memory::new()));
    let ordering = Ordering::start(&source, "127.0.0.1:0", &may_read).await;
    ordering.place(0..3).await;
    let url = format!("http://{}/feeds/orders", ordering.address);
    let app = shipping(&own, &url).await;
    until(&app, |status| status.position.get() == 3).await;
    may_read.store(false, SeqCst);
    ordering.place(3..4).await;
    let is_stalled = |status: &IntakeStatus| matches!(status.state, IntakeState::Stalled { .. });
    let state = until(&app, is_stalled).await.state;
    let reason = state.reason().unwrap();
    assert!(reason.contains("401") && reason.contains("the token was revoked"), "{reason}");

    // It asks again, so it goes on once the source admits it, without a new start.
    ordering.place(4..5).await;
    may_read.store(true, SeqCst);
    let is_live = |status: &IntakeStatus| status.state == IntakeState::Live;
    let status = until(&app, |status| is_live(status) && status.position.get() == 5).await;
    assert_eq!(status.source, url);
    assert_eq!(count(&own).await, 5);
    ordering.stop().await;
}

#[tokio::test]
async fn an_address_without_a_feed_and_a_shorter_log_have_their_words() {
    let may_read = Arc::new(AtomicBool::new(true));
    let (source, own) = (Store::new(Memory::new()), Store::new(Memory::new()));
    let ordering = Ordering::start(&source, "127.0.0.1:0", &may_read).await;
    ordering.place(0..3).await;
    let stalled = |status: &IntakeStatus| matches!(status.state, IntakeState::Stalled { .. });
    let app = shipping(&own, &format!("http://{}/feeds/parcels", ordering.address)).await;
    let IntakeState::Stalled { reason } = until(&app, stalled).await.state else { unreachable!() };
    assert!(reason.contains("there is no feed \"parcels\""), "{reason}");
    app.stop().await.unwrap();
    let app = shipping(&own, &format!("http://{}/health", ordering.address)).await;
    let IntakeState::Stalled { reason } = until(&app, stalled).await.state else { unreachable!() };
    assert!(reason.contains("diptych-feed"), "{reason}");
    app.stop().await.unwrap();

    let url = format!("http://{}/feeds/orders", ordering.address);
    let own = Store::new(Memory::new());
    let app = shipping(&own, &url).await;
    until(&app, |status| status.position.get() == 3).await;
    app.stop().await.unwrap();
    let address = ordering.address.to_string();
    ordering.stop().await;
    let shorter = Store::new(Memory::new());
    let ordering = Ordering::start(&shorter, &address, &may_read).await;
    ordering.place(0..1).await;
    let app = shipping(&own, &url).await;
    let is_stopped = |status: &IntakeStatus| matches!(status.state, IntakeState::Stopped { .. });
    let IntakeState::Stopped { reason } = until(&app, is_stopped).await.state else {
        unreachable!()
    };
    assert!(reason.contains("above the end of the feed's log"), "{reason}");
    ordering.stop().await;
}
