//! Names that cannot be told apart, or are none.

use diptych::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("")]
struct Empty;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened")]
#[event("account-created")]
struct Two;

#[derive(Event)]
enum Account {
    #[event("account-opened")]
    Opened { account: String },
    #[event("account-opened")]
    Created { account: String },
}

fn main() {}
