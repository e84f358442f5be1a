//! Refuses values that could not be read back from their bytes unchanged.
//!
//! MessagePack writes `None` and `()` as nil. JSON writes both as `null`, and also a unit struct
//! and a float that is not a number. So a reader cannot tell `Some` of any of these from `None`. In
//! MessagePack, a value that announces a wrong number of parts makes a reader misread all bytes
//! after it. Some values of `serde_json` serialise as structs with private names, which only JSON
//! knows. A reader of JSON gives up at a certain depth.
//!
//! A layer between the value and its format finds all of this while the value is serialised.

#[cfg(feature = "testing")]
mod marked;
mod number;
mod path;
mod unordered;

use std::{
    fmt::{Display, Write},
    marker::PhantomData,
};

use serde::{
    Serialize,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

use path::PathStep;

#[cfg(feature = "testing")]
pub(crate) use marked::{MARK, with_marked_sets};
pub(crate) use number::{NUMBER, Plain, RAW_VALUE, text};
pub(crate) use path::Path;
pub(crate) use unordered::is_unordered;

/// How a format writes values that may be read back as others.
pub(crate) trait Format {
    /// Whether it is JSON, which has no "not a number" and no infinity, writes unit structs as
    /// `null`, needs no length before parts, and knows the private names of `serde_json`.
    const IS_JSON: bool;
    /// Whether a unit struct outside a `Some` is written as nil.
    const UNIT_STRUCT_IS_UNIT: bool = false;
    /// The largest number of lists, maps, structs and variants within each other.
    ///
    /// `serde_json` reads no more than this. A reader of MessagePack that reads this many levels
    /// stays within the stack of a thread, also in a build without optimisation.
    const MOST_LEVELS: u16 = 127;
}

/// The payload of an event as JSON.
pub(crate) struct JsonPayload;

impl Format for JsonPayload {
    const IS_JSON: bool = true;
}

/// The payload of an event as MessagePack.
pub(crate) struct PackedPayload;

impl Format for PackedPayload {
    const IS_JSON: bool = false;
}

/// A state as MessagePack. A unit struct is written as nil, because serde cannot always read the
/// struct back from an empty array.
pub(crate) struct PackedState;

impl Format for PackedState {
    const IS_JSON: bool = false;
    const UNIT_STRUCT_IS_UNIT: bool = true;
    /// Only `rmp-serde` limits the levels, to the number that it also reads. A deep state that
    /// older programs kept can be kept further on.
    const MOST_LEVELS: u16 = u16::MAX;
}

/// A value that is checked while it is serialised.
pub(crate) struct Faithful<'a, T: ?Sized, F> {
    value: &'a T,
    place: Place,
    /// Number of levels around the value.
    level: u16,
    path: &'a Path,
    format: PhantomData<F>,
}

/// Where a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// Directly in a `Some`, which the format does not mark.
    InSome,
    Elsewhere,
}

impl<'a, T: ?Sized, F> Faithful<'a, T, F> {
    /// `path` receives the place of a failure.
    pub(crate) fn new(value: &'a T, path: &'a Path) -> Faithful<'a, T, F> {
        Faithful::at(0, value, path)
    }

    fn at(level: u16, value: &'a T, path: &'a Path) -> Faithful<'a, T, F> {
        Faithful { value, place: Place::Elsewhere, level, path, format: PhantomData }
    }
}

impl<T: Serialize + ?Sized, F: Format> Serialize for Faithful<'_, T, F> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Faithful { value, place, level, path, format } = *self;
        value.serialize(Watching { to: serializer, place, level, path, format })
    }
}

/// Checks each value and passes it on.
struct Watching<'a, S, F> {
    to: S,
    place: Place,
    level: u16,
    path: &'a Path,
    format: PhantomData<F>,
}

impl<'a, S: Serializer, F: Format> Watching<'a, S, F> {
    #[inline]
    fn nothing(self, what: impl Display) -> Result<S, S::Error> {
        match self.place {
            Place::Elsewhere => Ok(self.to),
            Place::InSome => Err(S::Error::custom(format_args!(
                "it holds Some({what}), which would be read back as None: use a type that is not \
                 empty, or an enum"
            ))),
        }
    }

    #[inline]
    fn number(self, value: f64) -> Result<S, S::Error> {
        if F::IS_JSON && !value.is_finite() {
            return Err(S::Error::custom(format_args!(
                "it holds {value}, which JSON has no number for: give it a finite number, or use \
                 the codec MessagePack"
            )));
        }
        Ok(self.to)
    }

    #[inline]
    fn parts<C>(
        level: u16,
        path: &'a Path,
        to: Result<C, S::Error>,
        said: Option<usize>,
    ) -> Result<Parts<'a, C, F>, S::Error> {
        fits::<F, _>(said.unwrap_or(0))?;
        Ok(Parts { to: to?, given: 0, said, level, path, format: PhantomData })
    }
}

