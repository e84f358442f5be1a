//! Tags, codecs, and the serde attributes of fields.

use std::{collections::BTreeMap, fmt};

use diptych::{
    Event,
    event::{MessagePack, SchemaError},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{json, read, tags, text, written};

/// An id as in real programs: a newtype with a `Display`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OrderId(u32);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o-{}", self.0)
    }
}

#[derive(Debug, PartialEq, Event)]
enum Tagged {
    #[event("order-tagged")]
    Order {
        #[tag]
        order: OrderId,
        #[tag("customer")]
        by: std::option::Option<String>,
        #[tag("article")]
        articles: std::vec::Vec<u8>,
        #[tag]
        either: Option<Vec<Option<u8>>>,
        untagged: u8,
    },
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("order-renumbered")]
struct Renumbered(#[tag("order")] OrderId);

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("nothing-happened")]
struct Nothing;

#[test]
fn tags_come_from_ids_options_and_lists_and_under_other_names() {
    let [known] = Tagged::types()[..] else { panic!("the enum has one event") };
    assert_eq!(known.tags, ["order", "customer", "article", "either"]);
    let order = OrderId(7);
    let (by, articles, either) = (None, vec![], None);
    let bare = Tagged::Order { order: order.clone(), by, articles, either, untagged: 1 };
    assert_eq!(tags(&written(bare)), ["order:o-7"]);

    let (by, articles) = (Some("ada".to_owned()), vec![3, 5]);
    let either = Some(vec![Some(1), None, Some(2)]);
    let full = Tagged::Order { order, by, articles, either, untagged: 1 };
    let expected = ["order:o-7", "customer:ada", "article:3", "article:5", "either:1", "either:2"];
    assert_eq!(tags(&written(full)), expected);
}

#[test]
fn a_newtype_or_unit_struct_is_encoded_by_its_own_serde() {
    let raw = written(Renumbered(OrderId(7)));
    assert_eq!((text(&raw), tags(&raw)), ("7", vec!["order:o-7"]));
    assert_eq!(text(&written(Nothing)), "null");
}

#[derive(Debug, PartialEq, Event)]
enum Reading {
    #[event("temperature-read", version = 2)]
    Plain {
        #[tag]
        sensor: String,
        celsius: f64,
        samples: Vec<u32>,
    },
    #[event("temperature-read-compact", version = 4, codec = MessagePack)]
    Compact {
        #[tag]
        sensor: String,
        celsius: f64,
        samples: Vec<u32>,
    },
    #[event("sensor-off", codec = MessagePack)]
    Off,
}

#[test]
fn messagepack_is_smaller_than_json_and_holds_the_same_event() {
    let (sensor, celsius, samples) = ("roof".to_owned(), 21.5, vec![4_100_200_300; 20]);
    let plain = Reading::Plain { sensor: sensor.clone(), celsius, samples: samples.clone() };
    let plain = written(plain);
    let compact = written(Reading::Compact { sensor, celsius, samples });
    assert!(compact.payload.len() * 3 < plain.payload.len() * 2, "{compact:?}");
    assert_eq!((plain.version, compact.version), (2, 4));
    assert_eq!(plain.tags, compact.tags);
    assert_eq!(written(Reading::Off).payload, [0x80]);
    let codecs: Vec<_> = Reading::types().iter().map(|known| known.codec).collect();
    assert_eq!(codecs, ["json", "messagepack", "messagepack"]);
}

/// The fields that an older program knows of these event types.
#[derive(Debug, PartialEq, Event)]
enum Older {
    #[event("temperature-read", version = 2)]
    Plain { celsius: f64 },
    #[event("temperature-read-compact", version = 4, codec = MessagePack)]
    Compact { celsius: f64 },
}

#[test]
fn both_codecs_skip_fields_that_a_reader_does_not_know() {
    let (sensor, celsius, samples) = ("roof".to_owned(), 21.5, vec![7]);
    let plain = Reading::Plain { sensor: sensor.clone(), celsius, samples: samples.clone() };
    assert_eq!(read(&written(plain)), Ok(Older::Plain { celsius }));
    let compact = Reading::Compact { sensor, celsius, samples };
    assert_eq!(read(&written(compact)), Ok(Older::Compact { celsius }));
    assert_eq!(read(&json("nothing-happened", "null")), Ok(Nothing));
}

/// Encodes cents as text. The functions accept only a number, so generated code that passes
/// anything other than the field does not compile.
mod as_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Writes the size of the value that serde passes. A reference to the field would have 8 bytes.
fn size<T, S: Serializer>(_: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size_of::<T>() as u64)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn ten() -> u8 {
    10
}

#[derive(Debug, PartialEq, Event)]
#[serde(rename_all_fields = "SCREAMING-KEBAB-CASE")]
enum Told {
    #[event("cents-told")]
    #[serde(rename_all = "camelCase")]
    Cents {
        #[serde(with = "as_text")]
        in_cents: u64,
        #[serde(serialize_with = "as_text::serialize", deserialize_with = "as_text::deserialize")]
        other_cents: u64,
        #[serde(serialize_with = "size")]
        bytes: [u8; 3],
    },
    #[event("defaults-told")]
    Defaults {
        /// A default value is not written, and a missing field gets the default.
        #[serde(default, skip_serializing_if = "is_default")]
        maybe_note: Vec<u8>,
        #[serde(default = "ten")]
        tens: u8,
        #[serde(default, skip)]
        cache: u8,
        #[serde(rename = "was", alias = "used-to-be")]
        is: u8,
        #[serde(flatten)]
        more: BTreeMap<String, u8>,
    },
    #[event("strictly-told")]
    #[serde(deny_unknown_fields, rename = "told")]
    Strict { note: u8 },
}

