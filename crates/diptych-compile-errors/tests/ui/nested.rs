//! Fields that give no tags.

use diptych::{Event, event::Tags};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Address {
    city: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event("customer-moved")]
struct Moved {
    #[tag(nested)]
    to: Address,
}

#[derive(Tags)]
struct Nothing {
    city: String,
}

#[derive(Tags)]
struct Borrowed<'a> {
    #[tag]
    city: &'a str,
}

#[derive(Tags)]
enum Either {
    This,
}

fn main() {}
