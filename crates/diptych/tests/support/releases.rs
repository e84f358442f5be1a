//! A domain in its third release: the events of its older releases, and their upcasters.

use diptych::{
    App, Event, Filter, Memory, Tag, Upcasters,
    event::{EncodedEvent, Upcast, UpcastError},
    store::{Limits, RawEvent},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{counted_store::CountedStore, declare::events};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    account: u64,
    owner: String,
    currency: String,
    branch: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    account: u64,
    to: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) account: u64,
    pub(crate) name: String,
}

// The events that the program knows today.
events!(Today {
    Opened(Opened) = "account-opened", 3, [account];
    Moved(Moved) = "customer-moved", 1, [account];
    Named(Named) = "customer-named", 2, [account];
});
// Programs that know some of these events.
events!(Naming { Named(Named) = "customer-named", 2, [account]; });
events!(Opening { Opened(Opened) = "account-opened", 3, [account]; });

/// Upcasts the events of every older release to the current ones:
/// - `account-opened` had no currency in version 1, and no branch in versions 1 and 2;
/// - `customer-relocated` is the old name of `customer-moved`;
/// - `customer-changed` held a name and an address in one event;
/// - `customer-named` had its name in the field `called` in version 1;
/// - heartbeats hold no information and are dropped.
pub(crate) fn upcasters() -> Upcasters {
    Upcasters::new()
        .object("account-opened", 1, |payload| payload.insert("currency", "EUR"))
        .object("account-opened", 2, |payload| payload.insert("branch", 1))
        .rename("customer-relocated", "customer-moved")
        .split("customer-changed", 1, &["customer-named", "customer-moved"], change)
        .object("customer-named", 1, |payload| match payload.rename("called", "name")? {
            true => Ok(()),
            false => Err("there is no name".into()),
        })
        .drop("heartbeat", 1)
}

fn change(old: &EncodedEvent<'_>) -> Result<Vec<Upcast>, UpcastError> {
    let old: Value = serde_json::from_slice(old.payload)?;
    let named = json!({ "account": old["account"], "called": old["called"] });
    let moved = json!({ "account": old["account"], "to": old["to"] });
    let mut made = vec![Upcast::json("customer-named", 1, &named)?];
    if !old["to"].is_null() {
        made.push(Upcast::json("customer-moved", 1, &moved)?);
    }
    Ok(made)
}

pub(crate) fn raw(event_type: &'static str, version: u32, payload: &Value) -> RawEvent {
    let event = RawEvent::new(event_type, payload.to_string()).version(version);
    event.tag(Tag::new("account", &payload["account"]))
}

/// Events of all kinds that older releases wrote, and one event of the current release.
pub(crate) fn history() -> Vec<RawEvent> {
    vec![
        raw("account-opened", 1, &json!({ "account": 7, "owner": "ann" })),
        raw("customer-changed", 1, &json!({ "account": 7, "called": "Ann", "to": "Rome" })),
        raw("heartbeat", 1, &json!({ "account": 7 })),
        raw("account-opened", 2, &json!({ "account": 7, "owner": "bob", "currency": "CHF" })),
        raw("customer-relocated", 1, &json!({ "account": 7, "to": "Bern", "unknown": [1, {}] })),
        raw("customer-named", 1, &json!({ "account": 7, "called": "Bob" })),
        raw("account-opened", 1, &json!({ "account": 8, "owner": "eve" })),
        raw("customer-changed", 1, &json!({ "account": 7, "called": "Eve" })),
        opened("joe", "USD", 4).encode().unwrap(),
    ]
}

pub(crate) fn opened(owner: &str, currency: &str, branch: u64) -> Today {
    let (owner, currency) = (owner.to_owned(), currency.to_owned());
    Today::Opened(Opened { account: 7, owner, currency, branch })
}

pub(crate) fn named(name: &str) -> Today {
    Today::Named(Named { account: 7, name: name.to_owned() })
}

pub(crate) fn moved(to: &str) -> Today {
    Today::Moved(Moved { account: 7, to: to.to_owned() })
}

/// The history as the program reads it today, for account 7.
pub(crate) fn story() -> Vec<String> {
    let story = [
        (1, opened("ann", "EUR", 1)),
        (2, named("Ann")),
        (2, moved("Rome")),
        (4, opened("bob", "CHF", 1)),
        (5, moved("Bern")),
        (6, named("Bob")),
        (8, named("Eve")),
        (9, opened("joe", "USD", 4)),
    ];
    story.map(|(position, event)| format!("{position} {event:?}")).to_vec()
}

pub(crate) fn of(types: &[&'static str]) -> Filter {
    let seven = Filter::tag(Tag::new("account", 7));
    if types.is_empty() { seven } else { seven.of_types(types) }
}

/// Whether a line of the story is selected.
pub(crate) type IsOf = fn(&str) -> bool;

/// Filters, each with the check that tells which lines of the story it selects.
pub(crate) fn questions() -> Vec<(Filter, IsOf)> {
    vec![
        (of(&[]), |_| true),
        (of(&["customer-moved"]), |line| line.contains("Moved")),
        (of(&["customer-named"]), |line| line.contains("Named")),
        (of(&["customer-named", "account-opened"]), |line| !line.contains("Moved")),
    ]
}

pub(crate) fn expected(is: IsOf) -> Vec<String> {
    story().into_iter().filter(|line| is(line)).collect()
}

/// A store whose batches are small.
pub(crate) fn memory() -> CountedStore {
    let mut limits = Limits::default();
    limits.batch_events = 2;
    CountedStore::new(Memory::new().limits(limits))
}

pub(crate) async fn app(store: &CountedStore) -> App {
    App::over(store.store()).upcasters(upcasters()).start().await.unwrap()
}
