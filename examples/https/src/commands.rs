//! The left panel: parcels arrive.

use diptych::{Command, DecisionContext, Event, Filter, Fold, Recorded, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A parcel arrived.
#[derive(Debug, Event, Serialize, Deserialize, JsonSchema)]
#[event("parcel-arrived")]
pub(crate) struct ParcelArrived {
    #[tag]
    pub(crate) parcel: String,
}

/// Whether one parcel is there.
#[derive(Default)]
pub(crate) struct Presence(bool);

impl Fold for Presence {
    type Event = ParcelArrived;

    fn apply(&mut self, _: &Recorded<ParcelArrived>) {
        self.0 = true;
    }
}

/// Brings a parcel.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Bring {
    pub(crate) parcel: String,
}

#[derive(Debug, thiserror::Error, Serialize, JsonSchema)]
#[error("the parcel is there")]
pub(crate) struct IsThere {}

impl Command for Bring {
    type State = Presence;
    type Event = ParcelArrived;
    type Rejection = IsThere;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("parcel", &self.parcel))
    }

    fn decide(
        &self,
        presence: &Presence,
        _: &DecisionContext,
    ) -> Result<Vec<ParcelArrived>, IsThere> {
        match presence.0 {
            false => Ok(vec![ParcelArrived { parcel: self.parcel.clone() }]),
            true => Err(IsThere {}),
        }
    }
}
