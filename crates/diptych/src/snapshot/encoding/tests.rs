use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    marker::PhantomData,
};

use proptest::{collection::btree_map, option, prelude::*};
use serde::{
    Deserialize, Serializer,
    ser::{SerializeMap, SerializeSeq, SerializeStruct},
};

use super::*;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct PackedUnit;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct PackedNewtype<T>(T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PackedEnum<T> {
    Unit,
    Newtype(T),
    Tuple(u8, T),
    Struct { one: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum UntaggedEnum {
    Unit,
    Number(u64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum TaggedEnum {
    Unit,
    Struct { one: Option<u8> },
    Marked { marker: PhantomData<u8>, unit: PackedUnit },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent<T> {
    Unit,
    Newtype(T),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outer<T> {
    before: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<T>,
    #[serde(flatten)]
    rest: BTreeMap<String, T>,
}

/// Comes back as it was.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let before = b"before".to_vec();
    let bytes = encode(&value, before.clone()).unwrap();
    let bytes = bytes.strip_prefix(before.as_slice()).unwrap();
    assert_eq!(decode::<T>(bytes).unwrap(), value);
}

/// Would come back as another value, and is refused.
#[track_caller]
fn is_refused<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = rmp_serde::to_vec_named(&value).unwrap();
    assert_ne!(rmp_serde::from_slice::<T>(&bytes).unwrap(), value, "it is refused for nothing");
    let reason = encode(&value, Vec::new()).unwrap_err();
    assert!(reason.contains("it holds Some("), "{reason}");
    assert!(reason.contains("would be read back as None"), "{reason}");
}

#[test]
fn some_of_nothing_is_refused_wherever_it_is() {
    is_refused(Some(None::<u8>));
    is_refused(Some(()));
    is_refused(Some(Some(None::<u8>)));
    is_refused(Some(Some(())));
    is_refused(Some(PackedNewtype(None::<u8>)));
    is_refused(Some(PackedNewtype(PackedNewtype(()))));
    is_refused(PackedNewtype(Some(None::<u8>)));
    is_refused(Some(UntaggedEnum::Unit));
    is_refused(Some(serde_json::Value::Null));
    let some = Some(None::<u8>);
    is_refused(vec![None, some, Some(Some(1))]);
    is_refused((1, some));
    is_refused([some, some]);
    is_refused((some,));
    is_refused(BTreeMap::from([(1, some)]));
    is_refused(BTreeMap::from([(some, 1)]));
    is_refused(HashMap::from([((1, some), 1)]));
    is_refused(PackedEnum::Newtype(some));
    is_refused(PackedEnum::Tuple(1, some));
    is_refused(PackedEnum::Struct { one: some });
    is_refused(Adjacent::Newtype(some));
    is_refused(Some(PackedEnum::Newtype(some)));
    is_refused(outer(None, BTreeMap::from([("one".to_owned(), some)])));
    is_refused(outer(Some(some), BTreeMap::new()));
    is_refused(vec![BTreeMap::from([("one".to_owned(), PackedNewtype((1, some)))])]);
}

fn outer<T>(maybe: Option<T>, rest: BTreeMap<String, T>) -> Outer<T> {
    Outer { before: 1, maybe, rest }
}

#[test]
fn what_can_be_told_apart_comes_back() {
    comes_back(None::<Option<u8>>);
    comes_back(Some(Some(1)));
    comes_back(PackedUnit);
    comes_back((PackedUnit, PhantomData::<u8>, PackedNewtype(PackedUnit), vec![PackedUnit]));
    comes_back(outer(None, BTreeMap::from([("one".to_owned(), PackedUnit)])));
    comes_back(vec![TaggedEnum::Marked { marker: PhantomData, unit: PackedUnit }]);
    comes_back(None::<()>);
    comes_back(());
    comes_back(Some(PackedUnit));
    comes_back(vec![Some(PackedUnit), None]);
    comes_back(Some(PackedNewtype(PackedUnit)));
    comes_back(Some(PhantomData::<u8>));
    comes_back(Some(Vec::<u8>::new()));
    comes_back(Some((None::<u8>, ())));
    comes_back(Some([None::<u8>; 2]));
    comes_back(Some(PackedEnum::<Option<u8>>::Unit));
    comes_back(Some(PackedEnum::Newtype(None::<u8>)));
    comes_back(PackedEnum::Newtype(()));
    comes_back(Ok::<(), Option<()>>(()));
    comes_back(Some(Err::<(), Option<()>>(None)));
    comes_back(vec![
        UntaggedEnum::Unit,
        UntaggedEnum::Number(u64::MAX),
        UntaggedEnum::Text(String::new()),
    ]);
    comes_back(vec![
        TaggedEnum::Unit,
        TaggedEnum::Struct { one: None },
        TaggedEnum::Struct { one: Some(1) },
    ]);
    comes_back(Some(Adjacent::Newtype(None::<u8>)));
    comes_back(Some(Adjacent::<u8>::Unit));
    comes_back(vec![serde_json::json!({ "a": [null, 1.0, -1, u64::MAX], "b": { "c": null } })]);
    comes_back(outer(None, BTreeMap::from([("one".to_owned(), None::<Option<u8>>)])));
    comes_back(outer(Some(Some(1)), BTreeMap::from([("one".to_owned(), Some(2))])));
    comes_back((u128::MAX, i128::MIN, Some(0_u128), Some(-1_i128), f32::MIN, f64::EPSILON, 'x'));
    comes_back((i64::MIN, u64::MAX, "\u{1f600}".repeat(100_000), vec![0_u8; 70_000]));
    comes_back(HashMap::from([
        ((1, PackedUnit), "a".to_owned()),
        ((-2, PackedUnit), "b".to_owned()),
    ]));
    comes_back(BTreeMap::from([(None, 1), (Some(PackedNewtype(1)), 2)]));
    comes_back(std::time::Duration::from_nanos(1_234_567_890_123));
    comes_back("127.0.0.1".parse::<std::net::IpAddr>().unwrap());
}

/// A value that announces a wrong number of parts.
struct Liar(&'static str, Option<usize>);

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            "sequence" => {
                let mut parts = serializer.serialize_seq(self.1)?;
                parts.serialize_element(&1)?;
                parts.serialize_element(&2)?;
                parts.end()
            }
            "struct" => {
                let mut parts = serializer.serialize_struct("Liar", self.1.unwrap())?;
                parts.serialize_field("one", &1)?;
                parts.serialize_field("other", &1)?;
                parts.end()
            }
            "key" => {
                let mut parts = serializer.serialize_map(self.1)?;
                parts.serialize_entry(&1, &1)?;
                parts.serialize_key(&2)?;
                parts.end()
            }
            "text" => serializer.serialize_str("text"),
            _ => serializer.collect_map([(1, 1), (2, 2)]),
        }
    }
}

#[test]
fn what_has_other_parts_than_it_says_is_refused() {
    for kind in ["sequence", "struct"] {
        encode(&Liar(kind, Some(2)), Vec::new()).unwrap();
        for parts in [0, 1, 3, usize::MAX] {
            encode(&Liar(kind, Some(parts)), Vec::new()).unwrap_err();
        }
    }
    encode(&Liar("sequence", None), Vec::new()).unwrap();
    let reason = encode(&Liar("struct", Some(3)), Vec::new()).unwrap_err();
    assert!(reason.contains("announces 3 parts and gives 2"), "{reason}");
    let reason = encode(&Liar("sequence", Some(1 << 32)), Vec::new()).unwrap_err();
    assert!(reason.contains("more than 4 GiB or 2^32 parts"), "{reason}");
    for parts in [None, Some(1), Some(2)] {
        let reason = encode(&Liar("key", parts), Vec::new()).unwrap_err();
        assert!(reason.contains("does not give a value to each key"), "{reason}");
    }
    encode(&vec![Liar("text", None), Liar("map", None)], Vec::new()).unwrap();
}

/// Something of every kind, with options in options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf(Option<Option<i64>>),
    Unit(Option<()>),
    Empty(PackedUnit, Option<PackedUnit>),
    Text { text: Option<String>, bytes: Option<Vec<u8>> },
    Pair(Box<(Tree, Option<PackedNewtype<Option<u128>>>)>),
    Map(BTreeMap<PackedNewtype<Option<u8>>, Option<Tree>>),
    Keys(BTreeMap<Option<Option<bool>>, Tree>),
    List(Vec<Option<PackedNewtype<Tree>>>),
    Outer(Box<Outer<Tree>>),
}

impl Tree {
    /// Whether it has an option that would be read back as none.
    fn has_some_of_nothing(&self) -> bool {
        match self {
            Tree::Leaf(leaf) => *leaf == Some(None),
            Tree::Unit(unit) => unit.is_some(),
            Tree::Empty(..) | Tree::Text { .. } => false,
            Tree::Pair(pair) => pair.0.has_some_of_nothing() || pair.1 == Some(PackedNewtype(None)),
            Tree::Map(map) => map.values().flatten().any(Tree::has_some_of_nothing),
            Tree::Keys(keys) => {
                keys.contains_key(&Some(None)) || keys.values().any(Tree::has_some_of_nothing)
            }
            Tree::List(list) => list.iter().flatten().any(|part| part.0.has_some_of_nothing()),
            Tree::Outer(outer) => {
                outer.maybe.iter().chain(outer.rest.values()).any(Tree::has_some_of_nothing)
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => option::of(option::weighted(0.9, any::<i64>())).prop_map(Tree::Leaf),
        1 => option::weighted(0.1, Just(())).prop_map(Tree::Unit),
        1 => option::of(Just(PackedUnit)).prop_map(|unit| Tree::Empty(PackedUnit, unit)),
        3 => any::<(Option<String>, Option<Vec<u8>>)>()
            .prop_map(|(text, bytes)| Tree::Text { text, bytes }),
    ];
    leaf.prop_recursive(4, 32, 4, |tree| {
        let number = option::of(option::weighted(0.9, any::<u128>()));
        let key = option::of(any::<u8>()).prop_map(PackedNewtype);
        let bool = option::of(option::weighted(0.8, any::<bool>()));
        let list = prop::collection::vec(option::of(tree.clone().prop_map(PackedNewtype)), 0..4);
        // None of these names is the name of a field of `Outer`.
        let rest = btree_map("[a-l]{1,3}", tree.clone(), 0..3);
        let maybe = option::of(tree.clone());
        prop_oneof![
            (tree.clone(), number)
                .prop_map(|(tree, number)| Tree::Pair(Box::new((tree, number.map(PackedNewtype))))),
            btree_map(key, option::of(tree.clone()), 0..4).prop_map(Tree::Map),
            btree_map(bool, tree.clone(), 0..4).prop_map(Tree::Keys),
            list.prop_map(Tree::List),
            (any::<u8>(), maybe, rest).prop_map(|(before, maybe, rest)| {
                Tree::Outer(Box::new(Outer { before, maybe, rest }))
            }),
        ]
    })
}

proptest! {
    /// Every state that is not refused comes back, and only states that cannot come back are
    /// refused.
    #[test]
    fn a_state_comes_back_or_is_refused(tree in tree()) {
        match encode(&tree, Vec::new()) {
            Ok(bytes) => {
                prop_assert!(!tree.has_some_of_nothing());
                match decode::<Tree>(&bytes) {
                    Ok(read) => prop_assert_eq!(read, tree),
                    // Serde buffers flattened fields in a form that has no u128, and that reads no
                    // unit struct from an empty array.
                    Err(error) => prop_assert!(
                        error.contains("128") || error.contains("unit struct"),
                        "{}",
                        error
                    ),
                }
            }
            Err(reason) => prop_assert!(tree.has_some_of_nothing(), "{}", reason),
        }
    }
}
