//! Ordering decides that an order without goods is cancelled. Payment hears about that, and gives
//! the money back.

use diptych::process::{Process, ReactionContext, Reactions, Trigger};

use super::{COMMAND, events::OrderEvent, left::OrderCommand};

/// The process. Its instances are the orders.
#[derive(Default)]
pub(super) struct Cancellation;

impl Process for Cancellation {
    type Event = OrderEvent;
    const NAME: &'static str = "cancellation";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<OrderEvent>) {}

    fn react(&self, trigger: &Trigger<OrderEvent>, _: &ReactionContext<'_>) -> Reactions {
        match trigger {
            Trigger::Event(event) => match &event.event {
                OrderEvent::OutOfStock { order, product } => {
                    let reason = format!("there is no {product}");
                    Reactions::none().send(COMMAND, &OrderCommand::Cancel { order: *order, reason })
                }
                _ => Reactions::none(),
            },
            _ => Reactions::none(),
        }
    }
}
