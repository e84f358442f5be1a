//! The book of payment: how far each payment is. The commands decide over it, and the app shows it
//! as a view.

use std::collections::BTreeMap;

use diptych::{Fold, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::PaymentEvent;

/// How far a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PaymentStep {
    Due,
    Received,
    Refused,
    Overdue,
    Unwanted,
    RefundDue,
    Returned,
}

/// The payment of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) cents: u64,
    pub(crate) step: PaymentStep,
}

/// All payments, by order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PaymentBook {
    pub(crate) payments: BTreeMap<u64, Payment>,
}

impl Fold for PaymentBook {
    type Event = PaymentEvent;

    fn apply(&mut self, event: &Recorded<PaymentEvent>) {
        let (order, step) = match &event.event {
            PaymentEvent::Due { order, cents, .. } => {
                let due = Payment { cents: *cents, step: PaymentStep::Due };
                self.payments.insert(*order, due);
                return;
            }
            PaymentEvent::Received { order, .. } => (order, PaymentStep::Received),
            PaymentEvent::Refused { order, .. } => (order, PaymentStep::Refused),
            PaymentEvent::Overdue { order } => (order, PaymentStep::Overdue),
            PaymentEvent::Unwanted { order, .. } => (order, PaymentStep::Unwanted),
            PaymentEvent::RefundDue { order } => (order, PaymentStep::RefundDue),
            PaymentEvent::Returned { order, .. } => (order, PaymentStep::Returned),
        };
        if let Some(payment) = self.payments.get_mut(order) {
            payment.step = step;
        }
    }
}
