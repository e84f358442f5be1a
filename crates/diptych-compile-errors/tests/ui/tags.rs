//! Tags that are none.

use diptych::Event;
use serde::{Deserialize, Serialize};

#[derive(Event)]
enum Account {
    #[event("account-opened")]
    Opened {
        #[tag("")]
        empty: String,
        #[tag("a:b")]
        colon: String,
        #[tag = "account"]
        assigned: String,
        #[tag(account)]
        unquoted: String,
    },
    #[event("account-frozen")]
    Frozen {
        #[tag]
        #[tag("account")]
        twice: String,
    },
    #[tag("account")]
    #[event("account-closed")]
    Closed,
}

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened")]
#[tag("account")]
struct Opened {
    account: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event("account-numbered")]
struct Numbered(#[tag] u32);

fn main() {}
