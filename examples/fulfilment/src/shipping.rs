//! Shipping: sends the goods of each paid order, as long as there are some.

mod book;
mod events;
mod intakes;
mod left;
mod processes;
pub(crate) mod published;

use std::path::Path;

use diptych::{
    App,
    catalogue::{Catalogue, WithSchemas},
    collaboration::IntakeStart,
    process::{ProcessOptions, ProcessStart},
};

pub(crate) use self::{
    book::{ParcelBook, ParcelStep},
    left::ParcelCommand,
};
use self::{
    intakes::{ParcelsOfOrders, ParcelsOfPayments},
    processes::Dispatch,
    published::Parcels,
};
use crate::{Failure, member};

/// The name of the commands in the catalogue.
pub(crate) const COMMAND: &str = "parcel";

/// Opens the service in this folder. It listens to these feeds.
///
/// # Errors
/// The reason why it does not start.
pub(crate) async fn start(folder: &Path, orders: &str, payments: &str) -> Result<App, Failure> {
    let (first, options) = (IntakeStart::Beginning, member::intakes());
    let app = App::open(folder)?
        .catalogue(doors())
        .view::<ParcelBook>()
        .feed::<Parcels>()
        .intake_with::<ParcelsOfOrders>(member::feed(orders)?, first, options.clone())
        .intake_with::<ParcelsOfPayments>(member::feed(payments)?, first, options)
        .process_with::<Dispatch>(ProcessStart::Beginning, ProcessOptions::default())
        .start()
        .await?;
    Ok(app)
}

/// The command that the service offers.
fn doors() -> Catalogue<WithSchemas> {
    Catalogue::with_schemas().command::<ParcelCommand>(COMMAND)
}
