use std::collections::{BTreeMap, HashMap};

use proptest::{collection::hash_map, prelude::*};
use serde::{Serialize, Serializer, ser::Error as _};

use super::*;

#[derive(Serialize)]
struct Deposit {
    account: String,
    amount: u64,
}

#[derive(Serialize)]
struct Withdraw {
    account: String,
    amount: u64,
}

#[derive(Serialize)]
struct Nothing;

#[derive(Serialize)]
#[serde(rename = "Wrapped")]
struct Wrapper(i32);

#[derive(Serialize)]
struct Pair(i32, i32);

#[derive(Serialize)]
enum Choice {
    Unit,
    Newtype(i32),
    Tuple(i32, i32),
    Struct { a: i32 },
}

fn deposit() -> Deposit {
    Deposit { account: "ann".to_owned(), amount: 20 }
}

fn of<T: Serialize + ?Sized>(value: &T) -> String {
    request_digest(value).unwrap().to_string()
}

/// Bytes as serde knows them, which a slice of numbers is not.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Digests of requests stand in logs for ever. If this fails, keys that were used before the
/// change would be refused, as if they were used again for something else.
#[test]
fn digests_never_change() {
    let golden = [
        (of(&()), "64d51d951aef0e372ccf9c3beb63d2a7"),
        (of(&true), "194f84aa4c6d637d45521ce5670a6d54"),
        (of(&false), "e648dc731d8f92357dbefa2e5147e657"),
        (of(&-1), "a3712744abe954a828cec34ac247be1a"),
        (of(&1), "f5749ad59ac83be50860f151f56a7c55"),
        (of(&1.5), "f852ac28859f7a4f13c40f0aa1d3c73e"),
        (of(&'x'), "09e8827a4ec48808632bfb37f61ff9e0"),
        (of("x"), "3a2c3707f55a999b2eadb3b9b25ea50b"),
        (of(&Bytes(b"x")), "b5ef1fa7888abb35f33792fb42cc6600"),
        (of(&None::<i32>), "f377b333f21dda3177e7c59bc9bd34f8"),
        (of(&Some(1)), "f06668ce6dd61e12afce3720dbe1f77d"),
        (of(&vec![1, 2]), "e355adb11d65b1f0defa1c9b03cff01d"),
        (of(&(1, 2)), "4e4747b528a458c6d8560c4f46a15ce7"),
        (of(&BTreeMap::from([("a", 1), ("b", 2)])), "5f3ea8db7e6c71090675aa7efc79f7bb"),
        (of(&Nothing), "f4403cf70c9c3496924f448f820e7bc0"),
        (of(&Wrapper(1)), "5b3f3592968d9539512830f8095d8033"),
        (of(&Pair(1, 2)), "39bba0e5913e382f533e2f93c0abaabc"),
        (of(&deposit()), "29cb9ed9c76b71eefe643cfece68d3d3"),
        (of(&Choice::Unit), "b945be8ab8d303873ffefd468b2e5244"),
        (of(&Choice::Newtype(1)), "27c2f0530e9b48e1865185dd374adf6e"),
        (of(&Choice::Tuple(1, 2)), "a7b865d768ad3658362625592d182df4"),
        (of(&Choice::Struct { a: 1 }), "513d2f4c86a6bd3fe6ec4759c99fedeb"),
    ];
    let changed: Vec<_> = golden.iter().filter(|(now, then)| now != then).collect();
    assert!(changed.is_empty(), "now, and then: {changed:#?}");
}

#[test]
fn a_request_is_the_first_half() {
    let whole = digest(&deposit()).unwrap();
    assert_eq!(request_digest(&deposit()).unwrap().0, whole.to_bytes()[..16]);
}

#[test]
fn names_tell_values_apart() {
    let (account, amount) = ("ann".to_owned(), 20);
    assert_ne!(of(&deposit()), of(&Withdraw { account, amount }));
    assert_ne!(of(&Choice::Unit), of(&Nothing));
    assert_ne!(of(&Wrapper(1)), of(&1));
    assert_ne!(of(&Wrapper(1)), of(&Choice::Newtype(1)));
}

#[test]
fn a_renamed_type_keeps_its_digest_and_so_does_one_with_fields_in_another_order() {
    #[derive(Serialize)]
    #[serde(rename = "Deposit")]
    struct PutIn {
        amount: u8,
        #[serde(rename = "account")]
        whose: String,
    }
    assert_eq!(of(&deposit()), of(&PutIn { amount: 20, whose: "ann".to_owned() }));
}

#[test]
fn equal_numbers_are_alike_whatever_their_width() {
    let ones = [of(&1_u8), of(&1_i8), of(&1_u16), of(&1_i32), of(&1_u64), of(&1_i128), of(&1_u128)];
    assert!(ones.iter().all(|one| *one == ones[0]), "{ones:?}");
    assert_eq!(of(&-1_i8), of(&-1_i128));
    assert_ne!(of(&-1_i128), of(&u128::MAX));
    assert_eq!(of(&1.5_f32), of(&1.5_f64));
    assert_ne!(of(&1.0), of(&1));
}

