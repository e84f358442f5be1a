//! The left panel: the commands of ordering and its rules.

use diptych::{Command, DecisionContext, Filter, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    book::{OrderBook, Step},
    events::OrderEvent,
};

/// The commands of ordering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderCommand {
    /// A customer orders something.
    Place { order: u64, customer: String, product: String, pieces: u64, cents: u64 },
    /// There are no goods for the order.
    Cancel { order: u64, reason: String },
}

/// A rule does not allow the step.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
pub(crate) enum OrderRefusal {
    #[error("order {0} exists already: give the new one another number")]
    Exists(u64),
    #[error("there is no order {0}")]
    Unknown(u64),
    #[error("order {0} has its goods: only one without goods is cancelled")]
    Sendable(u64),
}

impl Command for OrderCommand {
    type State = OrderBook;
    type Event = OrderEvent;
    type Rejection = OrderRefusal;

    fn boundary(&self) -> Filter {
        let (OrderCommand::Place { order, .. } | OrderCommand::Cancel { order, .. }) = self;
        Filter::tag(Tag::new("order", order))
    }

    fn decide(
        &self,
        book: &OrderBook,
        _: &DecisionContext,
    ) -> Result<Vec<OrderEvent>, OrderRefusal> {
        match self.clone() {
            OrderCommand::Place { order, customer, product, pieces, cents } => {
                match book.step_of(order) {
                    Some(_) => Err(OrderRefusal::Exists(order)),
                    None => {
                        Ok(vec![OrderEvent::Placed { order, customer, product, pieces, cents }])
                    }
                }
            }
            OrderCommand::Cancel { order, reason } => match book.step_of(order) {
                None => Err(OrderRefusal::Unknown(order)),
                Some(Step::Cancelled | Step::Refunded) => Ok(Vec::new()),
                Some(Step::OutOfStock) => Ok(vec![OrderEvent::Cancelled { order, reason }]),
                Some(_) => Err(OrderRefusal::Sendable(order)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych::testing::{given, nothing_given};

    use super::*;

    fn placed(order: u64) -> OrderEvent {
        let (customer, product) = ("ann".to_owned(), "map of BOS".to_owned());
        OrderEvent::Placed { order, customer, product, pieces: 2, cents: 500 }
    }

    fn cancel(order: u64) -> OrderCommand {
        OrderCommand::Cancel { order, reason: "there is no map of BOS".to_owned() }
    }

    #[test]
    fn a_number_belongs_to_one_order() {
        let (customer, product) = ("ann".to_owned(), "map of BOS".to_owned());
        let place = OrderCommand::Place { order: 7, customer, product, pieces: 2, cents: 500 };
        nothing_given().when(place.clone()).then([placed(7)]);
        given([placed(7)]).when(place).then_rejected(OrderRefusal::Exists(7));
    }

    #[test]
    fn only_an_order_without_goods_is_cancelled_and_once() {
        let reason = "there is no map of BOS".to_owned();
        let cancelled = OrderEvent::Cancelled { order: 7, reason };
        let paid = OrderEvent::Paid { order: 7 };
        let missing = OrderEvent::OutOfStock { order: 7, product: "map of BOS".to_owned() };
        // The two facts come by two feeds, so the payment can be the later one.
        given([placed(7), missing, paid.clone()])
            .when(cancel(7))
            .then([cancelled])
            .when(cancel(7))
            .then_nothing();
        given([placed(7), paid]).when(cancel(7)).then_rejected(OrderRefusal::Sendable(7));
        nothing_given().when(cancel(7)).then_rejected(OrderRefusal::Unknown(7));
    }
}
