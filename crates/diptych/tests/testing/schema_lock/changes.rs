//! Changes of an event's declaration, and what the schema lock says about each.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
};

use diptych::{
    Event, EventType, Upcasters,
    event::{EncodedEvent, Json, MessagePack, SchemaError},
    store::RawEvent,
    testing::SchemaLock,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use super::Repository;

/// One state of a program is recorded, and the next one is checked.
struct Change {
    name: &'static str,
    old: fn(SchemaLock) -> SchemaLock,
    new: fn(SchemaLock) -> SchemaLock,
    /// A part of the report. Without one the check must be quiet.
    told: Option<&'static str>,
}

/// Declares the event before and after a change, each with a sample.
macro_rules! change {
    (
        $name:literal, $told:expr,
        $([$($old_event:tt)*])? { $($old:tt)* } $old_sample:tt =>
        $([$($new_event:tt)*])? { $($new:tt)* } $new_sample:tt
    ) => {
        Change {
            name: $name,
            old: state!([$($($old_event)*)?] { $($old)* } $old_sample),
            new: state!([$($($new_event)*)?] { $($new)* } $new_sample),
            told: $told,
        }
    };
}

macro_rules! state {
    ([$($event:tt)*] { $($fields:tt)* } $sample:tt) => {{
        #[derive(Event, Serialize, Deserialize)]
        #[event("paid" $($event)*)]
        struct Paid { $($fields)* }

        |lock: SchemaLock| lock.events([Paid $sample])
    }};
}

const INTENDED: Option<&str> = Some("so this may be intended");
const UNREADABLE: Option<&str> = Some("a recorded sample cannot be read");
const TAGS: Option<&str> = Some("paid version 1 gets other tags");
const SHAPE: Option<&str> = Some("paid version 1 is not what was recorded");

fn x() -> String {
    "x".to_owned()
}

/// 2^53 + 1, the first integer that a float cannot hold.
const PRECISE: u64 = (1 << 53) + 1;

/// Types whose paths the derive does not tell, before a change.
mod before {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Id(pub(super) u64);

    impl fmt::Display for Id {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Line {
        pub(super) price: u64,
        pub(super) counts: Vec<u64>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Name(pub(super) String);

    #[derive(Serialize, Deserialize)]
    pub(super) enum Kind {
        Cash,
    }
}

/// The same types, after a change.
mod after {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Id(pub(super) u64);

    impl fmt::Display for Id {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:03}", self.0)
        }
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Line {
        pub(super) price: f64,
        pub(super) counts: BTreeSet<u64>,
    }

    #[derive(Serialize)]
    pub(super) struct Name(pub(super) String);

    impl<'de> Deserialize<'de> for Name {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
            Ok(Name(String::deserialize(deserializer)?.to_uppercase()))
        }
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Kind {
        Coins,
    }
}

/// Another form of a number, which its own reader takes back.
mod doubled {
    use super::*;

    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        (number * 2).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Ok(u64::deserialize(from)? / 2)
    }
}

fn zero<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(Option::<u64>::deserialize(from)?.unwrap_or(0))
}