#[test]
fn floats_have_one_zero_and_one_nan() {
    assert_eq!(of(&0.0), of(&-0.0));
    assert_eq!(of(&f64::NAN), of(&-f64::NAN));
    assert_eq!(of(&f64::NAN), of(&f32::NAN));
    assert_eq!(of(&f64::NAN), of(&f64::from_bits(0x7ff0_0000_0000_0001)));
    assert_ne!(of(&f64::INFINITY), of(&f64::NEG_INFINITY));
}

#[test]
fn what_looks_alike_is_told_apart() {
    let alike = [
        of(&()),
        of(&None::<()>),
        of(&Some(())),
        of(&Some(None::<()>)),
        of(&0),
        of(&false),
        of(""),
        of(&Bytes(b"")),
        of(&Vec::<u8>::new()),
        of(&vec![0_u8]),
        of(&[0_u8]),
        of(&BTreeMap::<u8, u8>::new()),
        of(&("a", "b")),
        of(&("ab", "")),
        of(&(("a",), "b")),
        of(&vec![vec![1], vec![2]]),
        of(&vec![vec![1, 2], vec![]]),
        of(&vec![vec![], vec![1, 2]]),
    ];
    for (at, this) in alike.iter().enumerate() {
        assert_eq!(alike.iter().position(|other| other == this), Some(at));
    }
}

#[test]
fn a_sequence_that_does_not_know_its_length_is_like_one_that_does() {
    struct SequenceWithoutLength;
    impl Serialize for SequenceWithoutLength {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq([1, 2, 3].iter().filter(|number| **number < 3))
        }
    }
    assert_eq!(of(&SequenceWithoutLength), of(&vec![1, 2]));
}

#[test]
fn a_value_that_cannot_be_serialised_says_why() {
    #[derive(Debug)]
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("it is locked"))
        }
    }
    let error = request_digest(&vec![Broken]).unwrap_err().to_string();
    assert!(error.contains("Broken") && error.contains("it is locked"), "{error}");
}

/// The form is hashed in pieces. The places where they end must not change the digest.
#[test]
fn a_large_value_is_hashed_as_if_it_were_put_together_first() {
    let texts = (1..60).map(|number| "x".repeat(number * 997)).collect::<Vec<_>>();
    let mut whole = Vec::new();
    (&texts, 1, texts.concat()).serialize(Canonical(&mut whole)).unwrap();
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let digest = digest(&(&texts, 1, texts.concat())).unwrap();
    assert_eq!(digest.to_bytes(), *hasher.update(&whole).finalize().as_bytes());
    assert!(whole.len() > 100 * PIECE_BYTES);
}

#[test]
fn a_digest_is_read_from_its_text() {
    let digest = digest(&deposit()).unwrap();
    let text = digest.to_string();
    assert_eq!(text, "29cb9ed9c76b71eefe643cfece68d3d329332d8252ac43da39afbd72cf4cb8e2");
    assert_eq!((text.len(), text.parse()), (64, Ok(digest)));
    assert_eq!(text.to_uppercase().parse(), Ok(digest));
    assert_eq!(format!("{digest:?}"), format!("StateDigest({text})"));
    assert_eq!(StateDigest::from_bytes(digest.to_bytes()), digest);
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<StateDigest>(&json).unwrap(), digest);
    let packed = rmp_serde::to_vec_named(&digest).unwrap();
    assert_eq!(rmp_serde::from_slice::<StateDigest>(&packed).unwrap(), digest);
    let longer = text.clone() + "0";
    let broken = text.replacen('9', "g", 1);
    let wide = format!("{}\u{e4}", &text[..62]);
    for text in ["", "0", " ", &text[1..], &longer, &broken, &wide, &"\u{1f600}".repeat(9_999)] {
        let error = text.parse::<StateDigest>().unwrap_err();
        assert!(error.text.len() <= 65 * 4, "{error}");
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
        assert!(serde_json::from_value::<StateDigest>(text.into()).is_err());
    }
}

proptest! {
    /// Two maps with the same entries have hash seeds, and histories, of their own.
    #[test]
    fn the_order_of_a_map_makes_no_difference(
        entries in hash_map(".{0,3}", hash_map(any::<i16>(), any::<bool>(), 0..5), 0..20),
        shift in any::<usize>(),
    ) {
        let sorted: BTreeMap<_, BTreeMap<_, _>> =
            entries.iter().map(|(key, inner)| (key, inner.iter().collect())).collect();
        let mut list: Vec<_> = entries.clone().into_iter().collect();
        list.sort_by(|(one, _), (other, _)| one.cmp(other));
        let shift = shift.checked_rem(list.len()).unwrap_or(0);
        list.rotate_left(shift);
        let again: HashMap<_, _> = list.into_iter().collect();
        prop_assert_eq!(of(&entries), of(&again));
        prop_assert_eq!(of(&entries), of(&sorted));
    }

    #[test]
    fn other_values_have_other_digests(
        one in any::<(Option<i64>, String, Vec<(bool, String)>)>(),
        other in any::<(Option<i64>, String, Vec<(bool, String)>)>(),
    ) {
        prop_assert_eq!(of(&one) == of(&other), one == other);
    }
}
