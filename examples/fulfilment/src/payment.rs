//! Payment: gets the money of each order from a provider outside, and gives it back.

mod book;
mod events;
mod intakes;
mod left;
mod processes;
pub(crate) mod published;

use std::{path::Path, time::Duration};

use diptych::{
    App,
    catalogue::{Catalogue, WithSchemas},
    collaboration::IntakeStart,
    process::{CallsFrom, GatewayOptions, ProcessOptions, ProcessStart},
};
use diptych_gateways::{HttpOptions, StatusMeaning};

#[cfg(test)]
pub(crate) use self::book::Payment;
pub(crate) use self::book::{PaymentBook, PaymentStep};
use self::{
    intakes::Bills,
    left::PaymentCommand,
    processes::{ChargeGateway, Collection, RefundGateway},
    published::Payments,
};
use crate::{Failure, member};

/// The name of the commands in the catalogue.
const COMMAND: &str = "payment";

/// Opens the service in this folder. It listens to this feed of orders.
///
/// # Errors
/// The reason why it does not start.
pub(crate) async fn start(folder: &Path, orders: &str, provider: &str) -> Result<App, Failure> {
    let mut http = HttpOptions::default();
    http.connect_within = Duration::from_millis(500);
    http.answer_within = Duration::from_secs(1);
    let charge = ChargeGateway::post(&format!("{provider}/charges"), http.clone())?
        .found_at(&format!("{provider}/charges/{{key}}"))?
        // This provider answers so only before it has charged.
        .status(503, StatusMeaning::TryAgain);
    let refund = RefundGateway::post(&format!("{provider}/refunds"), http)?;

    let app = App::open(folder)?
        .catalogue(doors())
        .view::<PaymentBook>()
        .feed::<Payments>()
        .intake_with::<Bills>(member::feed(orders)?, IntakeStart::Beginning, member::intakes())
        .gateway("charge", charge, CallsFrom::Beginning, calls())
        .gateway("refund", refund, CallsFrom::Beginning, calls().idempotent())
        .process_with::<Collection>(ProcessStart::Beginning, processes())
        .start()
        .await?;
    Ok(app)
}

/// The command that the process of the service sends.
fn doors() -> Catalogue<WithSchemas> {
    Catalogue::with_schemas().command::<PaymentCommand>(COMMAND)
}

/// The waits are short, so that a visitor sees all that happens.
fn calls() -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.longest_wait = Duration::from_secs(2);
    options.open_for = Duration::from_secs(1);
    options.longest_call = Duration::from_secs(2);
    options.unknown_after = Duration::from_secs(3);
    options
}

fn processes() -> ProcessOptions {
    let mut options = ProcessOptions::default();
    options.timer_check = Duration::from_millis(100);
    options
}