fn numbers() -> Vec<Change> {
    vec![
        change!("an integer becomes a float that loses its last digit",
            Some("9007199254740993 was recorded, and is read as 9007199254740992.0"),
            { amount: u64 } { amount: PRECISE } => { amount: f64 } { amount: 1.0 }),
        change!("a small integer becomes a float",
            Some("amount: 5 was recorded, and is read as 5.0"),
            { amount: u64 } { amount: 5 } => { amount: f64 } { amount: 5.0 }),
        change!("a large integer becomes a float",
            Some("18446744073709551617 was recorded, and is read as 1.8446744073709552e"),
            { amount: u128 } { amount: (1 << 64) + 1 } => { amount: f64 } { amount: 5.5 }),
        change!("a float becomes a narrow one that loses digits",
            Some("0.123456789012 was recorded, and is read as 0.12345679"),
            { rate: f64 } { rate: 0.123456789012 } => { rate: f32 } { rate: 0.5 }),
        change!("a float becomes a narrow one, and no sample shows it", INTENDED,
            { rate: f64 } { rate: 0.5 } => { rate: f32 } { rate: 0.5 }),
        change!("an integer gets a sign", Some("-amount: u64\n+amount: i64\n"),
            { amount: u64 } { amount: 5 } => { amount: i64 } { amount: 5 }),
        change!("an integer becomes smaller than a sample", UNREADABLE,
            { amount: u64 } { amount: PRECISE } => { amount: u32 } { amount: 5 }),
        change!("an integer becomes smaller, and no sample shows it", INTENDED,
            { amount: u64 } { amount: 5 } => { amount: u32 } { amount: 5 }),
        change!("an integer cannot be zero any more", INTENDED,
            { amount: u64 } { amount: 5 } =>
            { amount: std::num::NonZeroU64 } { amount: std::num::NonZeroU64::MIN }),
        change!("a number becomes text", SHAPE,
            { amount: u64 } { amount: 5 } => { amount: String } { amount: x() }),
        change!("null becomes zero", Some("amount: null was recorded, and is read as 0"),
            { amount: Option<u64> } { amount: None } =>
            { #[serde(deserialize_with = "zero")] amount: u64 } { amount: 5 }),
        change!("a number gets another form", Some("amount: u64, serde with = \"doubled\""),
            { amount: u64 } { amount: 6 } =>
            { #[serde(with = "doubled")] amount: u64 } { amount: 5 }),
        change!("a packed integer becomes a float", Some("amount: 5 was recorded, and is read as"),
            [, codec = MessagePack] { amount: u64 } { amount: 5 } =>
            [, codec = MessagePack] { amount: f64 } { amount: 5.0 }),
        change!("a packed float becomes a narrow one",
            Some("rate: 0.1 was recorded, and is read as 0.1 (f32)"),
            [, codec = MessagePack] { rate: f64 } { rate: 0.1 } =>
            [, codec = MessagePack] { rate: f32 } { rate: 0.1 }),
    ]
}

fn collections() -> Vec<Change> {
    vec![
        change!("a list becomes a sorted set that loses an element",
            Some("seats: [3,1,3] was recorded, and is read as [1,3]"),
            { seats: Vec<u64> } { seats: vec![3, 1, 3] } =>
            { seats: BTreeSet<u64> } { seats: BTreeSet::from([1]) }),
        change!("a list becomes a sorted set that loses the order",
            Some("seats[0]: 3 was recorded, and is read as 1"),
            { seats: Vec<u64> } { seats: vec![3, 1, 2] } =>
            { seats: BTreeSet<u64> } { seats: BTreeSet::from([1]) }),
        change!("a list becomes a hash set that loses an element",
            Some("seats: [3,1,3] was recorded, and is read as the set ["),
            { seats: Vec<u64> } { seats: vec![3, 1, 3] } =>
            { seats: HashSet<u64> } { seats: HashSet::from([1]) }),
        change!("a list becomes a hash set, and no sample shows it", INTENDED,
            { seats: Vec<u64> } { seats: vec![3, 1, 2] } =>
            { seats: HashSet<u64> } { seats: HashSet::from([1]) }),
        change!("a packed list becomes a hash set that loses an element",
            Some("seats: [3,1,3] was recorded"),
            [, codec = MessagePack] { seats: Vec<u64> } { seats: vec![3, 1, 3] } =>
            [, codec = MessagePack] { seats: HashSet<u64> } { seats: HashSet::from([1]) }),
        change!("a list becomes a queue", INTENDED,
            { seats: Vec<u64> } { seats: vec![3] } =>
            { seats: VecDeque<u64> } { seats: VecDeque::from([1]) }),
        change!("a pair becomes an array", INTENDED,
            { seats: (u64, u64) } { seats: (1, 2) } => { seats: [u64; 2] } { seats: [1, 2] }),
        change!("an array gets longer", UNREADABLE,
            { seats: [u64; 2] } { seats: [1, 2] } => { seats: [u64; 3] } { seats: [1, 2, 3] }),
        change!("the keys of a map become text", INTENDED,
            { seats: BTreeMap<u64, u64> } { seats: BTreeMap::from([(1, 1)]) } =>
            { seats: BTreeMap<String, u64> } { seats: BTreeMap::from([("1".to_owned(), 1)]) }),
        change!("the values of a map become floats", Some("seats.a: 1 was recorded"),
            { seats: BTreeMap<String, u64> } { seats: BTreeMap::from([("a".to_owned(), 1)]) } =>
            { seats: BTreeMap<String, f64> } { seats: BTreeMap::from([("a".to_owned(), 1.0)]) }),
        change!("a field of a part becomes a float", Some("line.price: 9007199254740993 was"),
            { line: before::Line } { line: before::Line { price: PRECISE, counts: vec![1] } } =>
            { line: after::Line }
            { line: after::Line { price: 1.0, counts: BTreeSet::from([1]) } }),
        change!("a list of a part becomes a set", Some("line.counts: [2,2] was recorded"),
            { line: before::Line } { line: before::Line { price: 1, counts: vec![2, 2] } } =>
            { line: after::Line }
            { line: after::Line { price: 1.0, counts: BTreeSet::from([1]) } }),
    ]
}

fn texts_and_names() -> Vec<Change> {
    vec![
        change!("a text is read in another case", Some("\"ann\" was recorded, and is read as"),
            { owner: before::Name } { owner: before::Name("ann".to_owned()) } =>
            { owner: after::Name } { owner: after::Name("ANN".to_owned()) }),
        change!("a text becomes a character", INTENDED,
            { owner: String } { owner: x() } => { owner: char } { owner: 'x' }),
        change!("a text may be absent", INTENDED,
            { owner: String } { owner: x() } => { owner: Option<String> } { owner: Some(x()) }),
        change!("a text may not be absent any more", UNREADABLE,
            { owner: Option<String> } { owner: None } => { owner: String } { owner: x() }),
        change!("an absent text is not written any more", SHAPE,
            { owner: Option<String> } { owner: None } =>
            { #[serde(skip_serializing_if = "Option::is_none")] owner: Option<String> }
            { owner: None }),
        change!("a variant gets another name", UNREADABLE,
            { kind: before::Kind } { kind: before::Kind::Cash } =>
            { kind: after::Kind } { kind: after::Kind::Coins }),
        change!("a field is gone", SHAPE,
            { owner: String, note: String } { owner: x(), note: x() } =>
            { owner: String } { owner: x() }),
        change!("a field is new", SHAPE,
            { owner: String } { owner: x() } =>
            { owner: String, #[serde(default)] note: String } { owner: x(), note: x() }),
        change!("a field gets another name", SHAPE,
            { owner: String } { owner: x() } => { holder: String } { holder: x() }),
        change!("a field gets another name and reads the old one", SHAPE,
            { owner: String } { owner: x() } =>
            { #[serde(alias = "owner")] holder: String } { holder: x() }),
        change!("two fields swap their names", Some("+from: String, serde rename = \"to\"\n"),
            { from: String, to: String } { from: x(), to: x() } =>
            {
                #[serde(rename = "to")] from: String,
                #[serde(rename = "from")] to: String,
            } { from: x(), to: x() }),
        change!("a part is flattened", SHAPE,
            { kind: BTreeMap<String, u64>, owner: String }
            { kind: BTreeMap::from([(x(), 1)]), owner: x() } =>
            { #[serde(flatten)] kind: BTreeMap<String, u64>, owner: String }
            { kind: BTreeMap::from([(x(), 1)]), owner: x() }),
        change!("the codec is another one", Some("-codec json\n+codec messagepack\n"),
            { amount: u64 } { amount: 5 } => [, codec = MessagePack] { amount: u64 } { amount: 5 }),
    ]
}

fn tags() -> Vec<Change> {
    vec![
        change!("a tag is made from another field", TAGS,
            { #[tag("key")] from: String, to: String } { from: x(), to: "y".to_owned() } =>
            { from: String, #[tag("key")] to: String } { from: x(), to: x() }),
        change!("a tag is made from another field, and no sample shows it",
            Some("-from: String, tag key\n"),
            { #[tag("key")] from: String, to: String } { from: x(), to: x() } =>
            { from: String, #[tag("key")] to: String } { from: x(), to: x() }),
        change!("a tag is spelt differently", Some("recorded: account:7\n    today: account:007"),
            { #[tag] account: before::Id } { account: before::Id(7) } =>
            { #[tag] account: after::Id } { account: after::Id(7) }),
        change!("a tag is spelt differently in a packed event", TAGS,
            [, codec = MessagePack] { #[tag] account: before::Id } { account: before::Id(7) } =>
            [, codec = MessagePack] { #[tag] account: after::Id } { account: after::Id(7) }),
        change!("a tag is gone", Some("-tag account\n"),
            { #[tag] account: String } { account: x() } => { account: String } { account: x() }),
        change!("a tag is new", Some("+tag account\n"),
            { account: String } { account: x() } => { #[tag] account: String } { account: x() }),
        change!("a tag gets another key", Some("-tag account\n+tag holder\n"),
            { #[tag] account: String } { account: x() } =>
            { #[tag("holder")] account: String } { account: x() }),
        change!("a tag may be absent", INTENDED,
            { #[tag] account: String } { account: x() } =>
            { #[tag] account: Option<String> } { account: Some(x()) }),
    ]
}

fn nothing() -> Vec<Change> {
    vec![
        change!("nothing", None, { amount: u64 } { amount: 5 } => { amount: u64 } { amount: 5 }),
        change!("another sample", None,
            { amount: u64 } { amount: 5 } => { amount: u64 } { amount: PRECISE }),
        change!("the order of fields", None,
            { amount: u64, owner: String } { amount: 5, owner: x() } =>
            { owner: String, amount: u64 } { amount: 5, owner: x() }),
        change!("the path to a type", None,
            { owner: String, seats: Vec<u64> } { owner: x(), seats: vec![1] } =>
            { owner: std::string::String, seats: std::vec::Vec<u64> }
            { owner: x(), seats: vec![1] }),
        change!("a default for an absent field", None,
            { amount: u64 } { amount: 5 } => { #[serde(default)] amount: u64 } { amount: 5 }),
        change!("another name that is read too", None,
            { amount: u64 } { amount: 5 } => { #[serde(alias = "sum")] amount: u64 } { amount: 5 }),
        change!("nothing, with large integers", None,
            { a: u64, b: u128, c: i128 } { a: PRECISE, b: u128::MAX, c: i128::MIN } =>
            { a: u64, b: u128, c: i128 } { a: PRECISE, b: u128::MAX, c: i128::MIN }),
        change!("nothing, with floats", None,
            { a: Vec<f64>, b: f32 } { a: vec![0.1, 1e300, 1e20, -0.0, 5e-324], b: 0.1 } =>
            { a: Vec<f64>, b: f32 } { a: vec![0.1], b: 0.1 }),
        change!("nothing, with packed floats", None,
            [, codec = MessagePack] { a: f64, b: f32 } { a: 0.1, b: 0.1 } =>
            [, codec = MessagePack] { a: f64, b: f32 } { a: 0.1, b: 0.1 }),
        change!("nothing, with a hash set", None,
            { a: HashSet<u64> } { a: (0..64).collect() } =>
            { a: HashSet<u64> } { a: (0..64).collect() }),
        change!("nothing, with a packed hash set", None,
            [, codec = MessagePack] { a: HashSet<u64> } { a: (0..64).collect() } =>
            [, codec = MessagePack] { a: HashSet<u64> } { a: (0..64).collect() }),
        change!("nothing, with lists of hash sets", None,
            { a: Vec<HashSet<Vec<u64>>> } { a: vec![(0..64).map(|a| vec![a, 1]).collect()] } =>
            { a: Vec<HashSet<Vec<u64>>> } { a: vec![(0..64).map(|a| vec![a, 1]).collect()] }),
        change!("nothing, with maps", None,
            { a: HashMap<String, u64>, b: BTreeSet<u64> }
            { a: HashMap::from([(x(), 1), ("y".to_owned(), 2)]), b: BTreeSet::from([3, 1]) } =>
            { a: HashMap<String, u64>, b: BTreeSet<u64> }
            { a: HashMap::from([(x(), 1), ("y".to_owned(), 2)]), b: BTreeSet::from([3, 1]) }),
        change!("nothing, with maps by number", None,
            [, codec = MessagePack] { a: HashMap<u64, u64> } { a: (0..9).zip(0..9).collect() } =>
            [, codec = MessagePack] { a: HashMap<u64, u64> } { a: (0..9).zip(0..9).collect() }),
        // With the feature `arbitrary_precision` of serde_json such a number is a map to serde.
        change!("nothing, with any JSON", None,
            { a: serde_json::Value } { a: json!({ "x": [1, 1.5, PRECISE, null], "y": -1e300 }) } =>
            { a: serde_json::Value } { a: json!({ "x": [1, 1.5, PRECISE, null], "y": -1e300 }) }),
        change!("nothing, with any packed JSON", None,
            [, codec = MessagePack] { a: serde_json::Value } { a: json!([1, 1.5, PRECISE]) } =>
            [, codec = MessagePack] { a: serde_json::Value } { a: json!([1, 1.5, PRECISE]) }),
        change!("nothing, without fields", None, { } { } => { } { }),
        change!("nothing, with an absent value", None,
            { a: Option<u64>, b: Vec<u64> } { a: None, b: vec![] } =>
            { a: Option<u64>, b: Vec<u64> } { a: None, b: vec![] }),
        change!("nothing, with odd texts", None,
            { a: String, b: char } { a: "\u{0}\"\\é\u{1f600}".to_owned(), b: '\n' } =>
            { a: String, b: char } { a: "\u{0}\"\\é\u{1f600}".to_owned(), b: '\n' }),
        change!("nothing, with several tags", None,
            { #[tag] a: Vec<String>, #[tag] b: Option<u64> } { a: vec![x(), x()], b: Some(1) } =>
            { #[tag] a: Vec<String>, #[tag] b: Option<u64> } { a: vec![x()], b: Some(2) }),
    ]
}

#[test]
fn each_of_many_changes_is_told_and_without_a_change_the_lock_is_quiet() {
    let told = [numbers(), collections(), texts_and_names(), tags()];
    let told: Vec<_> = told.into_iter().flatten().collect();
    let quiet = nothing();
    assert!(told.len() >= 40 && quiet.len() >= 20, "{} and {}", told.len(), quiet.len());
    let mut wrong = Vec::new();
    for Change { name, old, new, told } in told.into_iter().chain(quiet) {
        let repository = Repository::with(old);
        let report = repository.check(new).err();
        let fits = match (&report, told) {
            (None, None) => true,
            (Some(report), Some(part)) => report.contains(part),
            _ => false,
        };
        if !fits {
            wrong.push(format!("-- {name}: expected {told:?}, and got {report:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn recording_accepts_another_type_that_reads_the_samples_as_before() {
    let older = state!([] { amount: u64 } { amount: 5 });
    let newer = state!([] { amount: u32 } { amount: 5 });
    let repository = Repository::with(older);
    assert!(repository.text().contains("\"amount: u64\""), "{}", repository.text());
    repository.check(newer).unwrap_err();
    repository.record(newer).unwrap();
    repository.check(newer).unwrap();
    assert!(repository.text().contains("\"amount: u32\""), "{}", repository.text());
}

/// A new version is no remedy for a tag that is spelt differently: the older events keep theirs.
#[test]
fn a_new_version_that_spells_a_tag_differently_is_recorded_with_a_caution() {
    let older = state!([] { #[tag] account: before::Id } { account: before::Id(7) });
    let newer = state!([, version = 2] { #[tag] account: after::Id } { account: after::Id(7) });
    let upcast = |lock| newer(lock).upcasters(Upcasters::new().object("paid", 1, |_| Ok(())));
    let repository = Repository::with(older);
    let report = repository.check(upcast).unwrap_err();
    assert!(report.contains("paid version 2 is not recorded"), "{report}");
    assert!(
        report.contains("keeps the tag \"account:7\", and would get \"account:007\""),
        "{report}"
    );
    repository.record(upcast).unwrap();
    repository.check(upcast).unwrap();
}

#[test]
fn recording_does_not_accept_other_tags_or_values() {
    let older = state!([] { #[tag] account: before::Id } { account: before::Id(7) });
    let newer = state!([] { #[tag] account: after::Id } { account: after::Id(7) });
    Repository::with(older).refuses(newer, &["a rule that asks by the tags of today"]);
    let older = state!([] { amount: u64 } { amount: PRECISE });
    let newer = state!([] { amount: f64 } { amount: 5.0 });
    Repository::with(older).refuses(newer, &["give it version 2 and an upcaster"]);
}

/// An event that serde_json writes without a codec of this crate, which would mark the set.
#[derive(Serialize, Deserialize)]
struct ByHand {
    seats: HashSet<u64>,
}

impl Event for ByHand {
    fn types() -> Vec<EventType> {
        vec![EventType::new("paid")]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        Ok(RawEvent::new("paid", serde_json::to_vec(self).unwrap()))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<ByHand, SchemaError> {
        encoded.read::<Json, _>()
    }
}

#[test]
fn a_hash_set_that_no_codec_marks_makes_no_noise() {
    let by_hand = |lock: SchemaLock| lock.events([ByHand { seats: (0..9).collect() }]);
    let repository = Repository::with(by_hand);
    for _ in 0..20 {
        repository.check(by_hand).unwrap();
    }
    let derived = state!([] { seats: HashSet<u64> } { seats: HashSet::from([1]) });
    // The derive tells the Rust types of the fields, which the declaration by hand did not.
    let untold = repository.check(derived).unwrap_err();
    assert!(untold.contains("the types of the fields of paid version 1"), "{untold}");
    repository.record(derived).unwrap();
    repository.check(derived).unwrap();
    repository.check(by_hand).unwrap();
    let list = state!([] { seats: Vec<u64> } { seats: vec![3, 1, 3] });
    Repository::with(list).refuses(by_hand, &["seats: [3,1,3] was recorded"]);
}
