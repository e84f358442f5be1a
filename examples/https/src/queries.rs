//! The right panel: how many parcels are there.

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::commands::ParcelArrived;

#[derive(Clone, Default)]
pub(crate) struct Depot(u64);

impl Fold for Depot {
    type Event = ParcelArrived;

    fn apply(&mut self, _: &Recorded<ParcelArrived>) {
        self.0 += 1;
    }
}

/// How many parcels are there.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct HowMany {}

impl Query for HowMany {
    type View = Depot;
    type Answer = u64;

    fn answer(&self, depot: &Depot) -> u64 {
        depot.0
    }
}
