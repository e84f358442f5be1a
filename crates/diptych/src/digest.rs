//! A digest of any value that serde can serialise. Equal values have equal digests, on every
//! machine and in every build.
//!
//! The value is written in a canonical form, and the form is hashed. Logs keep digests of requests
//! for ever, so the form never changes. Every piece begins with a tag for its kind and marks its
//! end, so different values are written differently:
//!
//! - Names of structs, enums, variants and fields are written as serde gives them, so that
//!   `#[serde(rename)]` keeps a digest when a Rust name changes. To serde, a struct with
//!   `#[serde(flatten)]` is a map without a name.
//! - Equal integers of different widths are alike, and so are equal floats of both widths. There is
//!   one zero and one "not a number".
//! - Fields of structs and entries of maps are sorted by their bytes. So neither the order of field
//!   declarations nor the iteration order of a map makes a difference.
//! - A set is a sequence to serde. The parts of a hash set are sorted by their bytes; the parts of
//!   every other sequence keep their order.
//! - Types with two forms use the compact one, and not the human-readable one: a UUID is its 16
//!   bytes.
//! - A number of a `serde_json::Value` is digested as a number, whatever features `serde_json` has,
//!   as long as a `u64`, an `i64` or an `f64` holds all its digits.

mod compound;
mod state;

use std::{any::type_name, fmt, sync::LazyLock};

use diptych_store::Digest;
use serde::{
    Serialize,
    ser::{self, SerializeSeq, Serializer},
};

use crate::faithful::{NUMBER, is_unordered};
use compound::{Entries, Fields, Sequence};
pub use state::{DigestSyntaxError, StateDigest};

/// Hashed before every value, so that a later form gives other digests.
const CONTEXT: &str = "diptych, digest of a value, form 1";

/// The first byte of each piece: its kind. A number is never reused for another kind.
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
    /// The message of the value.
    pub reason: String,
}

/// The digest of a state: 32 bytes that are equal for equal states, on every machine and in every
/// build, and different for other states.
///
/// Digests compare two states that are not in one place: a view here and its copy elsewhere, or
/// today's state and one that a test committed last year.
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
/// # Ok::<_, diptych::digest::DigestError>(())
/// ```
///
/// # Equal digests
///
/// The digest covers the values that the state gives to serde.
///
/// - The order of a map and the order of field declarations make no difference. A `HashMap` has the
///   digest of a `BTreeMap` with the same entries.
/// - The order of a sequence counts. Serde sees a set as a sequence, but the order of a `HashSet`
///   makes no difference: it is recognised by the name of its type, even if that is from another
///   crate. A hash set with another name, or one that serialises itself part by part, has a
///   different digest each time. Use a `HashSet` or a `BTreeSet` instead. Equal sets of these two
///   types have different digests.
/// - Equal integers are alike whatever their width, and so are equal floats. An integer and a
///   float are not. There is one zero and one "not a number".
/// - Names of structs, enums, variants and fields count, as serde knows them. With
///   `#[serde(rename)]` a digest stays when a Rust name changes.
/// - `None`, `()`, an empty list and an empty text all have different digests, and so do `Some` of
///   a value and the value itself.
/// - Fields that are not serialised (`#[serde(skip)]`) make no difference.
///
/// # Errors
/// [`DigestError`] if the value cannot be serialised.
pub fn digest<T: Serialize + ?Sized>(state: &T) -> Result<StateDigest, DigestError> {
    let mut hashing = Hashing::new();
    match state.serialize(Canonical(&mut hashing)) {
        Ok(()) => Ok(StateDigest::from_bytes(hashing.finish())),
        Err(DigestFailure(reason)) => Err(DigestError { what: type_name::<T>(), reason }),
    }
}

/// The digest of a request, for an idempotency key: the first half of its [`digest`].
///
/// # Errors
/// [`DigestError`] if the value cannot be serialised.
pub(crate) fn request_digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, DigestError> {
    let mut half = Digest::default();
    half.0.iter_mut().zip(digest(value)?.to_bytes()).for_each(|(byte, of)| *byte = of);
    Ok(half)
}

/// The receiver of the canonical form.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Buffers the form and hashes it in large pieces, which is several times faster than hashing
/// single values.
struct Hashing {
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
}

/// A hasher with the context already applied, because that takes as long as hashing a small
/// command.
static BEGUN: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(CONTEXT));

