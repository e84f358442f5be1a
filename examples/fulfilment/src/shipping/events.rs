//! The private events of shipping. Both panels know them.

use diptych::Event;
use serde::{Deserialize, Serialize};

/// A private event of shipping.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum ParcelEvent {
    #[event("goods-delivered")]
    Delivered {
        #[tag]
        product: String,
        count: u32,
    },
    #[event("parcel-sent")]
    Sent {
        #[tag]
        order: u64,
        #[tag]
        product: String,
    },
    #[event("goods-missing")]
    Missing {
        #[tag]
        order: u64,
        product: String,
    },
    // From here on: facts of ordering and payment, in the words of this service.
    #[event("parcel-wanted")]
    Wanted {
        #[tag]
        order: u64,
        recipient: String,
        product: String,
    },
    #[event("parcel-released")]
    Released {
        #[tag]
        order: u64,
    },
}
