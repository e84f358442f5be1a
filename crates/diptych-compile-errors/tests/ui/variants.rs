//! Variants that hold another event, and what does not belong there.

use diptych::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("payment-made")]
struct Paid {
    #[event("order")]
    order: u32,
}

#[derive(Event)]
#[event("account")]
enum Account {
    #[event("payment-made")]
    Named(Paid),
    Tagged(#[tag("order")] Paid),
    Inside(#[event("payment-made")] Paid),
}

#[derive(Event)]
enum Payments {
    Now(Paid),
    Later(Paid),
}

fn main() {}
