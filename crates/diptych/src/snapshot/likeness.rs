//! Checks that a state was read back as it was written.
//!
//! A snapshot stores the likeness of its state: a hash of all values that the state gives to serde.
//! A reader decodes the state and computes the likeness again, with today's code. An added, removed
//! or renamed field changes the likeness, at any depth, even if `#[serde(default)]` or an alias
//! makes the bytes readable. Without this check the result could be half an old state and half a
//! new one.

use std::fmt;

use serde::{
    Serialize,
    ser::{
        self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};
use twox_hash::XxHash3_64;

/// The hash of everything that this value gives to serde.
///
/// The order of maps, sets and field declarations makes no difference.
///
/// # Errors
/// The message of a value that cannot be serialised.
pub(super) fn likeness<T: Serialize + ?Sized>(value: &T) -> Result<u64, String> {
    value.serialize(Likeness).map_err(|LikenessError(reason)| reason)
}

/// The kind of a value. It is hashed too, so that no two kinds are alike.
#[derive(Clone, Copy)]
enum ValueKind {
    Bool,
    Signed,
    Unsigned,
    Float,
    Char,
    Text,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    NewtypeStruct,
    UnitVariant,
    NewtypeVariant,
    Sequence,
    Tuple,
    TupleStruct,
    TupleVariant,
    Map,
    Struct,
    StructVariant,
    /// A field that its type leaves out when it is written.
    Skipped,
}

/// Two hashes as one; their order counts.
#[inline]
fn mix(one: u64, other: u64) -> u64 {
    const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
    let product = u128::from(one ^ ODD[0]) * u128::from(other.rotate_left(32) ^ ODD[1]);
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn of(kind: ValueKind, hash: u64) -> u64 {
    mix(kind as u64 + 1, hash)
}

#[inline]
fn text(text: &str) -> u64 {
    XxHash3_64::oneshot(text.as_bytes())
}

/// The message of a value that could not be serialised.
#[derive(Debug)]
struct LikenessError(String);

impl fmt::Display for LikenessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for LikenessError {}

impl ser::Error for LikenessError {
    fn custom<T: fmt::Display>(reason: T) -> LikenessError {
        LikenessError(reason.to_string())
    }
}

struct Likeness;

/// Parts whose order counts.
struct OrderedParts {
    hash: u64,
    kind: ValueKind,
}

/// Parts whose order does not count. Sequences are included, because serde sees a set as a
/// sequence.
struct UnorderedParts {
    /// Name and kind of the whole.
    of: u64,
    sum: u64,
    parts: u64,
    /// Hash of the key whose value comes next.
    key: u64,
}

impl UnorderedParts {
    fn new(kind: ValueKind, name: u64) -> UnorderedParts {
        UnorderedParts { of: of(kind, name), sum: 0, parts: 0, key: 0 }
    }

    #[inline]
    fn add(&mut self, part: u64) {
        // Each hash is mixed once more, so that the plain sum does not lose information.
        self.sum = self.sum.wrapping_add(mix(part, self.of));
        self.parts += 1;
    }

    fn finish(self) -> u64 {
        mix(mix(self.of, self.parts), self.sum)
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty, $kind:ident;)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<u64, LikenessError> {
            let width = size_of::<$type>() as u64;
            Ok(of(ValueKind::$kind, mix(width, value as u64)))
        }
    )*};
}

impl Serializer for Likeness {
    type Ok = u64;
    type Error = LikenessError;
    type SerializeSeq = UnorderedParts;
    type SerializeTuple = OrderedParts;
    type SerializeTupleStruct = OrderedParts;
    type SerializeTupleVariant = OrderedParts;
    type SerializeMap = UnorderedParts;
    type SerializeStruct = UnorderedParts;
    type SerializeStructVariant = UnorderedParts;

