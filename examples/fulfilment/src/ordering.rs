//! Ordering: takes orders, and knows how far each is.

mod book;
mod events;
mod intakes;
mod left;
mod processes;
pub(crate) mod published;
mod right;

use std::path::Path;

use diptych::{
    App,
    catalogue::{Catalogue, WithSchemas},
    collaboration::IntakeStart,
    process::{ProcessOptions, ProcessStart},
};

pub(crate) use self::{
    book::{Order, OrderBook, Step},
    left::OrderCommand,
    right::{NewestOrders, OrderByNumber, OrderList},
};
use self::{
    intakes::{FactsOfParcels, FactsOfPayments},
    processes::Cancellation,
    published::Orders,
};
use crate::{Failure, member};

/// The name of the commands in the catalogue.
pub(crate) const COMMAND: &str = "order";

/// Opens the service in this folder. It listens to these feeds.
///
/// # Errors
/// The reason why it does not start.
pub(crate) async fn start(folder: &Path, payments: &str, parcels: &str) -> Result<App, Failure> {
    let (first, options) = (IntakeStart::Beginning, member::intakes());
    let app = App::open(folder)?
        .catalogue(doors())
        .view::<OrderBook>()
        .feed::<Orders>()
        .intake_with::<FactsOfPayments>(member::feed(payments)?, first, options.clone())
        .intake_with::<FactsOfParcels>(member::feed(parcels)?, first, options)
        .process_with::<Cancellation>(ProcessStart::Beginning, ProcessOptions::default())
        .start()
        .await?;
    Ok(app)
}

/// The command and the queries that the service offers.
fn doors() -> Catalogue<WithSchemas> {
    Catalogue::with_schemas()
        .command::<OrderCommand>(COMMAND)
        .query::<NewestOrders>("orders")
        .query::<OrderByNumber>("order")
}
