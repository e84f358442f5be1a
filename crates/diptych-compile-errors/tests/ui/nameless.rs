//! An event without a stable name.

use diptych::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Nothing;

#[derive(Event, Serialize, Deserialize)]
#[event]
struct Bare;

#[derive(Event, Serialize, Deserialize)]
#[event = "account-opened"]
struct Assigned;

#[derive(Event, Serialize, Deserialize)]
#[event(version = 2)]
struct OnlyVersion;

#[derive(Event)]
enum Account {
    Opened { account: String },
    Closed,
}

fn main() {}
