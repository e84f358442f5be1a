//! A parcel that is ordered and paid is packed. The two facts come by two feeds, in any order.

use diptych::process::{Process, ReactionContext, Reactions, Trigger};

use super::{COMMAND, events::ParcelEvent, left::ParcelCommand};

/// The process. Its instances are the orders.
#[derive(Default)]
pub(super) struct Dispatch {
    product: Option<String>,
    is_released: bool,
}

impl Process for Dispatch {
    type Event = ParcelEvent;
    const NAME: &'static str = "dispatch";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<ParcelEvent>) {
        let Trigger::Event(event) = trigger else { return };
        match &event.event {
            ParcelEvent::Wanted { product, .. } => self.product = Some(product.clone()),
            ParcelEvent::Released { .. } => self.is_released = true,
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<ParcelEvent>, _: &ReactionContext<'_>) -> Reactions {
        let none = Reactions::none();
        let Trigger::Event(event) = trigger else { return none };
        match (&event.event, &self.product, self.is_released) {
            (
                ParcelEvent::Wanted { order, .. } | ParcelEvent::Released { order },
                Some(product),
                true,
            ) => {
                let pack = ParcelCommand::Pack { order: *order, product: product.clone() };
                none.send(COMMAND, &pack)
            }
            (ParcelEvent::Sent { .. } | ParcelEvent::Missing { .. }, ..) => none.end(),
            _ => none,
        }
    }
}