const PIECE_BYTES: usize = 16 << 10;
/// First capacity of the buffer: enough for most commands.
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

/// A buffer for parts that have to be sorted before they are hashed.
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

    fn done(self) -> Result<(), DigestFailure> {
        Ok(())
    }

    fn sequence(self) -> Result<Sequence<'a, S>, DigestFailure> {
        Ok(Sequence::new(self.0))
    }

    fn entries(self, len: usize) -> Result<Entries<'a, S>, DigestFailure> {
        Ok(Entries::new(self.0, len))
    }
}

/// The message of a value that could not be serialised.
#[derive(Debug)]
struct DigestFailure(String);

impl fmt::Display for DigestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DigestFailure {}

impl ser::Error for DigestFailure {
    fn custom<T: fmt::Display>(reason: T) -> DigestFailure {
        DigestFailure(reason.to_string())
    }
}

impl<'a, S: Sink> Serializer for Canonical<'a, S> {
    type Ok = ();
    type Error = DigestFailure;
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

    fn serialize_bool(self, value: bool) -> Result<(), DigestFailure> {
        self.tag(if value { tag::TRUE } else { tag::FALSE }).done()
    }

    fn serialize_i8(self, value: i8) -> Result<(), DigestFailure> {
        self.serialize_i128(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), DigestFailure> {
        self.serialize_i128(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), DigestFailure> {
        self.serialize_i128(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), DigestFailure> {
        self.serialize_i128(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<(), DigestFailure> {
        let Ok(value) = u128::try_from(value) else {
            self.tag(tag::NEGATIVE).0.put(&value.to_le_bytes());
            return Ok(());
        };
        self.serialize_u128(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), DigestFailure> {
        self.serialize_u128(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), DigestFailure> {
        self.serialize_u128(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), DigestFailure> {
        self.serialize_u128(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), DigestFailure> {
        self.serialize_u128(value.into())
    }

    fn serialize_u128(self, value: u128) -> Result<(), DigestFailure> {
        self.tag(tag::INTEGER).0.put(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), DigestFailure> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), DigestFailure> {
        const NOT_A_NUMBER: u64 = 0x7ff8 << 48;
        let bits = match value {
            _ if value.is_nan() => NOT_A_NUMBER,
            // Matches negative zero, too, which is equal to zero.
            0.0 => 0,
            _ => value.to_bits(),
        };
        self.tag(tag::FLOAT).0.put(&bits.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), DigestFailure> {
        self.tag(tag::CHAR).0.put(&u32::from(value).to_le_bytes());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), DigestFailure> {
        self.tag(tag::TEXT).name(value).done()
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), DigestFailure> {
        self.tag(tag::BYTES).sized(value).done()
    }

    fn serialize_none(self) -> Result<(), DigestFailure> {
        self.tag(tag::NONE).done()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), DigestFailure> {
        value.serialize(self.tag(tag::SOME))
    }

    fn serialize_unit(self) -> Result<(), DigestFailure> {
        self.tag(tag::UNIT).done()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), DigestFailure> {
        self.tag(tag::UNIT_STRUCT).name(name).done()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), DigestFailure> {
        self.tag(tag::UNIT_VARIANT).name(name).name(variant).done()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), DigestFailure> {
        value.serialize(self.tag(tag::NEWTYPE_STRUCT).name(name))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), DigestFailure> {
        value.serialize(self.tag(tag::NEWTYPE_VARIANT).name(name).name(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'a, S>, DigestFailure> {
        self.tag(tag::SEQUENCE).sequence()
    }

    fn collect_seq<I>(self, parts: I) -> Result<(), DigestFailure>
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

    fn serialize_tuple(self, _: usize) -> Result<Sequence<'a, S>, DigestFailure> {
        self.tag(tag::TUPLE).sequence()
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Sequence<'a, S>, DigestFailure> {
        self.tag(tag::TUPLE_STRUCT).name(name).sequence()
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence<'a, S>, DigestFailure> {
        self.tag(tag::TUPLE_VARIANT).name(name).name(variant).sequence()
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'a, S>, DigestFailure> {
        self.tag(tag::MAP).entries(len.unwrap_or_default())
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Fields<'a, S>, DigestFailure> {
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
    ) -> Result<Entries<'a, S>, DigestFailure> {
        self.tag(tag::STRUCT_VARIANT).name(name).name(variant).entries(len)
    }
}

#[cfg(test)]
mod tests;
