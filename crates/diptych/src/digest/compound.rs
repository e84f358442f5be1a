//! Values of several parts.

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{Canonical, DigestFailure, Sink, tag};
use crate::faithful::{NUMBER, Plain, text};

/// Parts whose order counts. Not every sequence knows its length in advance. So the parts are
/// followed by an end mark, which begins no part, and by their number.
pub(super) struct Sequence<'a, S> {
    to: &'a mut S,
    parts: u64,
}

impl<'a, S: Sink> Sequence<'a, S> {
    pub(super) fn new(to: &'a mut S) -> Sequence<'a, S> {
        Sequence { to, parts: 0 }
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), DigestFailure> {
        self.parts += 1;
        value.serialize(Canonical(self.to))
    }

    fn finish(self) -> Result<(), DigestFailure> {
        self.to.put(&[tag::END]);
        self.to.put(&self.parts.to_le_bytes());
        Ok(())
    }
}

/// Writes parts whose order does not count, sorted by their bytes. Otherwise like a sequence.
pub(super) fn in_order_of_bytes<S: Sink>(
    to: &mut S,
    parts: impl IntoIterator<Item: Serialize>,
) -> Result<(), DigestFailure> {
    let mut entries = Entries::new(to, 0);
    parts.into_iter().try_for_each(|part| entries.key(&part))?;
    entries.finish()
}

/// Room is reserved for at most this many entries, and for this many bytes of each. Most structs
/// fit, and structs are digested with every command.
const EXPECTED_ENTRIES: usize = 32;
const ENTRY_BYTES: usize = 48;

/// Parts with keys, which are sorted before they are written.
pub(super) struct Entries<'a, S> {
    to: &'a mut S,
    /// The key and the value of each entry in the canonical form, one after another.
    entries: Vec<u8>,
    /// The start of each entry.
    starts: Vec<usize>,
}

impl<'a, S: Sink> Entries<'a, S> {
    /// Reserves room for about `len` entries.
    pub(super) fn new(to: &'a mut S, len: usize) -> Entries<'a, S> {
        let len = len.min(EXPECTED_ENTRIES);
        let (entries, starts) = (Vec::with_capacity(len * ENTRY_BYTES), Vec::with_capacity(len));
        Entries { to, entries, starts }
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), DigestFailure> {
        self.starts.push(self.entries.len());
        key.serialize(Canonical(&mut self.entries))
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), DigestFailure> {
        if self.starts.is_empty() {
            return Err(DigestFailure("a map gave a value before its key".to_owned()));
        }
        value.serialize(Canonical(&mut self.entries))
    }

    fn finish(self) -> Result<(), DigestFailure> {
        let Entries { to, entries, starts } = self;
        let ends = starts.iter().skip(1).copied().chain([entries.len()]);
        let of = |(start, end): (&usize, usize)| entries.get(*start..end).unwrap_or_default();
        let mut sorted: Vec<_> = starts.iter().zip(ends).map(of).collect();
        sorted.sort_unstable();
        sorted.iter().for_each(|entry| to.put(entry));
        to.put(&[tag::END]);
        to.put(&(sorted.len() as u64).to_le_bytes());
        Ok(())
    }
}

/// The traits of serde for sequences differ in the name of one method.
macro_rules! sequence {
    ($($of:ident $method:ident)*) => {$(
        impl<S: Sink> $of for Sequence<'_, S> {
            type Ok = ();
            type Error = DigestFailure;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), DigestFailure> {
                self.part(value)
            }

            fn end(self) -> Result<(), DigestFailure> {
                self.finish()
            }
        }
    )*};
}

sequence! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

impl<S: Sink> SerializeMap for Entries<'_, S> {
    type Ok = ();
    type Error = DigestFailure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), DigestFailure> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), DigestFailure> {
        self.value(value)
    }

    fn end(self) -> Result<(), DigestFailure> {
        self.finish()
    }
}

impl<S: Sink> Entries<'_, S> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), DigestFailure> {
        self.key(name)?;
        self.value(value)
    }
}

impl<S: Sink> SerializeStructVariant for Entries<'_, S> {
    type Ok = ();
    type Error = DigestFailure;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), DigestFailure> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), DigestFailure> {
        self.finish()
    }
}

/// A struct, or a number of `serde_json` that serialises as a struct with its text.
pub(super) enum Fields<'a, S> {
    Entries(Entries<'a, S>),
    Number(Canonical<'a, S>, Option<String>),
}

impl<S: Sink> SerializeStruct for Fields<'_, S> {
    type Ok = ();
    type Error = DigestFailure;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), DigestFailure> {
        match self {
            Fields::Entries(entries) => entries.field(name, value),
            Fields::Number(_, number) => {
                *number = text(value);
                Ok(())
            }
        }
    }

    fn end(self) -> Result<(), DigestFailure> {
        let (to, number) = match self {
            Fields::Entries(entries) => return entries.finish(),
            Fields::Number(to, number) => (to, number.unwrap_or_default()),
        };
        match Plain::of(&number) {
            Some(Plain::Unsigned(number)) => to.serialize_u64(number),
            Some(Plain::Signed(number)) => to.serialize_i64(number),
            Some(Plain::Float(number)) => to.serialize_f64(number),
            // No plain number holds these digits, so the digits themselves are hashed.
            None => {
                let mut entries = to.tag(tag::STRUCT).name(NUMBER).entries(1)?;
                entries.field(NUMBER, &number)?;
                entries.finish()
            }
        }
    }
}
