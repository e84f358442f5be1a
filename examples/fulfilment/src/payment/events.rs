//! The private events of payment. Both panels know them.

use diptych::Event;
use serde::{Deserialize, Serialize};

/// A private event of payment.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum PaymentEvent {
    #[event("payment-received")]
    Received {
        #[tag]
        order: u64,
        receipt: String,
    },
    #[event("payment-refused")]
    Refused {
        #[tag]
        order: u64,
        reason: String,
    },
    /// The money did not come in time.
    #[event("payment-overdue")]
    Overdue {
        #[tag]
        order: u64,
    },
    /// The money came after that, or for an order that is not wanted any more.
    #[event("payment-unwanted")]
    Unwanted {
        #[tag]
        order: u64,
        receipt: String,
    },
    #[event("payment-returned")]
    Returned {
        #[tag]
        order: u64,
        receipt: String,
    },
    // From here on: facts of ordering, in the words of this service.
    #[event("payment-due")]
    Due {
        #[tag]
        order: u64,
        cents: u64,
        cents_a_piece: u64,
    },
    #[event("refund-due")]
    RefundDue {
        #[tag]
        order: u64,
    },
}
