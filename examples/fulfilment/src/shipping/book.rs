//! The book of shipping: how far each parcel is, and the goods in stock. The commands decide over
//! it, and the app shows it as a view.

use std::collections::BTreeMap;

use diptych::{Fold, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::ParcelEvent;

/// How far a parcel is. Orders and payments come by two feeds, so either can be the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ParcelStep {
    /// It is ordered, and not paid.
    Wanted,
    /// It is paid, and the order has not arrived.
    Released,
    /// It is ordered and paid.
    Ready,
    Sent,
    Missing,
}

/// All parcels, by order, and the pieces of each product in stock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParcelBook {
    pub(crate) parcels: BTreeMap<u64, ParcelStep>,
    stock: BTreeMap<String, u64>,
}

impl ParcelBook {
    pub(super) fn step_of(&self, order: u64) -> Option<ParcelStep> {
        self.parcels.get(&order).copied()
    }

    pub(super) fn has(&self, product: &str) -> bool {
        self.stock.get(product).is_some_and(|count| *count > 0)
    }
}

impl Fold for ParcelBook {
    type Event = ParcelEvent;

    fn apply(&mut self, event: &Recorded<ParcelEvent>) {
        match &event.event {
            ParcelEvent::Delivered { product, count } => {
                *self.stock.entry(product.clone()).or_default() += u64::from(*count);
            }
            ParcelEvent::Wanted { order, .. } => {
                let step = match self.step_of(*order) {
                    None => ParcelStep::Wanted,
                    Some(_) => ParcelStep::Ready,
                };
                self.parcels.insert(*order, step);
            }
            ParcelEvent::Released { order } => {
                let step = match self.step_of(*order) {
                    None => ParcelStep::Released,
                    Some(_) => ParcelStep::Ready,
                };
                self.parcels.insert(*order, step);
            }
            ParcelEvent::Sent { order, product } => {
                if let Some(count) = self.stock.get_mut(product) {
                    *count = count.saturating_sub(1);
                }
                self.parcels.insert(*order, ParcelStep::Sent);
            }
            ParcelEvent::Missing { order, .. } => {
                self.parcels.insert(*order, ParcelStep::Missing);
            }
        }
    }
}