    /// As in the format of snapshots.
    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        serialize_bool: bool, Bool;
        serialize_i8: i8, Signed;
        serialize_i16: i16, Signed;
        serialize_i32: i32, Signed;
        serialize_i64: i64, Signed;
        serialize_u8: u8, Unsigned;
        serialize_u16: u16, Unsigned;
        serialize_u32: u32, Unsigned;
        serialize_u64: u64, Unsigned;
        serialize_char: char, Char;
    }

    fn serialize_i128(self, value: i128) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Signed, mix((value >> 64) as u64, value as u64)))
    }

    fn serialize_u128(self, value: u128) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Unsigned, mix((value >> 64) as u64, value as u64)))
    }

    fn serialize_f32(self, value: f32) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Float, mix(4, value.to_bits().into())))
    }

    fn serialize_f64(self, value: f64) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Float, mix(8, value.to_bits())))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Text, text(value)))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Bytes, XxHash3_64::oneshot(value)))
    }

    fn serialize_none(self) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::None, 0))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Some, value.serialize(Likeness)?))
    }

    fn serialize_unit(self) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::Unit, 0))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::UnitStruct, text(name)))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::UnitVariant, mix(text(name), text(variant))))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<u64, LikenessError> {
        Ok(of(ValueKind::NewtypeStruct, mix(text(name), value.serialize(Likeness)?)))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<u64, LikenessError> {
        let name = mix(text(name), text(variant));
        Ok(of(ValueKind::NewtypeVariant, mix(name, value.serialize(Likeness)?)))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<UnorderedParts, LikenessError> {
        Ok(UnorderedParts::new(ValueKind::Sequence, 0))
    }

    fn serialize_tuple(self, _: usize) -> Result<OrderedParts, LikenessError> {
        Ok(OrderedParts { hash: 0, kind: ValueKind::Tuple })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<OrderedParts, LikenessError> {
        Ok(OrderedParts { hash: text(name), kind: ValueKind::TupleStruct })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<OrderedParts, LikenessError> {
        Ok(OrderedParts { hash: mix(text(name), text(variant)), kind: ValueKind::TupleVariant })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<UnorderedParts, LikenessError> {
        Ok(UnorderedParts::new(ValueKind::Map, 0))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<UnorderedParts, LikenessError> {
        Ok(UnorderedParts::new(ValueKind::Struct, text(name)))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<UnorderedParts, LikenessError> {
        Ok(UnorderedParts::new(ValueKind::StructVariant, mix(text(name), text(variant))))
    }
}

/// The traits of serde for tuples differ in the name of one method.
macro_rules! ordered {
    ($($of:ident $method:ident;)*) => {$(
        impl $of for OrderedParts {
            type Ok = u64;
            type Error = LikenessError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), LikenessError> {
                self.hash = mix(self.hash, value.serialize(Likeness)?).wrapping_add(1);
                Ok(())
            }

            fn end(self) -> Result<u64, LikenessError> {
                Ok(of(self.kind, self.hash))
            }
        }
    )*};
}

ordered! {
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl SerializeSeq for UnorderedParts {
    type Ok = u64;
    type Error = LikenessError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), LikenessError> {
        self.add(value.serialize(Likeness)?);
        Ok(())
    }

    fn end(self) -> Result<u64, LikenessError> {
        Ok(self.finish())
    }
}

impl SerializeMap for UnorderedParts {
    type Ok = u64;
    type Error = LikenessError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), LikenessError> {
        self.key = key.serialize(Likeness)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), LikenessError> {
        self.add(mix(self.key, value.serialize(Likeness)?));
        Ok(())
    }

    fn end(self) -> Result<u64, LikenessError> {
        Ok(self.finish())
    }
}

/// The traits of serde for structs differ in their names only.
macro_rules! fields {
    ($($of:ident)*) => {$(
        impl $of for UnorderedParts {
            type Ok = u64;
            type Error = LikenessError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), LikenessError> {
                self.add(mix(text(name), value.serialize(Likeness)?));
                Ok(())
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), LikenessError> {
                self.add(mix(text(name), of(ValueKind::Skipped, 0)));
                Ok(())
            }

            fn end(self) -> Result<u64, LikenessError> {
                Ok(self.finish())
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }

#[cfg(test)]
mod tests;
