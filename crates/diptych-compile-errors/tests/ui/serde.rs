//! What serde can be told elsewhere, and not about the payload of a variant.

use diptych::Event;

#[derive(Event)]
enum Account {
    #[event("account-opened")]
    #[serde(with = "account")]
    Opened { account: String },
    #[event("account-renamed")]
    #[serde(default)]
    Renamed { account: String },
}

#[derive(Event)]
enum Path {
    #[event("account-closed")]
    Closed {
        #[serde(serialize_with = "no path")]
        account: String,
    },
}

fn main() {}
