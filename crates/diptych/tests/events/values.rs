//! A codec reads a value exactly as it was written, or refuses to write it.

use std::{collections::BTreeMap, fmt::Debug, marker::PhantomData};

use diptych::{
    App, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold, Memory, Recorded, Tag,
    Upcasters, digest,
    event::{Codec, Json, JsonObject, MessagePack, SchemaError},
    store::RawEvent,
    testing::nothing_given,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeStruct};
use serde_json::value::RawValue;

use crate::support::probe::look;

fn again<C: Codec, T: Serialize + DeserializeOwned>(value: &T) -> T {
    C::decode(&C::encode(value).unwrap()).unwrap()
}

#[track_caller]
fn comes_back<C: Codec, T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    assert_eq!(again::<C, T>(&value), value);
}

/// Asserts that the codec refuses the value, and returns the reason.
#[track_caller]
fn refused<C: Codec>(value: impl Serialize) -> String {
    let error = C::encode(&value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let error = error.expect_err("the value should be refused");
    assert!(matches!(error, SchemaError::Encode { .. }), "{error}");
    error.to_string()
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Line<T> {
    price: T,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order<T> {
    lines: Vec<Line<T>>,
    by_name: BTreeMap<String, T>,
    choice: Option<Choice<T>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Choice<T> {
    Newtype(T),
    Tuple(u8, T),
    Struct { one: T },
}

fn order<T>(price: T) -> Order<T> {
    Order { lines: vec![Line { price }], by_name: BTreeMap::new(), choice: None }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    List(Vec<Chain>),
    Pair(u8, Box<Chain>),
    Named { next: Box<Chain> },
}

impl Chain {
    /// Builds a chain of one kind of link that is encoded as `levels` levels.
    fn of(levels: usize, per_link: usize, link: fn(Chain) -> Chain) -> Chain {
        (0..levels / per_link).fold(Chain::End, |chain, _| link(chain))
    }
}

/// Regression: the JSON reader has a depth limit, and the writer had none. A program could write an
/// event that no program could read again.
#[test]
fn a_value_that_is_too_deep_to_be_read_is_not_written() {
    #[track_caller]
    fn at_its_limit<C: Codec, T: Serialize + DeserializeOwned + PartialEq + Debug>(
        value: impl Fn(usize) -> T,
    ) {
        comes_back::<C, T>(value(127));
        let said = refused::<C>(value(129));
        assert!(said.contains("more than 127 levels"), "{said}");
    }
    fn in_lists(levels: usize) -> serde_json::Value {
        (0..levels).fold(serde_json::Value::Bool(true), |inner, _| vec![inner].into())
    }
    fn in_maps(levels: usize) -> serde_json::Value {
        (0..levels).fold(true.into(), |inner, _| serde_json::json!({ "in": inner }))
    }
    refused::<Json>(in_lists(128));
    refused::<MessagePack>(in_maps(128));
    at_its_limit::<Json, _>(in_lists);
    at_its_limit::<Json, _>(in_maps);
    at_its_limit::<MessagePack, _>(in_lists);
    at_its_limit::<MessagePack, _>(in_maps);
    let links: [fn(Chain) -> Chain; 3] = [
        |chain| Chain::List(vec![chain]),
        |chain| Chain::Pair(7, Box::new(chain)),
        |chain| Chain::Named { next: Box::new(chain) },
    ];
    for link in links {
        // `End` is encoded as a text, so it adds no level in either format.
        at_its_limit::<Json, _>(|levels| Chain::of(levels, 2, link));
        at_its_limit::<MessagePack, _>(|levels| Chain::of(levels, 2, link));
    }
}

/// Regression: of 100 prices in JSON events, 12 were read as the f64 next to the written one. A
/// rule could then reject the repeat of a command that it had accepted.
#[test]
fn every_float_is_read_to_the_bit() {
    for cents in 0..100_000_u32 {
        let price = f64::from(cents) * 1.1 / 3.0;
        assert_eq!(again::<Json, f64>(&price).to_bits(), price.to_bits(), "{price}");
    }
    for float in [f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::from_bits(1), -0.0, f64::EPSILON] {
        assert_eq!(again::<Json, f64>(&float).to_bits(), float.to_bits(), "{float}");
        assert_eq!(again::<MessagePack, f64>(&float).to_bits(), float.to_bits(), "{float}");
    }
}

proptest! {
    #[test]
    fn floats_of_any_bits_are_read_to_the_bit(bits in any::<u64>(), single in any::<u32>()) {
        let (double, single) = (f64::from_bits(bits), f32::from_bits(single));
        if double.is_finite() {
            prop_assert_eq!(again::<Json, f64>(&double).to_bits(), bits);
            // `flatten` makes serde buffer the value before it knows the type.
            let flat = Flat { rest: Line { price: double } };
            prop_assert_eq!(again::<Json, Flat>(&flat).rest.price.to_bits(), bits);
        }
        if single.is_finite() {
            prop_assert_eq!(again::<Json, f32>(&single).to_bits(), single.to_bits());
        }
        prop_assert_eq!(again::<MessagePack, f64>(&double).to_bits(), bits);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    rest: Line<f64>,
}

/// Regression: `Some(NaN)` and `Some(inf)` were written as `null`, and read as `None`.
#[test]
fn json_refuses_floats_that_it_has_no_number_for() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for reason in [
            refused::<Json>(float),
            refused::<Json>(float as f32),
            refused::<Json>(Some(float)),
            refused::<Json>((1, [Some(float)])),
            refused::<Json>(order(Some(float))),
            refused::<Json>(BTreeMap::from([("a", float)])),
            refused::<Json>(Choice::Struct { one: Some(float) }),
        ] {
            assert!(reason.contains("JSON has no number for"), "{reason}");
        }
        let packed = again::<MessagePack, _>(&order(Some(float))).lines[0].price.unwrap();
        assert!(packed == float || packed.is_nan() && float.is_nan(), "{packed}");
    }
}

/// Regression: both codecs wrote `Some(None)` and `Some(())` as null or nil, and read `None`.
#[test]
fn some_of_nothing_is_refused_at_any_depth() {
    fn both(value: impl Serialize) {
        for reason in [refused::<Json>(&value), refused::<MessagePack>(&value)] {
            assert!(reason.contains("would be read back as None"), "{reason}");
        }
    }
    let some = Some(None::<u8>);
    both(some);
    both(Some(()));
    both(Some(Some(())));
    both(Some(serde_json::Value::Null));
    both(order(some));
    both(order(Some(())));
    both(Order { choice: Some(Choice::Tuple(1, some)), ..Order::default() });
    both(Order { choice: Some(Choice::Newtype(some)), ..Order::default() });
    both(Order { choice: Some(Choice::Struct { one: some }), ..Order::default() });
    both(vec![BTreeMap::from([("a", (1, some))])]);
    comes_back::<Json, _>(order(Some(Some(1))));
    comes_back::<Json, _>(order(None::<Option<u8>>));
    comes_back::<MessagePack, _>(order(None::<Option<u8>>));
    // A unit struct is null in JSON and an empty list in MessagePack.
    assert!(refused::<Json>(Some(Unit)).contains("Some(Unit)"));
    assert!(refused::<Json>(Some(PhantomData::<u8>)).contains("read back as None"));
    comes_back::<Json, _>(order(Unit));
    comes_back::<MessagePack, _>(order(Some(Unit)));
}

#[test]
fn a_refusal_names_the_path_of_the_value() {
    let nan = Some(f64::NAN);
    let mut order = order(Some(1.0));
    order.lines.push(Line { price: nan });
    assert!(refused::<Json>(&order).contains("at lines[1].price: it holds NaN"));
    order.lines.pop();
    order.by_name.insert("a b".to_owned(), nan);
    assert!(refused::<Json>(&order).contains("at by_name.a b: it holds NaN"));
    order.by_name.clear();
    order.choice = Some(Choice::Tuple(1, nan));
    assert!(refused::<Json>(&order).contains("at choice[1]: it holds NaN"));
    order.choice = Some(Choice::Newtype(nan));
    assert!(refused::<Json>(&order).contains("at choice.Newtype: it holds NaN"));
    let reason = refused::<Json>(BTreeMap::from([((1, 2), 3)]));
    assert!(reason.contains("at (key 0): ") && reason.contains("key must be a string"), "{reason}");
}

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("rated")]
struct Rated {
    #[tag]
    film: String,
    stars: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Ratings(Vec<Option<f64>>);

impl Fold for Ratings {
    type Event = Rated;

    fn apply(&mut self, event: &Recorded<Rated>) {
        self.0.push(event.stars);
    }
}

struct Rate(f64);

impl diptych::Command for Rate {
    type State = ();
    type Event = Rated;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Rated>, std::convert::Infallible> {
        Ok(vec![Rated { film: "Alien".to_owned(), stars: Some(self.0) }])
    }
}

#[tokio::test]
async fn a_command_with_an_event_that_cannot_be_read_back_is_refused() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let error = app.execute(Rate(f64::NAN)).await.unwrap_err();
    assert!(
        matches!(&error, ExecuteError::Failed(CommandError::Schema(SchemaError::Encode { .. }))),
        "{error:?}"
    );
    assert!(error.to_string().contains("at stars: it holds NaN"), "{error}");
    app.execute(Rate(4.5)).await.unwrap();
    let ratings = look::<Ratings>(&app, &Filter::tag(Tag::new("film", "Alien"))).await.unwrap();
    assert_eq!(ratings, Ratings(vec![Some(4.5)]));
}

/// Serialises like a number of `serde_json` under its feature `arbitrary_precision`. Any crate of a
/// program can turn that feature on.
struct ExactNumber(&'static str);

impl Serialize for ExactNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const NAME: &str = "$serde_json::private::Number";
        let mut number = serializer.serialize_struct(NAME, 1)?;
        number.serialize_field(NAME, self.0)?;
        number.end()
    }
}

/// Regression: with `arbitrary_precision`, MessagePack wrote an object instead of a number.
#[test]
fn messagepack_writes_exact_json_numbers_as_numbers_or_not_at_all() {
    let packed = |value: &dyn Fn() -> Vec<u8>| value();
    let same = [
        ("7", packed(&|| MessagePack::encode(&7_u64).unwrap())),
        ("-7", packed(&|| MessagePack::encode(&-7_i64).unwrap())),
        ("1.10", packed(&|| MessagePack::encode(&1.1_f64).unwrap())),
        ("18446744073709551615", packed(&|| MessagePack::encode(&u64::MAX).unwrap())),
    ];
    for (text, bytes) in same {
        assert_eq!(MessagePack::encode(&ExactNumber(text)).unwrap(), bytes, "{text}");
        let some = MessagePack::encode(&order(Some(ExactNumber(text)))).unwrap();
        MessagePack::decode::<Order<Option<serde_json::Value>>>(&some).unwrap();
    }
    for text in ["18446744073709551617", "0.10000000000000000555", "1e999"] {
        let reason = refused::<MessagePack>(order(ExactNumber(text)));
        assert!(reason.contains("at lines[0].price: "), "{reason}");
        assert!(reason.contains(&format!("the JSON number {text}")), "{reason}");
    }
    // JSON can write a number with the feature and without it.
    Json::encode(&order(Some(serde_json::json!(1.1)))).unwrap();
}

#[test]
fn messagepack_refuses_json_that_is_kept_as_text() {
    let raw: Box<RawValue> = serde_json::from_str("[1.10]").unwrap();
    let reason = refused::<MessagePack>(order(&raw));
    assert!(reason.contains("at lines[0].price: it holds a serde_json RawValue"), "{reason}");
    assert_eq!(Json::encode(&Line { price: &raw }).unwrap(), br#"{"price":[1.10]}"#);
}

/// Regression: a request with a `serde_json::Value` got another digest when a crate turned on
/// `arbitrary_precision`. The app would have refused keys that were used before.
#[test]
fn exact_json_numbers_have_the_digests_of_plain_ones() {
    for (exact, plain) in [("7", digest(&7)), ("-7", digest(&-7)), ("1.5", digest(&1.5))] {
        assert_eq!(digest(&ExactNumber(exact)), plain, "{exact}");
    }
    let values = ["1.5", "18446744073709551617", "18446744073709551618", "1e999"];
    let digests = values.map(|text| digest(&ExactNumber(text)).unwrap());
    for (at, this) in digests.iter().enumerate() {
        assert_eq!(digests.iter().position(|other| other == this), Some(at));
    }
}

/// Regression: MessagePack read only the first byte of a JSON payload, so `123` was read as 49.
#[test]
fn bytes_after_a_messagepack_value_are_an_error() {
    let error = MessagePack::decode::<u64>(b"123").unwrap_err().to_string();
    assert!(error.contains("there are bytes after the MessagePack value"), "{error}");
    let mut bytes = MessagePack::encode(&order(1)).unwrap();
    assert_eq!(MessagePack::decode::<Order<u8>>(&bytes).unwrap(), order(1));
    // Regression: the decoder took an array, a map or a text that was cut off for the end.
    for byte in [0, 0x80, 0xc0, 0xc1, 0xd9, 0xff, 0x91, 0x81, 0xdc, 0xa1] {
        bytes.push(byte);
        MessagePack::decode::<Order<u8>>(&bytes).unwrap_err();
        bytes.pop();
    }
    Json::decode::<u64>(b"1 2").unwrap_err();
}

/// Regression: an upcaster that changed one field of an object rewrote all other fields. Digits
/// were lost, `1.10` became `1.1`, and a number above 2^64 stopped the view.
#[test]
fn an_upcaster_keeps_what_it_does_not_touch_byte_for_byte() {
    const BEFORE: &str = concat!(
        r#"{"z": 1.10,"big":340282366920938463463374607431768211455, "exact" : 0.100000000000000"#,
        r#"0055511151231257827 ,"text":"\u0041\/ ","n\u0061me":[ 1 , {"b":1e2, "a":null} ],"a":1}"#,
    );
    const AFTER: &str = concat!(
        r#"{"z":1.10,"big":340282366920938463463374607431768211455,"exact":0.100000000000000"#,
        r#"0055511151231257827,"text":"\u0041\/ ","n\u0061me":[ 1 , {"b":1e2, "a":null} ],"#,
        r#""a":2,"new":true}"#,
    );
    let mut object = JsonObject::parse(BEFORE.as_bytes()).unwrap();
    object.insert("new", true).unwrap();
    object.insert("a", 2).unwrap();
    assert_eq!(object.to_string(), AFTER);
    assert_eq!(object.get::<u128>("big").unwrap(), Some(u128::MAX));
    assert_eq!(Json::encode(&object).unwrap(), AFTER.as_bytes());
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Sums(Vec<u128>);

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("minted", version = 2)]
struct Minted {
    amount: u128,
    currency: String,
}

impl Fold for Sums {
    type Event = Minted;

    fn apply(&mut self, event: &Recorded<Minted>) {
        self.0.push(event.amount);
    }
}

#[test]
fn a_number_above_2_to_the_64_goes_through_an_upcaster() {
    let upcasters = Upcasters::new().object("minted", 1, |coin| coin.insert("currency", "X"));
    let stored = RawEvent::new("minted", format!(r#"{{"amount":{}}}"#, u128::MAX));
    let given = nothing_given().upcasters(upcasters).and_stored(stored);
    assert_eq!(given.state::<Sums>(Filter::everything()), Sums(vec![u128::MAX]));
}

#[test]
fn fields_of_an_object_are_changed_by_name() {
    let json = br#"{"a":1,"b":{"c":[1.0],"d":"x"},"e":null}"#;
    let mut object = JsonObject::parse(json).unwrap();
    assert!(object.rename("a", "first").unwrap());
    assert!(!object.rename("a", "b").is_ok_and(|renamed| renamed));
    assert!(object.rename("first", "e").unwrap_err().to_string().contains("there is such a field"));
    assert!(object.object("b", |b| b.remove("d").map(drop)).unwrap());
    assert!(object.object("e", |_| Ok(())).unwrap_err().to_string().contains("\"e\" is not an"));
    assert!(!object.object("x", |_| Ok(())).unwrap());
    assert_eq!(object.take::<u8>("first").unwrap(), Some(1));
    assert_eq!(object.take::<u8>("first").unwrap(), None);
    assert_eq!(object.get::<Option<u8>>("e").unwrap(), Some(None));
    assert!(object.get::<u8>("e").unwrap_err().to_string().contains("\"e\" cannot be read"));
    assert!(object.insert("nan", f64::NAN).is_err());
    assert_eq!(object.names().collect::<Vec<_>>(), ["b", "e"]);
    let mut other = JsonObject::new();
    assert_eq!(other.to_string(), "{}");
    assert!(other.copy(&object, "b", "of \"b\"").unwrap());
    assert!(!other.copy(&object, "x", "y").unwrap());
    assert_eq!(other.to_string(), r#"{"of \"b\"":{"c":[1.0]}}"#);
    for text in ["", "[]", "1", "{", "{} {}", r#"{"a":}"#, r#"{"a":1,}"#, r#"{"\ud800":1}"#] {
        assert!(JsonObject::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_duplicate_field_is_kept_and_cannot_be_changed() {
    let json = r#"{"a":1,"\u0061":2,"b":3}"#;
    let mut object = JsonObject::parse(json.as_bytes()).unwrap();
    object.insert("b", 4).unwrap();
    assert_eq!(object.to_string(), json.replace('3', "4"));
    let twice = |error: diptych::event::UpcastError| {
        error.to_string().contains("stands in the object twice")
    };
    assert!(object.get::<u8>("a").is_err_and(twice));
    assert!(object.insert("a", 1).is_err_and(twice));
    assert!(object.remove("a").is_err_and(twice));
    assert!(object.rename("a", "c").is_err_and(twice));
    assert!(object.rename("b", "a").is_err_and(twice));
}
