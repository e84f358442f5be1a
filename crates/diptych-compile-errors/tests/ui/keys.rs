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

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", version = 5000000000)]
struct TooHigh;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", codec = "MessagePack")]
struct CodecAsText;

#[derive(Event, Serialize, Deserialize)]
#[event("account-opened", crate = "diptych")]
struct CrateAsText;

#[derive(Event, Serialize, Deserialize)]
#[event = "account-opened"]
struct Assigned;

#[derive(Event)]
#[event("account")]
enum Named {
    #[event("account-opened")]
    Opened,
}

#[derive(Event)]
enum Inside {
    #[event("account-opened", crate = diptych)]
    Opened,
}

fn main() {}
