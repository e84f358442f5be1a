//! The published language of shipping. Other services know this module, and no other one of
//! shipping.

use diptych::{
    Recorded,
    collaboration::{Feed, PublicEvent},
};
use serde::{Deserialize, Serialize};

use super::events::ParcelEvent;

/// Shipping tells this to other services.
#[derive(Clone, Debug, PartialEq, PublicEvent, Serialize, Deserialize)]
pub(crate) enum ParcelNews {
    /// The goods are on their way.
    #[event("parcel-left")]
    Sent {
        #[tag]
        order: u64,
    },
    /// The order is paid, and there are no goods for it.
    #[event("stock-ran-out")]
    GoodsMissing {
        #[tag]
        order: u64,
        product: String,
    },
}

/// The feed of shipping.
pub(crate) struct Parcels;

impl Feed for Parcels {
    const NAME: &'static str = "parcels";
    type Private = ParcelEvent;
    type Public = ParcelNews;

    fn publish(event: &Recorded<ParcelEvent>) -> impl IntoIterator<Item = ParcelNews> {
        match event.event.clone() {
            ParcelEvent::Sent { order, .. } => Some(ParcelNews::Sent { order }),
            ParcelEvent::Missing { order, product } => {
                Some(ParcelNews::GoodsMissing { order, product })
            }
            ParcelEvent::Delivered { .. }
            | ParcelEvent::Wanted { .. }
            | ParcelEvent::Released { .. } => None,
        }
    }
}