/// The level of the parts of a value at `level`, which writes `levels` around its parts.
#[inline]
fn deeper<F: Format, E: Error>(level: u16, levels: u16) -> Result<u16, E> {
    match level.saturating_add(levels) {
        deep if deep > F::MOST_LEVELS => Err(E::custom(format_args!(
            "it has more than {} levels of lists, maps, structs and variants within each other, \
             and could not be read back: keep a deep structure as a list of its parts",
            F::MOST_LEVELS
        ))),
        deep => Ok(deep),
    }
}

/// MessagePack has 32 bits for a length, and cuts off the rest.
#[inline]
fn fits<F: Format, E: Error>(length: usize) -> Result<(), E> {
    match u32::try_from(length) {
        Err(_) if !F::IS_JSON => {
            Err(E::custom("it holds a text or list of more than 4 GiB or 2^32 parts"))
        }
        _ => Ok(()),
    }
}

/// A value of several parts, with the number of parts that it announced.
struct Parts<'a, C, F> {
    to: C,
    given: usize,
    said: Option<usize>,
    /// The level of the parts.
    level: u16,
    path: &'a Path,
    format: PhantomData<F>,
}

impl<'a, C, F: Format> Parts<'a, C, F> {
    /// The next part, and its number.
    #[inline]
    fn part<'v, T: ?Sized>(&mut self, value: &'v T) -> (Faithful<'v, T, F>, usize)
    where
        'a: 'v,
    {
        self.given += 1;
        (Faithful::at(self.level, value, self.path), self.given - 1)
    }

    #[inline]
    fn finish<E: Error>(self) -> Result<C, E> {
        fits::<F, _>(self.given)?;
        match self.said {
            Some(said) if said != self.given && !F::IS_JSON => Err(E::custom(format_args!(
                "a value in it announces {said} parts and gives {}: correct its Serialize",
                self.given
            ))),
            _ => Ok(self.to),
        }
    }
}

/// Values that have no parts and are never written as nil.
macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.to.$method(value)
        }
    )*};
}

impl<'a, S: Serializer, F: Format> Serializer for Watching<'a, S, F> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq, F>;
    type SerializeTuple = Parts<'a, S::SerializeTuple, F>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct, F>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant, F>;
    type SerializeMap = CheckedEntries<'a, S::SerializeMap, F>;
    type SerializeStruct = CheckedFields<'a, S, F>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant, F>;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.to.is_human_readable()
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.number(value.into())?.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.number(value)?.serialize_f64(value)
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        fits::<F, _>(value.len())?;
        self.to.serialize_str(value)
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        match F::IS_JSON {
            // JSON writes the text without a buffer.
            true => self.to.collect_str(value),
            false => self.serialize_str(&value.to_string()),
        }
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        fits::<F, _>(value.len())?;
        self.to.serialize_bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.nothing("None")?.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.nothing("()")?.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        match self.place {
            _ if F::IS_JSON => self.nothing(name)?.serialize_unit_struct(name),
            Place::Elsewhere if F::UNIT_STRUCT_IS_UNIT => self.to.serialize_unit(),
            _ => self.to.serialize_unit_struct(name),
        }
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let Watching { to, level, path, format, .. } = self;
        to.serialize_some(&Faithful { value, place: Place::InSome, level, path, format })
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        // A newtype is written as its inner value.
        let Watching { to, place, level, path, format } = self;
        to.serialize_newtype_struct(name, &Faithful { value, place, level, path, format })
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.to.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Faithful::<T, F>::at(deeper::<F, _>(self.level, 1)?, value, self.path);
        let written = self.to.serialize_newtype_variant(name, index, variant, &value);
        written.inspect_err(|_| self.path.step(PathStep::Field(variant)))
    }

    #[inline]
    fn serialize_seq(self, parts: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let level = deeper::<F, _>(self.level, 1)?;
        Self::parts(level, self.path, self.to.serialize_seq(parts), parts)
    }

    #[cfg(feature = "testing")]
    fn collect_seq<I>(self, parts: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator<Item: Serialize>,
    {
        let is_marked = marked::marks_sets() && is_unordered::<I>();
        let parts = parts.into_iter();
        let number = match parts.size_hint() {
            (least, Some(most)) if least == most => Some(least + usize::from(is_marked)),
            _ => None,
        };
        let mut sequence = self.serialize_seq(number)?;
        if is_marked {
            sequence.serialize_element(MARK)?;
        }
        for part in parts {
            sequence.serialize_element(&part)?;
        }
        SerializeSeq::end(sequence)
    }

    #[inline]
    fn serialize_tuple(self, parts: usize) -> Result<Self::SerializeTuple, S::Error> {
        let level = deeper::<F, _>(self.level, 1)?;
        Self::parts(level, self.path, self.to.serialize_tuple(parts), Some(parts))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let level = deeper::<F, _>(self.level, 1)?;
        Self::parts(level, self.path, self.to.serialize_tuple_struct(name, parts), Some(parts))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let level = deeper::<F, _>(self.level, 2)?;
        let to = self.to.serialize_tuple_variant(name, index, variant, parts);
        Self::parts(level, self.path, to, Some(parts))
    }

    #[inline]
    fn serialize_map(self, parts: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let level = deeper::<F, _>(self.level, 1)?;
        let keys = Self::parts(level, self.path, self.to.serialize_map(parts), parts)?;
        Ok(CheckedEntries { keys, values: 0 })
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        if !F::IS_JSON && name == NUMBER {
            return Ok(CheckedFields::Number(self.to, None));
        }
        if !F::IS_JSON && name == RAW_VALUE {
            return Err(S::Error::custom(
                "it holds a serde_json RawValue, which is not read back from MessagePack: use a \
                 String or a serde_json Value, or the codec Json",
            ));
        }
        // These are no structs in JSON.
        let levels = if [NUMBER, RAW_VALUE].contains(&name) { 0 } else { 1 };
        let level = deeper::<F, _>(self.level, levels)?;
        let to = self.to.serialize_struct(name, parts);
        Ok(CheckedFields::Parts(Self::parts(level, self.path, to, Some(parts))?))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let level = deeper::<F, _>(self.level, 2)?;
        let to = self.to.serialize_struct_variant(name, index, variant, parts);
        Self::parts(level, self.path, to, Some(parts))
    }
}

