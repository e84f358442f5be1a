//! The application: the shop with its process and its two gateways, over one log in a folder.

use std::{path::Path, time::Duration};

use diptych::{
    App,
    catalogue::Catalogue,
    process::{CallsFrom, GatewayOptions, ProcessOptions, ProcessStart},
};
use diptych_gateways::{HttpOptions, StatusMeaning};
use example_orders::source::{Orders, PlannedOrder};

use crate::{
    Failure,
    fulfilment::{COMMAND, Fulfilment, PaymentGateway, RefundGateway},
    shop::{NewestOrders, OrderBook, ShopCommand},
};

/// Opens the shop in this folder, with the provider at this address.
///
/// # Errors
/// The reason why it does not start.
pub(crate) async fn start(folder: &Path, provider: &str) -> Result<App, Failure> {
    let mut http = HttpOptions::default();
    http.connect_within = Duration::from_millis(500);
    http.answer_within = Duration::from_secs(1);
    let payment = PaymentGateway::post(&format!("{provider}/charges"), http.clone())?
        .found_at(&format!("{provider}/charges/{{key}}"))?
        // This provider answers so only before it has charged.
        .status(503, StatusMeaning::TryAgain);
    let refund = RefundGateway::post(&format!("{provider}/refunds"), http)?;

    let app = App::open(folder)?
        .catalogue(Catalogue::new().command::<ShopCommand>(COMMAND))
        .view::<OrderBook>()
        .gateway("payment", payment, CallsFrom::Beginning, calls())
        .gateway("refund", refund, CallsFrom::Beginning, calls().idempotent())
        .process_with::<Fulfilment>(ProcessStart::Beginning, processes())
        .start()
        .await?;
    Ok(app)
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

/// Places one order after another, at this rate a second. It begins after the last order of the
/// log.
///
/// # Errors
/// The reason why an order cannot be placed.
pub(crate) async fn place_orders(app: App, seed: u64, rate: f64) -> Result<(), Failure> {
    let orders = Orders::new(seed)?;
    let list = app.query(NewestOrders { limit: 1 }).await?.value;
    let mut next = list.newest.first().map_or(1, |order| order.order + 1);
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.clamp(0.01, 10_000.0)));
    loop {
        beat.tick().await;
        for command in orders.order(next).into_iter().flat_map(commands) {
            app.execute(command).await?;
        }
        next += 1;
    }
}

/// The commands that bring an order: the goods, if there are any, and the order.
fn commands(planned: PlannedOrder) -> impl Iterator<Item = ShopCommand> {
    let PlannedOrder { order, customer, product, pieces, cents, is_sold_out } = planned;
    let goods = ShopCommand::Deliver { product: product.clone(), count: 1 };
    let place = ShopCommand::Place { order, customer, product, pieces, cents };
    (!is_sold_out).then_some(goods).into_iter().chain([place])
}
