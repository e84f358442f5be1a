//! The derive and a person implement the same declarations. Both implementations are equal.

use diptych::{Event, event::EncodedEvent, store::RawEvent};

use super::{encoded, json};

mod derived {
    use diptych::{Event, event::MessagePack};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event("money-paid", version = 2, codec = MessagePack)]
    pub(crate) struct Paid {
        #[tag]
        pub(crate) account: u64,
        #[tag("order")]
        pub(crate) orders: Vec<String>,
        #[tag("customer")]
        pub(crate) by: Option<String>,
        pub(crate) cents: u64,
    }

    #[derive(Debug, PartialEq, Event)]
    pub(crate) enum Account {
        #[event("account-opened")]
        Opened {
            #[tag]
            account: u64,
            owner: String,
        },
        Paid(Paid),
        #[event("day-ended", version = 3)]
        DayEnded,
    }
}

mod written {
    use diptych::{
        Event, EventType, Tag,
        event::{Codec, EncodedEvent, Json, MessagePack, SchemaError},
        store::RawEvent,
    };
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Paid {
        pub(crate) account: u64,
        pub(crate) orders: Vec<String>,
        pub(crate) by: Option<String>,
        pub(crate) cents: u64,
    }

    impl Event for Paid {
        fn types() -> Vec<EventType> {
            let paid = EventType::new("money-paid").version(2);
            vec![paid.tags(&["account", "order", "customer"]).codec::<MessagePack>()]
        }

        fn encode(&self) -> Result<RawEvent, SchemaError> {
            let mut event = RawEvent::new("money-paid", MessagePack::encode(self)?).version(2);
            event.tags.push(Tag::new("account", self.account));
            event.tags.extend(self.orders.iter().map(|order| Tag::new("order", order)));
            event.tags.extend(self.by.iter().map(|by| Tag::new("customer", by)));
            Ok(event)
        }

        fn decode(encoded: &EncodedEvent<'_>) -> Result<Paid, SchemaError> {
            match encoded.event_type {
                "money-paid" => encoded.read::<MessagePack, _>(),
                _ => Err(encoded.unknown::<Paid>()),
            }
        }
    }

    #[derive(Debug, PartialEq)]
    pub(crate) enum Account {
        Opened { account: u64, owner: String },
        Paid(Paid),
        DayEnded,
    }

    #[derive(Serialize, Deserialize)]
    struct Opened {
        account: u64,
        owner: String,
    }

    #[derive(Serialize, Deserialize)]
    struct DayEnded {}

    impl Event for Account {
        fn types() -> Vec<EventType> {
            let opened = EventType::new("account-opened").tags(&["account"]);
            let mut types = vec![opened, EventType::new("day-ended").version(3)];
            types.extend(Paid::types());
            types
        }

        fn encode(&self) -> Result<RawEvent, SchemaError> {
            match self {
                Account::Opened { account, owner } => {
                    let payload = Opened { account: *account, owner: owner.clone() };
                    let event = RawEvent::new("account-opened", Json::encode(&payload)?);
                    Ok(event.tag(Tag::new("account", account)))
                }
                Account::Paid(paid) => paid.encode(),
                Account::DayEnded => {
                    Ok(RawEvent::new("day-ended", Json::encode(&DayEnded {})?).version(3))
                }
            }
        }

        fn decode(encoded: &EncodedEvent<'_>) -> Result<Account, SchemaError> {
            match encoded.event_type {
                "account-opened" => {
                    let Opened { account, owner } = encoded.read::<Json, _>()?;
                    Ok(Account::Opened { account, owner })
                }
                "day-ended" => {
                    let DayEnded {} = encoded.read::<Json, _>()?;
                    Ok(Account::DayEnded)
                }
                other if Paid::has_type(other) => Paid::decode(encoded).map(Account::Paid),
                _ => Err(encoded.unknown::<Account>()),
            }
        }
    }
}

/// Builds a pair of values from one expression: a derived and a written one.
macro_rules! both {
    ($value:expr) => {
        (
            {
                use derived::*;
                $value
            },
            {
                use written::*;
                $value
            },
        )
    };
}

/// Decodes the event with both types, and asserts that the results or errors are equal apart from
/// the path of the type. Returns the result as text.
fn same<D: Event + std::fmt::Debug, W: Event + std::fmt::Debug>(raw: &RawEvent) -> String {
    let encoded: EncodedEvent<'_> = encoded(raw);
    let (derived, written) = (D::decode(&encoded), W::decode(&encoded));
    let derived = format!("{derived:?}").replace("derived::", "");
    assert_eq!(derived, format!("{written:?}").replace("written::", ""));
    derived
}

#[test]
fn the_derive_of_a_struct_equals_the_code_of_a_person() {
    assert_eq!(derived::Paid::types(), written::Paid::types());
    for orders in [vec![], vec!["7".to_owned(), "8".to_owned()]] {
        for by in [None, Some("ada".to_owned())] {
            let paid = both!(Paid { account: 4, orders: orders.clone(), by: by.clone(), cents: 9 });
            let raw = paid.0.encode().unwrap();
            assert_eq!(raw, paid.1.encode().unwrap());
            assert!(same::<derived::Paid, written::Paid>(&raw).starts_with("Ok(Paid {"));
        }
    }
    for (raw, error) in
        [(json("money-paid", "{}"), "Decode"), (json("money-spent", "{}"), "UnknownType")]
    {
        assert!(same::<derived::Paid, written::Paid>(&raw).contains(error));
    }
}

#[test]
fn the_derive_of_an_enum_equals_the_code_of_a_person() {
    type Both = (derived::Account, written::Account);
    // The own events of the enum come first, whatever the order of the variants.
    assert_eq!(derived::Account::types(), written::Account::types());
    let opened: Both = both!(Account::Opened { account: 4, owner: "ada".into() });
    let paid: Both =
        both!(Account::Paid(Paid { account: 4, orders: vec!["7".into()], by: None, cents: 9 }));
    for (derived, written) in [opened, paid, both!(Account::DayEnded)] {
        let raw = derived.encode().unwrap();
        assert_eq!(raw, written.encode().unwrap());
        assert!(same::<derived::Account, written::Account>(&raw).starts_with("Ok("));
    }
    for (raw, error) in [
        (json("account-opened", r#"{"account":4}"#), "missing field `owner`"),
        (json("account-opened", "4"), "expected struct Opened"),
        (json("account-closed", "{}"), "UnknownType"),
        (json("day-ended", "7"), "expected struct DayEnded"),
    ] {
        let said = same::<derived::Account, written::Account>(&raw);
        assert!(said.contains(error), "{said}");
    }
    for name in ["account-opened", "day-ended", "money-paid", "account-closed", ""] {
        assert_eq!(derived::Account::has_type(name), written::Account::has_type(name));
    }
}

#[test]
fn an_event_without_fields_is_an_empty_object() {
    let raw = derived::Account::DayEnded.encode().unwrap();
    assert_eq!(raw.payload, b"{}");
}
