//! The derive macro `Event` of the crate `diptych`, which re-exports it.

mod attributes;
mod declaration;
mod described;
mod expansion;
mod payload;
mod serde_attributes;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements the trait `diptych::Event` for a struct, which is a single event type, or for an
/// enum, which is a choice of several event types.
///
/// ```
/// use diptych::{Event, event::MessagePack};
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
/// Place it before a struct, or before a variant that is an event of its own.
///
/// - The name is required. It stays in the log for ever, so it is independent of the Rust name,
///   which can change.
/// - `version` is the schema version of new events, 1 by default.
/// - `codec` is the path of a type that implements `diptych::event::Codec`. The default is
///   `diptych::event::Json`.
///
/// # `#[tag]` and `#[tag("key")]`
///
/// Place it before a field that says what the event is about. The key is the field's name (without
/// `r#`) or the given key. The value is the text from the field's `Display`. A field of type
/// `Option<T>` becomes a tag when there is a value. A field of type `Vec<T>` becomes one tag for
/// each element. The macro recognises both by the names `Option` and `Vec`, so it does not see
/// through a type alias.
///
/// # Payloads
///
/// A struct's own `Serialize` and `Deserialize` define its payload.
///
/// The payload of a variant is an object of its fields, and `{}` if it has none. The enum itself
/// needs no traits of serde. These `#[serde(...)]` attributes apply to such payloads:
///
/// - on a field, every attribute that serde has for fields;
/// - on a variant, `rename_all` and `deny_unknown_fields`;
/// - on the enum, `rename_all_fields` and `deny_unknown_fields`.
///
/// An enum may also derive the traits of serde itself. So the macro accepts `rename` and `alias` on
/// a variant, and any other attribute on the enum. These do not change the event. If a whole
/// payload needs other attributes, make it a struct and hold it in the variant.
///
/// # Enums of enums
///
/// A variant that holds one unnamed value, and has no `#[event]`, stands for any event of that
/// value's type: a struct with one event type, or another enum. So an enum can be the union of the
/// events of several modules, or a subset for a rule that needs fewer events. Enums can be nested
/// at any depth. Each variant that holds an event gets an implementation of `From`, so that
/// `.into()` converts an event into the union.
///
/// # Expansion
///
/// The struct above:
///
/// ```
/// # use diptych::event::MessagePack;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Paid {
/// #     account: u64,
/// #     orders: Vec<String>,
/// #     cents: u64,
/// # }
/// use diptych::{
///     Event, EventType, Tag, event::{Codec, EncodedEvent, SchemaError}, store::RawEvent,
/// };
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
///     fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError> {
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
/// The enum above, reduced to two variants:
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
/// use diptych::{
///     EventType, Tag, event::{Codec, EncodedEvent, Json, SchemaError}, store::RawEvent,
/// };
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
///     fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError> {
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
/// # assert_eq!(Account::decode(&EncodedEvent { event_type, version, payload }), Ok(event));
/// # assert!(Account::has_type("payment-made"));
/// ```
///
/// # Rejected items
///
/// The macro rejects
///
/// - generic types, unions, and several unnamed fields;
/// - an event without a name;
/// - two events of one name in one enum, two variants that hold one type, and two tags of one key
///   in one event, because a reader could not tell which one is meant.
///
/// The macro cannot see that two enums inside a third one have an event name in common. The first
/// read of the events finds that.
#[proc_macro_derive(Event, attributes(event, tag, serde))]
pub fn event(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = declaration::read(input).and_then(|declared| expansion::write(&declared));
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}
