//! Items that cannot be events.

use diptych::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened")]
struct Tuple(String, u32);

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened")]
struct Generic<T> {
    account: T,
}

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened")]
struct Borrowed<'a> {
    account: &'a str,
}

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened")]
struct Bounded
where
    String: Clone,
{
    account: String,
}

#[derive(Event)]
#[event("account-opened")]
union Union {
    account: u32,
}

#[derive(Event)]
enum Empty {}

#[derive(Event)]
enum Account {
    #[event("account-opened")]
    Opened(String, u32),
    Closed(),
}

fn main() {}
