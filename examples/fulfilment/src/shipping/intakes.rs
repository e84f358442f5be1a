//! The facts of ordering and payment, in the words of shipping.

use diptych::collaboration::{ForeignEvent, Intake};

use super::events::ParcelEvent;
use crate::{Failure, ordering::published::OrderNews, payment::published::PaymentNews};

pub(super) struct ParcelsOfOrders;

impl Intake for ParcelsOfOrders {
    const NAME: &'static str = "parcels-of-orders";
    type Public = OrderNews;
    type Event = ParcelEvent;

    /// An order is withdrawn only after shipping said that it has no goods, so that is no news.
    fn translate(news: &ForeignEvent<OrderNews>) -> Result<Vec<ParcelEvent>, Failure> {
        match news.event.clone() {
            OrderNews::Accepted { order, customer, product, .. } => {
                Ok(vec![ParcelEvent::Wanted { order, recipient: customer, product }])
            }
            OrderNews::Withdrawn { .. } => Ok(Vec::new()),
        }
    }
}

pub(super) struct ParcelsOfPayments;

impl Intake for ParcelsOfPayments {
    const NAME: &'static str = "parcels-of-payments";
    type Public = PaymentNews;
    type Event = ParcelEvent;

    fn translate(news: &ForeignEvent<PaymentNews>) -> Result<Vec<ParcelEvent>, Failure> {
        match news.event {
            PaymentNews::Received { order } => Ok(vec![ParcelEvent::Released { order }]),
            PaymentNews::Failed { .. } | PaymentNews::Returned { .. } => Ok(Vec::new()),
        }
    }
}
