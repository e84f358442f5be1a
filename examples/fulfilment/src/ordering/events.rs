//! The private events of ordering. Both panels know them.

use diptych::Event;
use serde::{Deserialize, Serialize};

/// A private event of ordering.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
        customer: String,
        product: String,
        pieces: u64,
        cents: u64,
    },
    #[event("order-cancelled")]
    Cancelled {
        #[tag]
        order: u64,
        reason: String,
    },
    // From here on: facts of other services, in the words of this one.
    #[event("order-paid")]
    Paid {
        #[tag]
        order: u64,
    },
    #[event("order-unpaid")]
    Unpaid {
        #[tag]
        order: u64,
        reason: String,
    },
    #[event("order-refunded")]
    Refunded {
        #[tag]
        order: u64,
    },
    #[event("order-sent")]
    Sent {
        #[tag]
        order: u64,
    },
    #[event("order-out-of-stock")]
    OutOfStock {
        #[tag]
        order: u64,
        product: String,
    },
}
