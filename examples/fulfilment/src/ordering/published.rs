//! The published language of ordering. Other services know this module, and no other one of
//! ordering.

use diptych::{
    Recorded,
    collaboration::{Feed, PublicEvent},
};
use serde::{Deserialize, Serialize};

use super::events::OrderEvent;

/// Ordering tells this to other services.
#[derive(Clone, Debug, PartialEq, PublicEvent, Serialize, Deserialize)]
pub(crate) enum OrderNews {
    /// The order is to be paid and sent.
    #[event("order-accepted")]
    Accepted {
        #[tag]
        order: u64,
        customer: String,
        product: String,
        pieces: u64,
        cents: u64,
    },
    /// The order will not be sent. Money that came for it belongs to the customer.
    #[event("order-withdrawn")]
    Withdrawn {
        #[tag]
        order: u64,
    },
}

/// The feed of ordering. The facts of other services are not told again.
pub(crate) struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = OrderEvent;
    type Public = OrderNews;

    fn publish(event: &Recorded<OrderEvent>) -> impl IntoIterator<Item = OrderNews> {
        match event.event.clone() {
            OrderEvent::Placed { order, customer, product, pieces, cents } => {
                Some(OrderNews::Accepted { order, customer, product, pieces, cents })
            }
            OrderEvent::Cancelled { order, .. } => Some(OrderNews::Withdrawn { order }),
            OrderEvent::Paid { .. }
            | OrderEvent::Unpaid { .. }
            | OrderEvent::Refunded { .. }
            | OrderEvent::Sent { .. }
            | OrderEvent::OutOfStock { .. } => None,
        }
    }
}
