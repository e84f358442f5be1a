//! The facts of ordering, in the words of payment.

use diptych::collaboration::{ForeignEvent, Intake};

use super::events::PaymentEvent;
use crate::{Failure, ordering::published::OrderNews};

pub(super) struct Bills;

impl Intake for Bills {
    const NAME: &'static str = "bills";
    type Public = OrderNews;
    type Event = PaymentEvent;

    /// An order without a piece has no price of one, so it is parked for a person. The other orders
    /// go on.
    fn translate(news: &ForeignEvent<OrderNews>) -> Result<Vec<PaymentEvent>, Failure> {
        match &news.event {
            OrderNews::Accepted { order, pieces, cents, .. } => {
                let cents_a_piece = cents.checked_div(*pieces).ok_or_else(|| {
                    format!("order {order} has no piece, so the price of one is unknown")
                })?;
                Ok(vec![PaymentEvent::Due { order: *order, cents: *cents, cents_a_piece }])
            }
            OrderNews::Withdrawn { order } => Ok(vec![PaymentEvent::RefundDue { order: *order }]),
        }
    }
}
