//! Refuses what would not come back from MessagePack as it was.
//!
//! `None` and `()` are both nothing there, and so `Some` of either cannot be told from `None`.
//! And a value that does not have as many parts as it says would shift what comes after it.

use std::fmt::Display;

use serde::{
    Serialize,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

/// A value that is watched while it is serialised.
pub(super) struct Faithful<'a, T: ?Sized> {
    value: &'a T,
    place: Place,
}

/// Where a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// Directly in a `Some`: nothing in the format is around it.
    InSome,
    Elsewhere,
}

impl<T: ?Sized> Faithful<'_, T> {
    pub(super) fn new(value: &T) -> Faithful<'_, T> {
        Faithful { value, place: Place::Elsewhere }
    }
}

impl<T: Serialize + ?Sized> Serialize for Faithful<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Watching { to: serializer, place: self.place })
    }
}

/// Passes everything on, and looks at it.
struct Watching<S> {
    to: S,
    place: Place,
}

impl<S: Serializer> Watching<S> {
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
}

/// The format has 32 bits for a length, and cuts off the rest.
#[inline]
fn fits<E: Error>(length: usize) -> Result<(), E> {
    match u32::try_from(length) {
        Ok(_) => Ok(()),
        Err(_) => Err(E::custom("it holds a text or list of more than 4 GiB or 2^32 parts")),
    }
}

/// A value of several parts, and how many of them it has to have.
struct Parts<C> {
    to: C,
    given: usize,
    said: Option<usize>,
}

impl<C> Parts<C> {
    #[inline]
    fn new<E: Error>(to: Result<C, E>, said: Option<usize>) -> Result<Parts<C>, E> {
        fits(said.unwrap_or(0))?;
        Ok(Parts { to: to?, given: 0, said })
    }

    #[inline]
    fn finish<E: Error>(self) -> Result<C, E> {
        fits(self.given)?;
        match self.said {
            Some(said) if said != self.given => Err(E::custom(format_args!(
                "something in it says that it has {said} parts and gives {}: correct its Serialize",
                self.given
            ))),
            _ => Ok(self.to),
        }
    }
}

/// Values that have no parts and are never taken for nothing.
macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.to.$method(value)
        }
    )*};
}

impl<S: Serializer> Serializer for Watching<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<S::SerializeSeq>;
    type SerializeTuple = Parts<S::SerializeTuple>;
    type SerializeTupleStruct = Parts<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<S::SerializeTupleVariant>;
    type SerializeMap = Entries<S::SerializeMap>;
    type SerializeStruct = Parts<S::SerializeStruct>;
    type SerializeStructVariant = Parts<S::SerializeStructVariant>;

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
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.to.is_human_readable()
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        fits(value.len())?;
        self.to.serialize_str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        fits(value.len())?;
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
            // An empty array, which not every way through serde leads back to the struct.
            Place::InSome => self.to.serialize_unit_struct(name),
            Place::Elsewhere => self.to.serialize_unit(),
        }
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.serialize_some(&Faithful { value, place: Place::InSome })
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        // It is written as what is in it.
        self.to.serialize_newtype_struct(name, &Faithful { value, place: self.place })
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
        self.to.serialize_newtype_variant(name, index, variant, &Faithful::new(value))
    }

    #[inline]
    fn serialize_seq(self, parts: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Parts::new(self.to.serialize_seq(parts), parts)
    }

    #[inline]
    fn serialize_tuple(self, parts: usize) -> Result<Self::SerializeTuple, S::Error> {
        Parts::new(self.to.serialize_tuple(parts), Some(parts))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Parts::new(self.to.serialize_tuple_struct(name, parts), Some(parts))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Parts::new(self.to.serialize_tuple_variant(name, index, variant, parts), Some(parts))
    }

    #[inline]
    fn serialize_map(self, parts: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Entries { keys: Parts::new(self.to.serialize_map(parts), parts)?, values: 0 })
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        Parts::new(self.to.serialize_struct(name, parts), Some(parts))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        parts: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Parts::new(self.to.serialize_struct_variant(name, index, variant, parts), Some(parts))
    }
}

/// The traits of serde for values of several parts differ in little but their names.
macro_rules! parts {
    ($($of:ident $method:ident($($name:ident)?);)*) => {$(
        impl<C: $of> $of for Parts<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), C::Error> {
                self.given += 1;
                self.to.$method($($name,)? &Faithful::new(value))
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.finish()?.end()
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element();
    SerializeTuple serialize_element();
    SerializeTupleStruct serialize_field();
    SerializeTupleVariant serialize_field();
    SerializeStruct serialize_field(name);
    SerializeStructVariant serialize_field(name);
}

/// Parts with keys.
struct Entries<C> {
    keys: Parts<C>,
    values: usize,
}

impl<C: SerializeMap> SerializeMap for Entries<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.keys.given += 1;
        self.keys.to.serialize_key(&Faithful::new(key))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.values += 1;
        self.keys.to.serialize_value(&Faithful::new(value))
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
