//! The right panel: the answers for the page.

use std::collections::BTreeMap;

use diptych::Query;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::book::{Order, OrderBook, Step};

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
