//! The book of ordering: how far each order is. The commands decide over it, and the queries
//! answer from it.

use std::collections::BTreeMap;

use diptych::{Fold, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::OrderEvent;

/// How far an order is. Payments and parcels come by two feeds, so a later fact can arrive before
/// an earlier one: the furthest counts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    Placed,
    Paid,
    OutOfStock,
    Sent,
    Unpaid,
    Cancelled,
    Refunded,
}

/// An order, as the page sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    pub(crate) order: u64,
    /// The position of the event that placed it. Its flow is traced from there.
    pub(crate) position: u64,
    pub(crate) customer: String,
    pub(crate) product: String,
    pub(crate) cents: u64,
    pub(crate) step: Step,
}

/// All orders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderBook {
    pub(crate) orders: BTreeMap<u64, Order>,
}

impl OrderBook {
    pub(super) fn step_of(&self, order: u64) -> Option<Step> {
        self.orders.get(&order).map(|order| order.step)
    }
}

impl Fold for OrderBook {
    type Event = OrderEvent;

    fn apply(&mut self, event: &Recorded<OrderEvent>) {
        let (order, step) = match &event.event {
            OrderEvent::Placed { order, customer, product, cents, .. } => {
                let placed = Order {
                    order: *order,
                    position: event.position.get(),
                    customer: customer.clone(),
                    product: product.clone(),
                    cents: *cents,
                    step: Step::Placed,
                };
                self.orders.insert(*order, placed);
                return;
            }
            OrderEvent::Paid { order } => (order, Step::Paid),
            OrderEvent::OutOfStock { order, .. } => (order, Step::OutOfStock),
            OrderEvent::Sent { order } => (order, Step::Sent),
            OrderEvent::Unpaid { order, .. } => (order, Step::Unpaid),
            OrderEvent::Cancelled { order, .. } => (order, Step::Cancelled),
            OrderEvent::Refunded { order } => (order, Step::Refunded),
        };
        if let Some(of) = self.orders.get_mut(order) {
            of.step = of.step.max(step);
        }
    }
}
