//! What `#[event]` does not know.

use diptych::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", since = 2)]
struct Unknown;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", type = 2)]
struct Keyword;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", version = 2, version = 3)]
struct Twice;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", version = 0)]
struct Zero;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", version = "2")]
struct Text;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened" version = 2)]
struct NoComma;

fn main() {}
