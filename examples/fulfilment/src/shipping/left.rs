//! The left panel: the commands of shipping and its rules.

use diptych::{Command, DecisionContext, Filter, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    book::{ParcelBook, ParcelStep},
    events::ParcelEvent,
};

/// The commands of shipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ParcelCommand {
    /// Goods come in.
    Deliver { product: String, count: u32 },
    /// Packs and sends the goods of an order, or notes that there are none.
    Pack { order: u64, product: String },
}

/// A rule does not allow the step.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("the parcel is {found:?}: it is packed when it is wanted and released")]
pub(crate) struct Unready {
    found: Option<ParcelStep>,
}

impl Command for ParcelCommand {
    type State = ParcelBook;
    type Event = ParcelEvent;
    type Rejection = Unready;

    fn boundary(&self) -> Filter {
        let stock = |product: &String| Filter::tag(Tag::new("product", product));
        match self {
            ParcelCommand::Deliver { product, .. } => stock(product),
            ParcelCommand::Pack { order, product } => {
                Filter::tag(Tag::new("order", order)).or(stock(product))
            }
        }
    }

    fn decide(&self, book: &ParcelBook, _: &DecisionContext) -> Result<Vec<ParcelEvent>, Unready> {
        match self.clone() {
            ParcelCommand::Deliver { product, count } => {
                Ok(vec![ParcelEvent::Delivered { product, count }])
            }
            ParcelCommand::Pack { order, product } => match book.step_of(order) {
                Some(ParcelStep::Ready) if book.has(&product) => {
                    Ok(vec![ParcelEvent::Sent { order, product }])
                }
                Some(ParcelStep::Ready) => Ok(vec![ParcelEvent::Missing { order, product }]),
                Some(ParcelStep::Sent | ParcelStep::Missing) => Ok(Vec::new()),
                found => Err(Unready { found }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych::testing::given;

    use super::*;

    fn product() -> String {
        "map of BOS".to_owned()
    }

    fn wanted(order: u64) -> ParcelEvent {
        ParcelEvent::Wanted { order, recipient: "ann".to_owned(), product: product() }
    }

    fn pack(order: u64) -> ParcelCommand {
        ParcelCommand::Pack { order, product: product() }
    }

    #[test]
    fn the_last_piece_goes_to_one_order() {
        let goods = ParcelEvent::Delivered { product: product(), count: 1 };
        let released = |order| ParcelEvent::Released { order };
        given([goods, wanted(1), wanted(2), released(1), released(2)])
            .when(pack(1))
            .then([ParcelEvent::Sent { order: 1, product: product() }])
            .when(pack(2))
            .then([ParcelEvent::Missing { order: 2, product: product() }])
            .when(pack(1))
            .then_nothing();
    }

    #[test]
    fn a_parcel_that_is_not_paid_stays() {
        let found = Some(ParcelStep::Wanted);
        given([wanted(1)]).when(pack(1)).then_rejected(Unready { found });
    }

    #[test]
    fn a_payment_may_arrive_before_its_order() {
        let goods = ParcelEvent::Delivered { product: product(), count: 1 };
        given([goods, ParcelEvent::Released { order: 1 }, wanted(1)])
            .when(pack(1))
            .then([ParcelEvent::Sent { order: 1, product: product() }]);
    }
}
