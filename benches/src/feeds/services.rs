//! Two services: ordering publishes its orders, and shipping takes them in.

use std::{error::Error, ops::Range, path::Path};

use diptych::{
    App, Event, Recorded,
    collaboration::{Feed, FeedSource, ForeignEvent, Intake, IntakeStart, PublicEvent},
};
use diptych_benches::durable::load;
use diptych_store::{RawEvent, Store};
use serde::{Deserialize, Serialize};

/// A private event of ordering.
#[derive(Event, Serialize, Deserialize)]
#[event("order-placed")]
struct Placed {
    #[tag]
    order: u64,
    customer: String,
    note: String,
    margin_cents: u64,
}

/// The public event.
#[derive(PublicEvent, Serialize, Deserialize)]
#[event("order-accepted")]
pub(crate) struct OrderNews {
    #[tag]
    order: u64,
    customer: String,
    note: String,
}

struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Placed;
    type Public = OrderNews;

    fn publish(event: &Recorded<Placed>) -> impl IntoIterator<Item = OrderNews> {
        let Placed { order, customer, note, .. } = &event.event;
        Some(OrderNews { order: *order, customer: customer.clone(), note: note.clone() })
    }
}

/// A private event of shipping.
#[derive(Event, Serialize, Deserialize)]
#[event("parcel-due")]
struct ParcelDue {
    #[tag]
    parcel: u64,
    recipient: String,
    note: String,
}

struct Parcels;

impl Intake for Parcels {
    const NAME: &'static str = "parcels";
    type Public = OrderNews;
    type Event = ParcelDue;

    fn translate(
        accepted: &ForeignEvent<OrderNews>,
    ) -> Result<Vec<ParcelDue>, Box<dyn Error + Send + Sync>> {
        let OrderNews { order, customer, note } = &accepted.event;
        let (parcel, recipient, note) = (*order, customer.clone(), note.clone());
        Ok(vec![ParcelDue { parcel, recipient, note }])
    }
}

pub(crate) async fn ordering(folder: &Path) -> App {
    App::open(folder).unwrap().feed::<Orders>().start().await.unwrap()
}

pub(crate) async fn shipping(folder: &Path, source: impl FeedSource) -> App {
    let app = App::open(folder).unwrap().intake::<Parcels>(source, IntakeStart::Beginning);
    app.start().await.unwrap()
}

/// An order with 160 bytes of text.
pub(crate) fn placed(order: u64) -> RawEvent {
    let note = "something to read, as long as notes are".repeat(4);
    Placed { order, customer: "ann".to_owned(), note, margin_cents: 7 }.encode().unwrap()
}

/// Appends orders with these numbers, and waits until they are durable.
pub(crate) async fn place(store: &Store, orders: Range<u64>) {
    load(store, orders, placed).await;
}
