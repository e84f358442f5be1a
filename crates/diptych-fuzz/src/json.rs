//! Targets over payloads: the objects that upcasters change, and the codecs of events. The model is
//! `serde_json`, and for MessagePack `rmp-serde`.

use std::collections::BTreeMap;

use diptych::event::{Codec, Json, JsonObject, MessagePack};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::observe::note;

/// An object that is read and changed: it is one if `serde_json` says so, and the fields that are
/// not touched keep their bytes.
pub(crate) fn json_object(data: &[u8]) {
    let model = serde_json::from_slice::<BTreeMap<String, &RawValue>>(data);
    let mut object = match (JsonObject::parse(data), &model) {
        (Ok(object), Ok(_)) => object,
        (Err(error), Err(_)) => return note(&error.to_string()),
        (parsed, model) => panic!("{parsed:?} is not {model:?}"),
    };
    let model = model.unwrap();
    let written = object.to_string();
    let again = JsonObject::parse(written.as_bytes()).unwrap();
    assert_eq!(again.to_string(), written, "an object that is written twice");
    assert!(again.names().eq(object.names()));
    let names: Vec<String> = object.names().map(str::to_owned).collect();
    let is_plain = names.len() == model.len();
    note(if is_plain { "an object" } else { "names twice" });
    for (name, value) in &model {
        match object.text(name) {
            Ok(text) => assert_eq!(text, Some(value.get()), "the bytes of {name:?}"),
            Err(_) => assert!(!is_plain, "{name:?} is there once"),
        }
    }
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return };
    if !is_plain || names.len() < 2 {
        return;
    }
    let new = "\u{1}new \"name\"";
    if model.contains_key(new) {
        return;
    }
    assert!(object.rename(first, new).unwrap());
    object.insert(last.as_str(), 1.5).unwrap();
    let nested = object.object(first, |_| Ok(()));
    assert_eq!(nested.ok(), Some(false), "a name that is gone");
    let written = object.to_string();
    let changed: BTreeMap<String, &RawValue> = serde_json::from_str(&written).unwrap();
    for (name, value) in &model {
        let expected = if name == last { "1.5" } else { value.get() };
        let name = if name == first { new } else { name };
        assert_eq!(changed.get(name).map(|value| value.get()), Some(expected), "{name:?}");
    }
    assert_eq!(changed.len(), model.len());
    assert!(object.remove(last).unwrap());
    assert_eq!(object.names().count(), names.len() - 1);
}

/// A payload with values of all kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sample {
    number: u64,
    signed: i64,
    float: f64,
    short: f32,
    flag: bool,
    letter: Option<char>,
    text: String,
    bytes: Vec<u8>,
    maybe: Option<Option<u8>>,
    nothing: Option<()>,
    pair: (u8, i16),
    list: Vec<Choice>,
    map: BTreeMap<String, Option<f64>>,
    numbers: BTreeMap<u32, String>,
    value: Value,
    inner: Option<Box<Sample>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    New(Option<i32>),
    Tuple(u8, String),
    Struct { at: f64, of: Option<Value> },
}

/// A payload in JSON.
pub(crate) fn json_codec(data: &[u8]) {
    codec::<Json, Sample>(data, serde_json::from_slice(data).ok(), |value| {
        serde_json::to_vec(value).ok()
    });
    codec::<Json, Value>(data, serde_json::from_slice(data).ok(), |value| {
        serde_json::to_vec(value).ok()
    });
}

/// A payload in MessagePack.
pub(crate) fn packed_codec(data: &[u8]) {
    codec::<MessagePack, Sample>(data, unpacked(data), |value| rmp_serde::to_vec_named(value).ok());
    codec::<MessagePack, Value>(data, unpacked(data), |value| rmp_serde::to_vec_named(value).ok());
}

/// The value that `rmp-serde` reads, if no bytes are left behind it.
fn unpacked<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    let mut rest = data;
    let value = rmp_serde::from_read(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

/// Reads as the model, writes as the model, and refuses to write exactly those values that would be
/// read back as others.
fn codec<C: Codec, T>(data: &[u8], model: Option<T>, write: fn(&T) -> Option<Vec<u8>>)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let value = match (C::decode::<T>(data), model) {
        (Ok(value), Some(model)) => {
            // A float that is not a number is not equal to itself.
            assert_eq!(format!("{value:?}"), format!("{model:?}"));
            value
        }
        (Err(error), None) => return note(&error.to_string()),
        (read, model) => panic!("{read:?} is not {model:?}"),
    };
    let by_model = write(&value);
    let back = by_model.as_deref().and_then(|bytes| C::decode::<T>(bytes).ok());
    // Debug text tells -0.0 from 0.0, and NaN is equal to itself.
    let is_faithful = back.is_some_and(|back| format!("{back:?}") == format!("{value:?}"));
    match C::encode(&value) {
        Ok(bytes) => {
            note("written");
            assert_eq!(Some(&bytes), by_model.as_ref(), "the bytes of a payload");
            assert!(is_faithful, "{value:?} is read back as another value");
        }
        Err(error) => {
            let said = error.to_string();
            note(&said);
            // MessagePack could be read back from a greater depth than it is written at.
            let is_deep = C::NAME == MessagePack::NAME && said.contains("more than 127 levels");
            assert!(!is_faithful || is_deep, "{value:?} is refused: {said}");
        }
    }
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"net": 1.10, "gros": 1.31, "note": "", "\u0061": [1, {"b": null}]}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"number":7,"signed":-1,"float":1e300,"short":0.1,
            "letter":"ä","maybe":null,"nothing":null}"#,
        r#"{"pair":[1,-2],"list":["Unit",{"New":null},
            {"Tuple":[1,"x"]},{"Struct":{"at":-0.0,"of":{}}}]}"#,
        r#"{"map":{"a":1.5,"b":null},"numbers":{"7":"x"},
            "value":[1,2.5,"x",{"a":[null]}],"inner":{"inner":{}}}"#,
        r#"[1, "x", {"a": -12345678901234567890}]"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub(crate) fn packed_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = json_seeds()
        .iter()
        .filter_map(|json| {
            rmp_serde::to_vec_named(&serde_json::from_slice::<Value>(json).ok()?).ok()
        })
        .collect();
    let samples = json_seeds();
    let samples = samples.iter().filter_map(|json| serde_json::from_slice::<Sample>(json).ok());
    seeds.extend(samples.filter_map(|sample| rmp_serde::to_vec_named(&sample).ok()));
    seeds.push(vec![0x91; 3_000]);
    seeds
}
