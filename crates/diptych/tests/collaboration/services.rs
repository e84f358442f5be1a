//! Two services: ordering publishes what was ordered, and shipping keeps its own copy.

use std::{collections::BTreeMap, time::Duration};

use diptych::{
    App, AppBuilder, Event, Fold, Memory, Position, Query, Recorded, Store,
    collaboration::{
        Feed, FeedHandle, ForeignEvent, Intake, IntakeOptions, IntakeStart, IntakeState,
        IntakeStatus, PublicEvent,
    },
    store::{Append, EventStore, RawEvent},
};
use serde::{Deserialize, Serialize};

/// The private events of ordering.
#[derive(Clone, Debug, PartialEq, Event)]
pub(crate) enum Ordering {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
        cents: u64,
    },
    #[event("order-checked")]
    Checked {
        #[tag]
        order: u64,
    },
    /// Several articles that arrive as one event.
    #[event("order-split")]
    Split {
        #[tag]
        order: u64,
        parts: u64,
    },
}

/// The published language of ordering.
#[derive(Clone, Debug, PartialEq, PublicEvent, Serialize, Deserialize)]
#[event("order-accepted")]
pub(crate) struct Accepted {
    #[tag]
    pub(crate) order: u64,
    pub(crate) cents: u64,
}

pub(crate) struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Ordering;
    type Public = Accepted;

    fn publish(event: &Recorded<Ordering>) -> impl IntoIterator<Item = Accepted> {
        match event.event {
            Ordering::Placed { order, cents } => vec![Accepted { order, cents }],
            Ordering::Checked { .. } => vec![],
            Ordering::Split { order, parts } => {
                (1..=parts).map(|cents| Accepted { order, cents }).collect()
            }
        }
    }
}

/// The private events of shipping.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("shipment-due")]
pub(crate) struct Due {
    #[tag]
    pub(crate) order: u64,
    pub(crate) cents: u64,
}

pub(crate) struct ToShipments;

impl Intake for ToShipments {
    const NAME: &'static str = "shipments";
    type Public = Accepted;
    type Event = Due;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<Due>, Box<dyn std::error::Error + Send + Sync>> {
        let Accepted { order, cents } = event.event;
        Ok(vec![Due { order, cents }])
    }
}

/// The sum of each order, and the number of events.
#[derive(Clone, Default)]
pub(crate) struct Shipments {
    pub(crate) sums: BTreeMap<u64, u64>,
    pub(crate) events: u64,
}

impl Fold for Shipments {
    type Event = Due;

    fn apply(&mut self, event: &Recorded<Due>) {
        *self.sums.entry(event.event.order).or_default() += event.event.cents;
        self.events += 1;
    }
}

pub(crate) struct AllShipments;

impl Query for AllShipments {
    type View = Shipments;
    type Answer = Shipments;

    fn answer(&self, view: &Shipments) -> Shipments {
        view.clone()
    }
}

pub(crate) async fn ordering(store: impl EventStore) -> App {
    App::over(store).feed::<Orders>().start().await.unwrap()
}

/// The feed of a new service with these orders. The app has to live as long as it is read.
pub(crate) async fn orders(count: u64) -> (App, FeedHandle) {
    let app = ordering(Memory::new()).await;
    for order in 0..count {
        place(&app, order).await;
    }
    let feed = app.feed("orders").unwrap();
    (app, feed)
}

pub(crate) async fn place(app: &App, order: u64) {
    write(app, Ordering::Placed { order, cents: 100 + order }).await;
}

pub(crate) async fn write<E: Event>(app: &App, event: E) -> Position {
    write_raw(app, event.encode().unwrap()).await
}

pub(crate) async fn write_raw(app: &App, event: RawEvent) -> Position {
    let accepted = app.store().append(Append::event(event)).await.unwrap();
    accepted.synced().await.unwrap().last
}

/// Options with short waits, so that tests end soon.
pub(crate) fn quick() -> IntakeOptions {
    let mut options = IntakeOptions::default();
    (options.wait, options.first_wait) = (Duration::from_millis(200), Duration::from_millis(1));
    options.longest_wait = Duration::from_millis(20);
    options
}

pub(crate) fn shipping(
    store: &Store,
    source: impl diptych::collaboration::FeedSource,
) -> AppBuilder {
    App::over_store(store.clone()).view::<Shipments>().intake_with::<ToShipments>(
        source,
        IntakeStart::Beginning,
        quick(),
    )
}

pub(crate) async fn shipments(app: &App) -> Shipments {
    app.query(AllShipments).strong().await.unwrap().value
}

/// Waits until the status of an intake is as asked.
pub(crate) async fn until(
    app: &App,
    intake: &str,
    is_so: impl Fn(&IntakeStatus) -> bool,
) -> IntakeStatus {
    let intake = app.intake(intake).unwrap();
    for _ in 0..6_000 {
        let status = intake.status();
        if is_so(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the intake came no further than {:?}", intake.status());
}

/// Waits until the intake stopped, and returns the reason.
pub(crate) async fn stopped(app: &App, intake: &str) -> String {
    let is_stopped = |status: &IntakeStatus| matches!(status.state, IntakeState::Stopped { .. });
    let status = until(app, intake, is_stopped).await;
    let IntakeState::Stopped { reason } = status.state else { unreachable!() };
    reason
}

/// Waits until a step of the intake failed, and returns the reason.
pub(crate) async fn stalled(app: &App, intake: &str) -> String {
    let is_stalled = |status: &IntakeStatus| matches!(status.state, IntakeState::Stalled { .. });
    let status = until(app, intake, is_stalled).await;
    let IntakeState::Stalled { reason } = status.state else { unreachable!() };
    reason
}
