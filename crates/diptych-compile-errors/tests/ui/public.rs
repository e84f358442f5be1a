//! A public event is no event, so no model of any service can use it.

use diptych::{Event, Fold, Recorded, collaboration::PublicEvent};

#[derive(PublicEvent, serde::Serialize, serde::Deserialize)]
#[event("order-placed")]
struct OrderPlaced {
    #[tag]
    order: u64,
}

#[derive(Default)]
struct Orders(u64);

impl Fold for Orders {
    type Event = OrderPlaced;

    fn apply(&mut self, _: &Recorded<OrderPlaced>) {
        self.0 += 1;
    }
}

fn takes<E: Event>() {}

fn main() {
    takes::<OrderPlaced>();
}
