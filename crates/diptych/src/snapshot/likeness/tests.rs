use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{super::encoding, *};

fn of<T: Serialize>(value: T) -> u64 {
    likeness(&value).unwrap()
}

/// A release of the program reads what another one wrote.
fn read_as<New: Serialize + DeserializeOwned>(old: &impl Serialize) -> Result<New, String> {
    encoding::decode(&encoding::encode(old, Vec::new()).unwrap())
}

#[track_caller]
fn is_refused<New: Serialize + DeserializeOwned + fmt::Debug>(old: &impl Serialize) {
    let reason = read_as::<New>(old).unwrap_err();
    assert!(reason.contains("another state is read from it"), "{reason}");
}

/// One release of a type; other releases have other fields.
macro_rules! release {
    ($name:ident: $($(#[$meta:meta])* $field:ident: $type:ty),*) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename = "State")]
        struct $name {
            $($(#[$meta])* $field: $type),*
        }
    };
}

release!(Old: sum: u64, names: Vec<String>);

fn old() -> Old {
    Old { sum: 7, names: vec!["a".to_owned(), "b".to_owned()] }
}

/// A fold got one more field, with a default so that old snapshots stay readable. The sum then
/// continued from the snapshot, and the new count started from zero.
#[test]
fn a_field_that_was_added_with_a_default_makes_another_state() {
    release!(New: sum: u64, names: Vec<String>, #[serde(default)] count: u64);
    is_refused::<New>(&old());
    release!(Skipped:
        sum: u64,
        names: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")] count: Option<u64>
    );
    is_refused::<Skipped>(&old());
    assert_eq!(read_as::<Old>(&old()), Ok(old()));
    release!(Alike: sum: u64, names: Vec<String>);
    assert_eq!(read_as::<Alike>(&old()).unwrap().names, old().names);
}

#[test]
fn a_field_that_was_removed_renamed_or_has_another_type_makes_another_state() {
    release!(Removed: sum: u64);
    is_refused::<Removed>(&old());
    release!(Renamed: #[serde(alias = "sum")] total: u64, names: Vec<String>);
    is_refused::<Renamed>(&old());
    release!(Wider: sum: u128, names: Vec<String>);
    is_refused::<Wider>(&old());
    release!(Float: sum: f64, names: Vec<String>);
    assert!(read_as::<Float>(&old()).is_err());
    release!(Set: sum: u64, names: BTreeSet<String>);
    // A set is a sequence to serde, and these names are one.
    assert!(read_as::<Set>(&old()).is_ok());
    let twice = Old { names: vec!["a".to_owned(), "a".to_owned()], ..old() };
    is_refused::<Set>(&twice);
}

#[test]
fn fields_in_another_order_are_alike_and_so_is_an_alias() {
    release!(Turned: names: Vec<String>, sum: u64);
    assert_eq!(read_as::<Turned>(&old()).unwrap().sum, 7);
    release!(Aliased: #[serde(alias = "total")] sum: u64, names: Vec<String>);
    assert_eq!(read_as::<Aliased>(&old()).unwrap().sum, 7);
}

#[test]
fn a_change_is_found_at_any_depth() {
    #[derive(Debug, Serialize, Deserialize)]
    enum Deep<T> {
        Map(BTreeMap<String, Vec<Option<(u8, T)>>>),
        Struct { inner: Box<Deep<T>> },
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Flat<T> {
        one: u8,
        #[serde(flatten)]
        rest: T,
    }

    release!(New: sum: u64, names: Vec<String>, #[serde(default)] count: u64);
    fn deep<T>(value: T) -> Deep<T> {
        let map = BTreeMap::from([("a".to_owned(), vec![None, Some((1, value))])]);
        Deep::Struct { inner: Box::new(Deep::Map(map)) }
    }
    is_refused::<Deep<New>>(&deep(old()));
    read_as::<Deep<Old>>(&deep(old())).unwrap();
    is_refused::<Flat<New>>(&Flat { one: 1, rest: old() });
    read_as::<Flat<Old>>(&Flat { one: 1, rest: old() }).unwrap();
    // Without a value of the changed type, no part of the state can differ.
    read_as::<Deep<New>>(&Deep::<Old>::Map(BTreeMap::from([("a".to_owned(), vec![None])])))
        .unwrap();
}

#[test]
fn part_of_a_tuple_that_was_added_makes_another_state() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename = "Pair")]
    struct One(u8, u8);

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename = "Pair")]
    struct Three(u8, u8, #[serde(default)] u8);

    is_refused::<Three>(&One(1, 2));
    read_as::<One>(&One(1, 2)).unwrap();
}

/// The field is written and not read, so a restart would lose its value.
#[test]
fn a_field_that_is_not_read_back_makes_another_state() {
    release!(Forgetful: sum: u64, #[serde(skip_deserializing)] names: Vec<String>);
    let whole = Forgetful { sum: 7, names: vec!["a".to_owned()] };
    is_refused::<Forgetful>(&whole);
    read_as::<Forgetful>(&Forgetful { sum: 7, names: Vec::new() }).unwrap();
}

#[test]
fn the_order_of_maps_and_sets_makes_no_difference_and_that_of_tuples_does() {
    let numbers: Vec<u64> = (0..1_000).collect();
    let turned: Vec<u64> = numbers.iter().rev().copied().collect();
    let sets = |numbers: &[u64]| numbers.iter().copied().collect::<HashSet<_>>();
    let maps = |numbers: &[u64]| numbers.iter().map(|at| (*at, at % 7)).collect::<HashMap<_, _>>();
    for _ in 0..10 {
        assert_eq!(of(sets(&numbers)), of(sets(&turned)));
        assert_eq!(of(maps(&numbers)), of(maps(&turned)));
        assert!(read_as::<HashSet<u64>>(&sets(&numbers)).is_ok());
    }
    assert_ne!(of((1_u8, 2_u8)), of((2_u8, 1_u8)));
    assert_ne!(of([[1_u8, 2], [3, 4]]), of([[3_u8, 4], [1, 2]]));
    assert_ne!(of(BTreeMap::from([(1, 2), (3, 4)])), of(BTreeMap::from([(1, 4), (3, 2)])));
}

#[test]
fn no_two_kinds_of_values_are_alike() {
    #[derive(Serialize)]
    struct LikeUnit;
    #[derive(Serialize)]
    struct LikeNewtype<T>(T);
    #[derive(Serialize)]
    enum LikeEnum {
        Unit,
        Newtype(u8),
        Tuple(u8, u8),
        Struct { one: u8 },
    }
    #[derive(Serialize)]
    struct LikeStruct {
        one: u8,
    }

    let all = [
        of(()),
        of(None::<u8>),
        of(Some(())),
        of(LikeUnit),
        of(false),
        of(true),
        of(0_u8),
        of(0_i8),
        of(0_u16),
        of(0_u64),
        of(0_u128),
        of(-1_i64),
        of(0_f32),
        of(0_f64),
        of(-0_f64),
        of('0'),
        of('1'),
        of(""),
        of("0"),
        of(Some(0_u8)),
        of([0_u8; 0]),
        of([0_u8; 1]),
        of([0_u8; 2]),
        of(vec![0_u8; 0]),
        of(vec![0_u8; 1]),
        of(vec![0_u8; 2]),
        of(vec![vec![0_u8]]),
        of((0_u8, 0_u8, 0_u8)),
        of(BTreeMap::<u8, u8>::new()),
        of(BTreeMap::from([(0_u8, 0_u8)])),
        of(BTreeMap::from([("one", 1_u8)])),
        of(LikeNewtype(0_u8)),
        of(LikeNewtype(LikeNewtype(0_u8))),
        of(LikeEnum::Unit),
        of(LikeEnum::Newtype(0)),
        of(LikeEnum::Tuple(0, 0)),
        of(LikeEnum::Struct { one: 1 }),
        of(LikeStruct { one: 1 }),
        of(LikeStruct { one: 2 }),
    ];
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}
