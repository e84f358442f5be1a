//! A digest of any value that serde can serialise: the same for the same value, on every machine
//! and in every build.
//!
//! The value is written in a canonical form, and the form is hashed. Digests of requests stand
//! in logs for ever, so the form never changes. Every piece begins with a tag that says what it
//! is, and says where it ends, so no two values are written alike:
//!
//! - Names of structs, enums, variants and fields are written as serde gives them, so that
//!   `#[serde(rename)]` keeps a digest when a Rust name changes. A struct with
//!   `#[serde(flatten)]` is a map to serde, and its name is not seen.
//! - Integers of all widths are alike if they are equal, and so are both widths of floats. There
//!   is one zero and one "not a number".
//! - Fields of structs and entries of maps are in the order of their bytes: neither the order in
//!   which fields are declared nor that in which a map is walked makes a difference.
//! - A set is a sequence to serde. The parts of a hash set are in the order of their bytes; those
//!   of every other sequence are in the order that it has.
//! - It is not the form for people, where a type has two: a UUID is its 16 bytes.
//! - A number of a `serde_json::Value` is the number, whatever features `serde_json` has, as long
//!   as a `u64`, an `i64` or an `f64` holds all of its digits.

mod compound;
mod state;
mod unordered;

use std::{any::type_name, fmt, sync::LazyLock};

use diptych_store::Digest;
use serde::{
    Serialize,
    ser::{self, SerializeSeq, Serializer},
};

use crate::faithful::NUMBER;
use compound::{Entries, Fields, Sequence};
pub use state::{DigestSyntaxError, StateDigest};
use unordered::is_unordered;

/// What is hashed before every value, so that the form can have a successor.
const CONTEXT: &str = "diptych, digest of a value, form 1";

/// What a piece is; the first byte of each. Numbers are never used for something else.
mod tag {
    pub(super) const END: u8 = 0;
    pub(super) const UNIT: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const TRUE: u8 = 3;
    pub(super) const NONE: u8 = 4;
    pub(super) const SOME: u8 = 5;
    pub(super) const NEGATIVE: u8 = 6;
    pub(super) const INTEGER: u8 = 7;
    pub(super) const FLOAT: u8 = 8;
    pub(super) const CHAR: u8 = 9;
    pub(super) const TEXT: u8 = 10;
    pub(super) const BYTES: u8 = 11;
    pub(super) const SEQUENCE: u8 = 12;
    pub(super) const TUPLE: u8 = 13;
    pub(super) const MAP: u8 = 14;
    pub(super) const UNIT_STRUCT: u8 = 15;
    pub(super) const NEWTYPE_STRUCT: u8 = 16;
    pub(super) const TUPLE_STRUCT: u8 = 17;
    pub(super) const STRUCT: u8 = 18;
    pub(super) const UNIT_VARIANT: u8 = 19;
    pub(super) const NEWTYPE_VARIANT: u8 = 20;
    pub(super) const TUPLE_VARIANT: u8 = 21;
    pub(super) const STRUCT_VARIANT: u8 = 22;
}

/// A value that has no digest, because it cannot be serialised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has no digest, it cannot be serialised: {reason}")]
pub struct DigestError {
    /// The Rust type.
    pub what: &'static str,
    /// What it says.
    pub reason: String,
}

