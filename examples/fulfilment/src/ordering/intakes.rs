//! The facts of payment and shipping, in the words of ordering.

use diptych::collaboration::{ForeignEvent, Intake};

use super::events::OrderEvent;
use crate::{Failure, payment::published::PaymentNews, shipping::published::ParcelNews};

pub(super) struct FactsOfPayments;

impl Intake for FactsOfPayments {
    const NAME: &'static str = "payments";
    type Public = PaymentNews;
    type Event = OrderEvent;

    fn translate(news: &ForeignEvent<PaymentNews>) -> Result<Vec<OrderEvent>, Failure> {
        Ok(vec![match news.event.clone() {
            PaymentNews::Received { order } => OrderEvent::Paid { order },
            PaymentNews::Failed { order, reason } => OrderEvent::Unpaid { order, reason },
            PaymentNews::Returned { order } => OrderEvent::Refunded { order },
        }])
    }
}

pub(super) struct FactsOfParcels;

impl Intake for FactsOfParcels {
    const NAME: &'static str = "parcels";
    type Public = ParcelNews;
    type Event = OrderEvent;

    fn translate(news: &ForeignEvent<ParcelNews>) -> Result<Vec<OrderEvent>, Failure> {
        Ok(vec![match news.event.clone() {
            ParcelNews::Sent { order } => OrderEvent::Sent { order },
            ParcelNews::GoodsMissing { order, product } => {
                OrderEvent::OutOfStock { order, product }
            }
        }])
    }
}
