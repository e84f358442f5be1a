//! `#[derive(Event)]` of the crate `diptych`, which re-exports it.

mod attributes;
mod declared;
mod payload;
mod serde_attributes;
mod written;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Writes the implementation of the trait `diptych::Event` for a struct, which is one event, or
/// an enum, which is one of several.
///
/// ```
/// use diptych::{Event, MessagePack};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event("payment-made", version = 2, codec = MessagePack)]
/// struct Paid {
///     #[tag]
///     account: u64,
///     #[tag("order")]
///     orders: Vec<String>,
///     cents: u64,
/// }
///
/// #[derive(Event)]
/// enum Account {
///     #[event("account-opened")]
///     Opened {
///         #[tag]
///         account: u64,
///         #[tag("customer")]
///         owner: Option<String>,
///     },
///     #[event("account-frozen", version = 2)]
///     Frozen {
///         #[tag]
///         account: u64,
///         #[serde(default)]
///         reason: Option<String>,
///     },
///     #[event("day-ended")]
///     DayEnded,
///     Paid(Paid),
/// }
/// # assert_eq!(Account::types().len(), 4);
/// ```
///
/// # `#[event("name", version = 2, codec = MessagePack)]`
///
/// Stands before a struct, or before a variant that is an event of its own.
///
/// - The name is required. It stands in the log for ever, so it is given apart from the Rust
///   name, which can change.
/// - `version` is the schema version that is written now, 1 if nothing is said.
/// - `codec` is a type that implements `diptych::Codec`, as it is called where the event is
///   declared: `diptych::Json` if nothing is said.
///
/// # `#[tag]` and `#[tag("key")]`
///
/// Stands before a field that says what the event is about. The key is the name of the field
/// (without `r#`), or the one that is given; the value is what the `Display` of the field says.
/// A field of type `Option<T>` is a tag when there is a value, one of type `Vec<T>` is a tag for
/// each element. Both are known by that name: another name for the same type is not.
///
/// # Payloads
///
/// The payload of a struct is what its own `Serialize` and `Deserialize` make of it.
///
/// The payload of a variant is an object of its fields, and `{}` if it has none. The enum itself
/// needs no traits of serde. In `#[serde(...)]` a field can be told everything that serde knows
/// about fields, a variant `rename_all` and `deny_unknown_fields`, and the enum
/// `rename_all_fields` and `deny_unknown_fields`. What is said beyond that about the enum, and
/// `rename` and `alias` of a variant, is for an enum that derives the traits of serde as well,
/// and changes nothing about the event. What else can be said about a whole payload is said about
/// a struct that the variant holds.
///
/// # Enums of enums
///
/// A variant that holds one value without a name, and has no `#[event]`, is any of the events of
/// that value: a struct with one, or another enum. So a union of the events of several modules,
/// and a subset for a rule that needs less, are enums as well, at any depth. For each such
/// variant there is a `From`, so that `.into()` makes one of the union.
///
/// # What it expands to
///
/// The struct above:
///
/// ```
/// # use diptych::MessagePack;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Paid {
/// #     account: u64,
/// #     orders: Vec<String>,
/// #     cents: u64,
/// # }
/// use diptych::{Codec, Encoded, Event, EventType, RawEvent, SchemaError, Tag};
///
/// impl Event for Paid {
///     fn types() -> Vec<EventType> {
///         let paid = EventType::new("payment-made").version(2);
///         vec![paid.tags(&["account", "order"]).codec::<MessagePack>()]
///     }
///
///     fn encode(&self) -> Result<RawEvent, SchemaError> {
///         let mut event = RawEvent::new("payment-made", MessagePack::encode(self)?).version(2);
///         event.tags.push(Tag::new("account", &self.account));
///         for value in &self.orders {
///             event.tags.push(Tag::new("order", value));
///         }
///         Ok(event)
///     }
///
///     fn decode(encoded: &Encoded<'_>) -> Result<Self, SchemaError> {
///         match encoded.event_type {
///             "payment-made" => encoded.read::<MessagePack, Paid>(),
///             _ => Err(encoded.unknown::<Self>()),
///         }
///     }
///
///     fn has_type(name: &str) -> bool {
///         name == "payment-made"
///     }
/// }
/// ```
///
/// The enum above, of which two variants are enough to see:
///
/// ```
/// # use diptych::Event;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
/// # #[event("payment-made")]
/// # struct Paid {}
/// # #[derive(Debug, PartialEq)]
/// # enum Account {
/// #     Opened { account: u64, owner: Option<String> },
/// #     Paid(Paid),
/// # }
/// use diptych::{Codec, Encoded, EventType, Json, RawEvent, SchemaError, Tag};
///
/// impl Event for Account {
///     fn types() -> Vec<EventType> {
///         let opened = EventType::new("account-opened").tags(&["account", "customer"]);
///         [vec![opened], Paid::types()].concat()
///     }
///
///     fn encode(&self) -> Result<RawEvent, SchemaError> {
///         match self {
///             Account::Opened { account, owner } => {
///                 #[derive(Serialize)]
///                 struct Opened<'a> {
///                     account: &'a u64,
///                     owner: &'a Option<String>,
///                 }
///                 let payload = Json::encode(&Opened { account, owner })?;
///                 let mut event = RawEvent::new("account-opened", payload);
///                 event.tags.push(Tag::new("account", account));
///                 if let Some(value) = owner {
///                     event.tags.push(Tag::new("customer", value));
///                 }
///                 Ok(event)
///             }
///             Account::Paid(event) => event.encode(),
///         }
///     }
///
///     fn decode(encoded: &Encoded<'_>) -> Result<Self, SchemaError> {
///         match encoded.event_type {
///             "account-opened" => {
///                 #[derive(Deserialize)]
///                 struct Opened {
///                     account: u64,
///                     owner: Option<String>,
///                 }
///                 let Opened { account, owner } = encoded.read::<Json, Opened>()?;
///                 Ok(Account::Opened { account, owner })
///             }
///             other if Paid::has_type(other) => Paid::decode(encoded).map(Account::Paid),
///             _ => Err(encoded.unknown::<Self>()),
///         }
///     }
///
///     fn has_type(name: &str) -> bool {
///         matches!(name, "account-opened") || Paid::has_type(name)
///     }
/// }
///
/// impl From<Paid> for Account {
///     fn from(event: Paid) -> Account {
///         Account::Paid(event)
///     }
/// }
/// # let event = Account::Opened { account: 4, owner: None };
/// # let raw = event.encode().unwrap();
/// # let (event_type, version, payload) = (&*raw.event_type, 1, &*raw.payload);
/// # assert_eq!(Account::decode(&Encoded { event_type, version, payload }), Ok(event));
/// # assert!(Account::has_type("payment-made"));
/// ```
///
/// # What it refuses
///
/// Generic types, unions, and several fields without names. An event without a name. In one enum
/// the same name twice or two variants that hold the same type, and in one event the same tag key
/// twice: what is read could be either. That two enums in a third share a name is found when the
/// events are first read.
#[proc_macro_derive(Event, attributes(event, tag, serde))]
pub fn event(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = declared::read(input).and_then(|declared| written::write(&declared));
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}