/// The traits of serde for values of several parts differ in names only.
macro_rules! parts {
    ($($of:ident $method:ident($($name:ident)?) $step:expr;)*) => {$(
        impl<C: $of, F: Format> $of for Parts<'_, C, F> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), C::Error> {
                let path = self.path;
                let (value, _number) = self.part(value);
                let written = self.to.$method($($name,)? &value);
                written.inspect_err(|_| path.step($step($($name,)? _number)))
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.finish()?.end()
            }
        }
    )*};
}

fn field(name: &'static str, _: usize) -> PathStep {
    PathStep::Field(name)
}

parts! {
    SerializeSeq serialize_element() PathStep::Element;
    SerializeTuple serialize_element() PathStep::Element;
    SerializeTupleStruct serialize_field() PathStep::Element;
    SerializeTupleVariant serialize_field() PathStep::Element;
    SerializeStruct serialize_field(name) field;
    SerializeStructVariant serialize_field(name) field;
}

/// A struct, or a number of `serde_json` that is written as a struct.
enum CheckedFields<'a, S: Serializer, F> {
    Parts(Parts<'a, S::SerializeStruct, F>),
    /// The text of the number, once it was given.
    Number(S, Option<String>),
}

impl<S: Serializer, F: Format> SerializeStruct for CheckedFields<'_, S, F> {
    type Ok = S::Ok;
    type Error = S::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        match self {
            CheckedFields::Parts(parts) => SerializeStruct::serialize_field(parts, name, value),
            CheckedFields::Number(_, number) => {
                *number = text(value);
                Ok(())
            }
        }
    }

    #[inline]
    fn end(self) -> Result<S::Ok, S::Error> {
        let (to, number) = match self {
            CheckedFields::Parts(parts) => return SerializeStruct::end(parts),
            CheckedFields::Number(to, number) => (to, number.unwrap_or_default()),
        };
        match Plain::of(&number) {
            Some(Plain::Unsigned(number)) => to.serialize_u64(number),
            Some(Plain::Signed(number)) => to.serialize_i64(number),
            Some(Plain::Float(number)) => to.serialize_f64(number),
            None => Err(S::Error::custom(format_args!(
                "it holds the JSON number {number}, whose digits MessagePack would lose: keep it \
                 as text, or use the codec Json"
            ))),
        }
    }
}

/// Parts with keys.
struct CheckedEntries<'a, C, F> {
    keys: Parts<'a, C, F>,
    values: usize,
}

impl<C: SerializeMap, F: Format> SerializeMap for CheckedEntries<'_, C, F> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        let path = self.keys.path;
        let (key, number) = self.keys.part(key);
        let written = self.keys.to.serialize_key(&key);
        written.inspect_err(|_| path.step(PathStep::Entry(format!("(key {number})"))))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.values += 1;
        let path = self.keys.path;
        let value = Faithful::<T, F>::at(self.keys.level, value, path);
        let written = self.keys.to.serialize_value(&value);
        written.inspect_err(|_| path.step(PathStep::Entry(format!("(value {})", self.values - 1))))
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        self.serialize_key(key)?;
        self.values += 1;
        let path = self.keys.path;
        let value = Faithful::<V, F>::at(self.keys.level, value, path);
        let written = self.keys.to.serialize_value(&value);
        written.inspect_err(|_| path.step(PathStep::Entry(name(key))))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        if self.values != self.keys.given {
            return Err(C::Error::custom(
                "a map in it does not give a value to each key: correct its Serialize",
            ));
        }
        self.keys.finish()?.end()
    }
}

/// A key as text, for the path to its value.
#[cold]
fn name<K: Serialize + ?Sized>(key: &K) -> String {
    let Ok(json) = serde_json::to_string(key) else { return "(a value)".to_owned() };
    let mut name = String::new();
    let _ = match serde_json::from_str::<String>(&json) {
        Ok(text) => name.write_str(&text),
        Err(_) => name.write_str(&json),
    };
    name
}