#[test]
fn serde_functions_are_called_with_the_field_itself() {
    let cents = Told::Cents { in_cents: 4, other_cents: 5, bytes: [7; 3] };
    let raw = cents.encode().unwrap();
    assert_eq!(text(&raw), r#"{"inCents":"4","otherCents":"5","bytes":3}"#);
    let stored = json("cents-told", r#"{"inCents":"4","otherCents":"5","bytes":[7,7,7]}"#);
    assert_eq!(read(&stored), Ok(cents));
}

#[test]
fn defaults_and_renames_of_fields_work_in_both_directions() {
    let more = BTreeMap::new();
    let event = Told::Defaults { maybe_note: vec![], tens: 10, cache: 0, is: 3, more };
    assert_eq!(text(&event.encode().unwrap()), r#"{"TENS":10,"was":3}"#);
    for stored in [r#"{"was":3}"#, r#"{"TENS":10,"used-to-be":3,"MAYBE-NOTE":[]}"#] {
        assert_eq!(read::<Told>(&json("defaults-told", stored)).as_ref(), Ok(&event));
    }
    let more = BTreeMap::from([("x".to_owned(), 1)]);
    let event = Told::Defaults { maybe_note: vec![1], tens: 2, cache: 0, is: 3, more };
    assert_eq!(text(&written(event)), r#"{"MAYBE-NOTE":[1],"TENS":2,"was":3,"x":1}"#);

    assert_eq!(text(&written(Told::Strict { note: 1 })), r#"{"NOTE":1}"#);
    let more = json("strictly-told", r#"{"NOTE":1,"more":2}"#);
    assert!(matches!(read::<Told>(&more), Err(SchemaError::Decode { .. })));
}

/// Fields with names that are keywords or that the generated code could use itself, and a variant
/// with the name of a type in its field.
#[derive(Debug, PartialEq, Event)]
enum Named {
    #[event("raw-named")]
    r#Move {
        #[tag]
        r#type: u8,
        #[serde(with = "as_text")]
        r#fn: u64,
        encoded: u8,
        event: u8,
        payload: u8,
        name: u8,
    },
    #[event("order-identified")]
    OrderId {
        order: OrderId,
        #[serde(default)]
        before: Option<Box<Self>>,
    },
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
        let order = OrderId(u8::deserialize(deserializer)?.into());
        Ok(Named::OrderId { order, before: None })
    }
}

#[test]
fn names_resolve_where_the_event_is_declared() {
    let (r#type, r#fn, encoded, event, payload, name) = (1, 2, 3, 4, 5, 6);
    let raw = written(Named::Move { r#type, r#fn, encoded, event, payload, name });
    assert_eq!(tags(&raw), ["type:1"]);
    let expected = r#"{"type":1,"fn":"2","encoded":3,"event":4,"payload":5,"name":6}"#;
    assert_eq!(text(&raw), expected);

    let before = Named::OrderId { order: OrderId(1), before: None };
    let raw = written(Named::OrderId { order: OrderId(2), before: Some(Box::new(before)) });
    assert_eq!(text(&raw), r#"{"order":2,"before":1}"#);
}

/// Names that serde uses in its generated code, and a type with the name of a type parameter.
#[derive(Debug, PartialEq, Event)]
enum Short {
    #[event("d")]
    D { a: u8 },
    #[event("s")]
    S {
        #[serde(with = "as_text", skip_serializing_if = "is_default")]
        value: u64,
        #[serde(serialize_with = "serializer")]
        other: S,
    },
    #[event("field")]
    Field { field: u8 },
    #[event("visitor")]
    Visitor { e: S },
    #[event("a")]
    A,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct S(u8);

fn serializer<Z: Serializer>(value: &S, serializer: Z) -> Result<Z::Ok, Z::Error> {
    value.serialize(serializer)
}

#[test]
fn a_variant_may_have_a_name_that_serde_uses_itself() {
    written(Short::D { a: 1 });
    assert_eq!(text(&written(Short::S { value: 1, other: S(2) })), r#"{"value":"1","other":2}"#);
    written(Short::Field { field: 1 });
    written(Short::Visitor { e: S(1) });
    written(Short::A);
}

/// A macro declares the event. Its types arrive in invisible token groups.
macro_rules! declare {
    ($name:ident { $field:ident: $of:ty }) => {
        #[derive(Debug, PartialEq, Event)]
        enum $name {
            #[event("declared")]
            Declared {
                #[tag]
                $field: $of,
            },
        }
    };
}

declare!(Declaring { field: Option<u8> });

#[test]
fn a_macro_can_declare_an_event() {
    assert_eq!(tags(&written(Declaring::Declared { field: Some(3) })), ["field:3"]);
    assert!(tags(&written(Declaring::Declared { field: None })).is_empty());
}
