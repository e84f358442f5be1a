//! The published language of payment. Other services know this module, and no other one of
//! payment.

use diptych::{
    Recorded,
    collaboration::{Feed, PublicEvent},
};
use serde::{Deserialize, Serialize};

use super::events::PaymentEvent;

/// Payment tells this to other services. Receipts and amounts are its own business.
#[derive(Clone, Debug, PartialEq, PublicEvent, Serialize, Deserialize)]
pub(crate) enum PaymentNews {
    /// The order is paid.
    #[event("payment-arrived")]
    Received {
        #[tag]
        order: u64,
    },
    /// The order will not be paid.
    #[event("payment-failed")]
    Failed {
        #[tag]
        order: u64,
        reason: String,
    },
    /// The customer has the money back.
    #[event("payment-sent-back")]
    Returned {
        #[tag]
        order: u64,
    },
}

/// The feed of payment.
pub(crate) struct Payments;

impl Feed for Payments {
    const NAME: &'static str = "payments";
    type Private = PaymentEvent;
    type Public = PaymentNews;

    fn publish(event: &Recorded<PaymentEvent>) -> impl IntoIterator<Item = PaymentNews> {
        match event.event.clone() {
            PaymentEvent::Received { order, .. } => Some(PaymentNews::Received { order }),
            PaymentEvent::Refused { order, reason } => Some(PaymentNews::Failed { order, reason }),
            PaymentEvent::Overdue { order } => {
                let reason = "it was not paid in time".to_owned();
                Some(PaymentNews::Failed { order, reason })
            }
            PaymentEvent::Returned { order, .. } => Some(PaymentNews::Returned { order }),
            PaymentEvent::Due { .. }
            | PaymentEvent::RefundDue { .. }
            | PaymentEvent::Unwanted { .. } => None,
        }
    }
}
