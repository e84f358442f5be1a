//! The right panel: how far each order is, and the answers for the page.

use std::collections::BTreeMap;

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::left::OrderEvent;

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

/// Asks for the newest orders, and the number of orders at each step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NewestOrders {
    /// Number of orders in the list.
    pub(crate) limit: usize,
}

/// The newest orders first, and the number of all orders at each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct OrderList {
    pub(crate) newest: Vec<Order>,
    pub(crate) steps: BTreeMap<Step, u64>,
}

/// Asks for one order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct OrderByNumber {
    /// The number of the order.
    pub(crate) order: u64,
}

impl Query for OrderByNumber {
    type View = OrderBook;
    type Answer = Option<Order>;

    fn answer(&self, book: &OrderBook) -> Option<Order> {
        book.orders.get(&self.order).cloned()
    }
}

impl Query for NewestOrders {
    type View = OrderBook;
    type Answer = OrderList;

    fn answer(&self, book: &OrderBook) -> OrderList {
        let mut steps = BTreeMap::new();
        for order in book.orders.values() {
            *steps.entry(order.step).or_default() += 1;
        }
        OrderList { newest: book.orders.values().rev().take(self.limit).cloned().collect(), steps }
    }
}
