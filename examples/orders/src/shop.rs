//! The left panel: the events of the shop, the state of its orders, and the rules.

use std::collections::BTreeMap;

use diptych::{Command, DecisionContext, Event, Filter, Fold, Query, Recorded, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum Shop {
    #[event("goods-delivered")]
    Delivered {
        #[tag]
        product: String,
        count: u32,
    },
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
        customer: String,
        product: String,
        pieces: u64,
        cents: u64,
    },
    #[event("order-paid")]
    Paid {
        #[tag]
        order: u64,
        receipt: String,
    },
    #[event("goods-reserved")]
    Reserved {
        #[tag]
        order: u64,
        #[tag]
        product: String,
    },
    #[event("goods-missing")]
    Missing {
        #[tag]
        order: u64,
        product: String,
    },
    #[event("order-shipped")]
    Shipped {
        #[tag]
        order: u64,
    },
    #[event("order-cancelled")]
    Cancelled {
        #[tag]
        order: u64,
        reason: String,
    },
    #[event("payment-returned")]
    Returned {
        #[tag]
        order: u64,
        receipt: String,
    },
}

/// How far an order is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    Placed,
    Paid,
    Reserved,
    Missing,
    Shipped,
    Cancelled,
    Returned,
}

/// An order, as the rules and the page see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Order {
    pub(crate) order: u64,
    /// The position of the event that placed it. Its flow is traced from there.
    pub(crate) position: u64,
    pub(crate) customer: String,
    pub(crate) product: String,
    pub(crate) cents: u64,
    pub(crate) step: Step,
}

/// All orders, and the pieces of each product in stock.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OrderBook {
    pub(crate) orders: BTreeMap<u64, Order>,
    stock: BTreeMap<String, u64>,
}

impl OrderBook {
    fn step_of(&self, order: u64) -> Option<Step> {
        self.orders.get(&order).map(|order| order.step)
    }

    fn has(&self, product: &str) -> bool {
        self.stock.get(product).is_some_and(|count| *count > 0)
    }
}

impl Fold for OrderBook {
    type Event = Shop;

    fn apply(&mut self, event: &Recorded<Shop>) {
        let (order, step) = match &event.event {
            Shop::Delivered { product, count } => {
                *self.stock.entry(product.clone()).or_default() += u64::from(*count);
                return;
            }
            Shop::Placed { order, customer, product, cents, .. } => {
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
            Shop::Reserved { order, product } => {
                if let Some(count) = self.stock.get_mut(product) {
                    *count = count.saturating_sub(1);
                }
                (order, Step::Reserved)
            }
            Shop::Paid { order, .. } => (order, Step::Paid),
            Shop::Missing { order, .. } => (order, Step::Missing),
            Shop::Shipped { order } => (order, Step::Shipped),
            Shop::Cancelled { order, .. } => (order, Step::Cancelled),
            Shop::Returned { order, .. } => (order, Step::Returned),
        };
        if let Some(of) = self.orders.get_mut(order) {
            of.step = step;
        }
    }
}

/// A rule does not allow the step.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("the order is {found:?}, so this step comes too late or too early")]
pub(crate) struct OutOfTurn {
    found: Option<Step>,
}

/// The commands of the shop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ShopCommand {
    Deliver { product: String, count: u32 },
    Place { order: u64, customer: String, product: String, pieces: u64, cents: u64 },
    NotePayment { order: u64, receipt: String },
    Reserve { order: u64, product: String },
    Ship { order: u64 },
    Cancel { order: u64, reason: String },
    NoteReturn { order: u64, receipt: String },
}

impl Command for ShopCommand {
    type State = OrderBook;
    type Event = Shop;
    type Rejection = OutOfTurn;

    fn boundary(&self) -> Filter {
        let of = |order: &u64| Filter::tag(Tag::new("order", order));
        let stock = |product: &String| Filter::tag(Tag::new("product", product));
        match self {
            ShopCommand::Deliver { product, .. } => stock(product),
            ShopCommand::Reserve { order, product } => of(order).or(stock(product)),
            ShopCommand::Place { order, .. }
            | ShopCommand::NotePayment { order, .. }
            | ShopCommand::Ship { order }
            | ShopCommand::Cancel { order, .. }
            | ShopCommand::NoteReturn { order, .. } => of(order),
        }
    }

    fn decide(&self, book: &OrderBook, _: &DecisionContext) -> Result<Vec<Shop>, OutOfTurn> {
        let wrong = |order: &u64| Err(OutOfTurn { found: book.step_of(*order) });
        match self.clone() {
            ShopCommand::Deliver { product, count } => Ok(vec![Shop::Delivered { product, count }]),
            ShopCommand::Place { order, customer, product, pieces, cents } => {
                match book.step_of(order) {
                    None => Ok(vec![Shop::Placed { order, customer, product, pieces, cents }]),
                    Some(_) => Ok(Vec::new()),
                }
            }
            ShopCommand::NotePayment { order, receipt } => match book.step_of(order) {
                Some(Step::Placed) => Ok(vec![Shop::Paid { order, receipt }]),
                _ => wrong(&order),
            },
            ShopCommand::Reserve { order, product } => match book.step_of(order) {
                Some(Step::Paid) if book.has(&product) => {
                    Ok(vec![Shop::Reserved { order, product }])
                }
                Some(Step::Paid) => Ok(vec![Shop::Missing { order, product }]),
                _ => wrong(&order),
            },
            ShopCommand::Ship { order } => match book.step_of(order) {
                Some(Step::Reserved) => Ok(vec![Shop::Shipped { order }]),
                _ => wrong(&order),
            },
            ShopCommand::Cancel { order, reason } => match book.step_of(order) {
                Some(Step::Placed) => Ok(vec![Shop::Cancelled { order, reason }]),
                // The payment was faster than the deadline.
                _ => Ok(Vec::new()),
            },
            ShopCommand::NoteReturn { order, receipt } => match book.step_of(order) {
                Some(Step::Missing | Step::Cancelled) => {
                    Ok(vec![Shop::Returned { order, receipt }])
                }
                _ => wrong(&order),
            },
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
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct OrderList {
    pub(crate) newest: Vec<Order>,
    pub(crate) steps: BTreeMap<Step, u64>,
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

/// Asks for the whole book of orders.
pub(crate) struct AllOrders;

impl Query for AllOrders {
    type View = OrderBook;
    type Answer = OrderBook;

    fn answer(&self, book: &OrderBook) -> OrderBook {
        book.clone()
    }
}