/// The digest of a state: 32 bytes that are alike for alike states, on every machine and in
/// every build, and different for others.
///
/// With it two states are compared without having both: that of a view and of the same one
/// elsewhere, or that of today and of a test that was committed last year.
///
/// ```
/// use diptych::digest;
/// use serde::Serialize;
/// use std::collections::{BTreeMap, HashMap};
///
/// #[derive(Serialize)]
/// struct Balances<M> {
///     accounts: M,
/// }
///
/// let one = Balances { accounts: HashMap::from([("ann", 20), ("ben", 5)]) };
/// let other = Balances { accounts: BTreeMap::from([("ben", 5), ("ann", 20)]) };
/// assert_eq!(digest(&one)?, digest(&other)?);
/// # Ok::<_, diptych::DigestError>(())
/// ```
///
/// # What is alike
///
/// The digest is of what serde is given.
///
/// - The order of a map makes no difference, and neither does that in which fields are declared.
///   A `HashMap` has the digest of a `BTreeMap` with the same entries.
/// - The order of a sequence counts, and to serde a set is one. The order of a `HashSet` makes no
///   difference: it is known by the name of its type, also where it is that of another crate. A set
///   that is not called so, or that serialises itself part by part, has another digest each
///   time: use a `HashSet` or a `BTreeSet`. These two have different digests.
/// - Equal integers are alike whatever their width, and so are equal floats. An integer and a
///   float are not. There is one zero and one "not a number".
/// - Names count, as serde knows them: of structs, enums, variants and fields. With
///   `#[serde(rename)]` a digest stays when a Rust name changes.
/// - `None`, `()`, an empty list and an empty text are four different things, and `Some` of a
///   thing is another one than the thing.
/// - What is not serialised (`#[serde(skip)]`) makes no difference.
///
/// # Errors
/// [`DigestError`] if the value says that it cannot be serialised.
pub fn digest<T: Serialize + ?Sized>(state: &T) -> Result<StateDigest, DigestError> {
    let mut hashing = Hashing::new();
    match state.serialize(Canonical(&mut hashing)) {
        Ok(()) => Ok(StateDigest::from_bytes(hashing.finish())),
        Err(Failed(reason)) => Err(DigestError { what: type_name::<T>(), reason }),
    }
}

/// The digest of a request, for an idempotency key: the first half of its [`digest`].
///
/// # Errors
/// [`DigestError`] if the value says that it cannot be serialised.
pub(crate) fn request_digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, DigestError> {
    let mut half = Digest::default();
    half.0.iter_mut().zip(digest(value)?.to_bytes()).for_each(|(byte, of)| *byte = of);
    Ok(half)
}

/// Where the canonical form goes.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Hashes in large pieces, which is several times quicker than in those of single values.
struct Hashing {
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
}

/// A hasher that knows the context, which takes as long as the hashing of a small command.
static BEGUN: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(CONTEXT));

const PIECE_BYTES: usize = 16 << 10;
/// As many as most commands have.
const FIRST_BYTES: usize = 512;

impl Hashing {
    fn new() -> Hashing {
        let waiting = Vec::with_capacity(FIRST_BYTES);
        Hashing { hasher: BEGUN.clone(), waiting }
    }

    fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.waiting);
        *self.hasher.finalize().as_bytes()
    }
}

impl Sink for Hashing {
    fn put(&mut self, bytes: &[u8]) {
        if self.waiting.len() + bytes.len() > PIECE_BYTES {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
            if bytes.len() > PIECE_BYTES {
                self.hasher.update(bytes);
                return;
            }
        }
        self.waiting.extend_from_slice(bytes);
    }
}

/// What has to be put in order before it is hashed.
impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes a value in the canonical form.
struct Canonical<'a, S>(&'a mut S);

impl<'a, S: Sink> Canonical<'a, S> {
    fn tag(self, tag: u8) -> Self {
        self.0.put(&[tag]);
        self
    }

    /// Bytes with their length before them.
    fn sized(self, bytes: &[u8]) -> Self {
        self.0.put(&(bytes.len() as u64).to_le_bytes());
        self.0.put(bytes);
        self
    }

    fn name(self, name: &str) -> Self {
        self.sized(name.as_bytes())
    }

    fn done(self) -> Result<(), Failed> {
        Ok(())
    }

    fn sequence(self) -> Result<Sequence<'a, S>, Failed> {
        Ok(Sequence::new(self.0))
    }

    fn entries(self, len: usize) -> Result<Entries<'a, S>, Failed> {
        Ok(Entries::new(self.0, len))
    }
}

/// What a value said when it could not be serialised.
#[derive(Debug)]
struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: fmt::Display>(reason: T) -> Failed {
        Failed(reason.to_string())
    }
}

