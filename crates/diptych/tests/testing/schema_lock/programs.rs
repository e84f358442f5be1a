//! One event as different states of a program declare it.

use diptych::{
    Event, EventType, Tag,
    event::{Codec, EncodedEvent, Json, MessagePack, SchemaError},
    store::RawEvent,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Declares an event in a module of its own, with the code that the derive would generate.
macro_rules! program {
    ($module:ident, $event:ident, $of:expr, $codec:ty, { $($fields:tt)* } $($sample:tt)*) => {
        pub(super) mod $module {
            use super::*;

            #[derive(Serialize, Deserialize)]
            pub(crate) struct $event { $($fields)* }

            impl Event for $event {
                fn types() -> Vec<EventType> {
                    vec![$of.codec::<$codec>()]
                }

                fn encode(&self) -> Result<RawEvent, SchemaError> {
                    let of = $of;
                    let event = RawEvent::new(of.name, <$codec>::encode(self)?);
                    let mut event = event.version(of.version);
                    event.tags = of.tags.iter().map(|key| Tag::new(key, "x")).collect();
                    Ok(event)
                }

                fn decode(encoded: &EncodedEvent<'_>) -> Result<$event, SchemaError> {
                    encoded.read::<$codec, _>()
                }
            }

            $($sample)*
        }
    };
}

const DEPOSITED: EventType = EventType::new("money-deposited").tags(&["account"]);

fn ann() -> String {
    "ann".to_owned()
}

program!(first, Deposited, DEPOSITED, Json, { account: String, amount: u64 }
    pub(crate) fn deposited(amount: u64) -> Deposited {
        Deposited { account: ann(), amount }
    }
);

program!(first_again, Deposited, DEPOSITED, Json, { amount: u64, account: String });

program!(noted, Deposited, DEPOSITED, Json, { account: String, amount: u64, note: Option<String> }
    pub(crate) fn deposited(note: Option<&str>) -> Deposited {
        Deposited { account: ann(), amount: 1, note: note.map(str::to_owned) }
    }
);

program!(note_as_number, Deposited, DEPOSITED, Json, {
    account: String, amount: u64, note: Option<u64>
}
    pub(crate) fn deposited(note: Option<u64>) -> Deposited {
        Deposited { account: ann(), amount: 1, note }
    }
);

program!(left_out, Deposited, DEPOSITED, Json, {
    account: String, amount: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>
}
    pub(crate) fn deposited(note: Option<&str>) -> Deposited {
        Deposited { account: ann(), amount: 1, note: note.map(str::to_owned) }
    }
);

program!(without_amount, Deposited, DEPOSITED, Json, { account: String }
    pub(crate) fn deposited() -> Deposited {
        Deposited { account: ann() }
    }
);

program!(amount_as_text, Deposited, DEPOSITED, Json, { account: String, amount: String }
    pub(crate) fn deposited(amount: &str) -> Deposited {
        Deposited { account: ann(), amount: amount.to_owned() }
    }
);

program!(other_tags, Deposited, DEPOSITED.tags(&["account", "branch"]), Json, {
    account: String, amount: u64
}
    pub(crate) fn deposited() -> Deposited {
        Deposited { account: ann(), amount: 1 }
    }
);

program!(packed, Deposited, DEPOSITED, MessagePack, { account: String, amount: u64 }
    pub(crate) fn deposited(amount: u64) -> Deposited {
        Deposited { account: ann(), amount }
    }
);

program!(second, Deposited, DEPOSITED.version(2), Json, {
    account: String, amount: u64, currency: String
}
    pub(crate) fn deposited() -> Deposited {
        Deposited { account: ann(), amount: 1, currency: "EUR".to_owned() }
    }
);

program!(second_by_branch, Deposited, DEPOSITED.version(2).tags(&["account", "branch"]), Json, {
    account: String, amount: u64, currency: String
}
    pub(crate) fn deposited() -> Deposited {
        Deposited { account: ann(), amount: 1, currency: "EUR".to_owned() }
    }
);

program!(one_way, Deposited, DEPOSITED, Json, {
    account: String,
    #[serde(rename(deserialize = "sum"))]
    amount: u64
}
    pub(crate) fn deposited() -> Deposited {
        Deposited { account: ann(), amount: 1 }
    }
);

program!(kinds, Paid, EventType::new("paid"), Json, { by: Kind }
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind { Cash, Card }

    pub(crate) fn paid(by: &str) -> Paid {
        Paid { by: if by == "cash" { Kind::Cash } else { Kind::Card } }
    }
);

program!(fewer_kinds, Paid, EventType::new("paid"), Json, { by: Kind }
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind { Card }

    pub(crate) fn paid() -> Paid {
        Paid { by: Kind::Card }
    }
);

/// A codec of the program itself. It writes JSON, which the schema lock does not know.
pub(super) struct Own;

impl Codec for Own {
    const NAME: &'static str = "own";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError> {
        Json::encode(value)
    }

    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn std::error::Error + Send + Sync + 'static>> {
        Json::decode(bytes)
    }
}

program!(opaque, Deposited, DEPOSITED, Own, { amount: u64 }
    pub(crate) fn deposited(amount: u64) -> Deposited {
        Deposited { amount }
    }
);

program!(opaque_even, Deposited, DEPOSITED, Own, { amount: Even }
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "u64")]
    struct Even(u64);

    impl TryFrom<u64> for Even {
        type Error = String;

        fn try_from(number: u64) -> Result<Even, String> {
            let odd = || format!("{number} is odd");
            number.is_multiple_of(2).then_some(Even(number)).ok_or_else(odd)
        }
    }

    pub(crate) fn deposited(amount: u64) -> Deposited {
        Deposited { amount: Even(amount) }
    }
);

/// An enum with several event types.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Account {
    Opened { owner: String },
    Closed,
}

impl Event for Account {
    fn types() -> Vec<EventType> {
        vec![EventType::new("account-opened"), EventType::new("account-closed")]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let name = match self {
            Account::Opened { .. } => "account-opened",
            Account::Closed => "account-closed",
        };
        Ok(RawEvent::new(name, Json::encode(self)?))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Account, SchemaError> {
        #[derive(Deserialize)]
        struct Opened {
            owner: String,
        }
        match encoded.event_type {
            "account-opened" => {
                let Opened { owner } = encoded.read::<Json, _>()?;
                Ok(Account::Opened { owner })
            }
            "account-closed" => encoded.read::<Json, ()>().map(|()| Account::Closed),
            _ => Err(encoded.unknown::<Account>()),
        }
    }
}