impl<'a, S: Sink> Serializer for Canonical<'a, S> {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Sequence<'a, S>;
    type SerializeTuple = Sequence<'a, S>;
    type SerializeTupleStruct = Sequence<'a, S>;
    type SerializeTupleVariant = Sequence<'a, S>;
    type SerializeMap = Entries<'a, S>;
    type SerializeStruct = Fields<'a, S>;
    type SerializeStructVariant = Entries<'a, S>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), Failed> {
        self.tag(if value { tag::TRUE } else { tag::FALSE }).done()
    }

    fn serialize_i8(self, value: i8) -> Result<(), Failed> {
        self.serialize_i128(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Failed> {
        self.serialize_i128(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Failed> {
        self.serialize_i128(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Failed> {
        self.serialize_i128(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Failed> {
        let Ok(value) = u128::try_from(value) else {
            self.tag(tag::NEGATIVE).0.put(&value.to_le_bytes());
            return Ok(());
        };
        self.serialize_u128(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Failed> {
        self.serialize_u128(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Failed> {
        self.serialize_u128(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Failed> {
        self.serialize_u128(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Failed> {
        self.serialize_u128(value.into())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failed> {
        self.tag(tag::INTEGER).0.put(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Failed> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Failed> {
        const NOT_A_NUMBER: u64 = 0x7ff8 << 48;
        let bits = match value {
            _ if value.is_nan() => NOT_A_NUMBER,
            // Also of a negative zero, which is equal to it.
            0.0 => 0,
            _ => value.to_bits(),
        };
        self.tag(tag::FLOAT).0.put(&bits.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Failed> {
        self.tag(tag::CHAR).0.put(&u32::from(value).to_le_bytes());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Failed> {
        self.tag(tag::TEXT).name(value).done()
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failed> {
        self.tag(tag::BYTES).sized(value).done()
    }

    fn serialize_none(self) -> Result<(), Failed> {
        self.tag(tag::NONE).done()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failed> {
        value.serialize(self.tag(tag::SOME))
    }

    fn serialize_unit(self) -> Result<(), Failed> {
        self.tag(tag::UNIT).done()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Failed> {
        self.tag(tag::UNIT_STRUCT).name(name).done()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Failed> {
        self.tag(tag::UNIT_VARIANT).name(name).name(variant).done()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        value.serialize(self.tag(tag::NEWTYPE_STRUCT).name(name))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        value.serialize(self.tag(tag::NEWTYPE_VARIANT).name(name).name(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'a, S>, Failed> {
        self.tag(tag::SEQUENCE).sequence()
    }

    fn collect_seq<I>(self, parts: I) -> Result<(), Failed>
    where
        I: IntoIterator<Item: Serialize>,
    {
        match is_unordered::<I>() {
            true => compound::in_order_of_bytes(self.tag(tag::SEQUENCE).0, parts),
            false => {
                let mut sequence = self.serialize_seq(None)?;
                parts.into_iter().try_for_each(|part| sequence.serialize_element(&part))?;
                sequence.end()
            }
        }
    }

    fn serialize_tuple(self, _: usize) -> Result<Sequence<'a, S>, Failed> {
        self.tag(tag::TUPLE).sequence()
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Sequence<'a, S>, Failed> {
        self.tag(tag::TUPLE_STRUCT).name(name).sequence()
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence<'a, S>, Failed> {
        self.tag(tag::TUPLE_VARIANT).name(name).name(variant).sequence()
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'a, S>, Failed> {
        self.tag(tag::MAP).entries(len.unwrap_or_default())
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields<'a, S>, Failed> {
        match name {
            NUMBER => Ok(Fields::Number(self, None)),
            _ => self.tag(tag::STRUCT).name(name).entries(len).map(Fields::Entries),
        }
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Entries<'a, S>, Failed> {
        self.tag(tag::STRUCT_VARIANT).name(name).name(variant).entries(len)
    }
}

#[cfg(test)]
mod tests;
