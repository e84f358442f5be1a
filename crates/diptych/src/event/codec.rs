use std::{any::type_name, error::Error, fmt::Display, io::ErrorKind::UnexpectedEof};

use rmp_serde::{Deserializer, decode::ReadRefReader};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::SchemaError;
use crate::faithful::{Faithful, JsonPayload, PackedPayload, Path};

/// How the payload of an event becomes bytes and comes back.
///
/// A codec is chosen for each event type: `#[event("name", codec = MessagePack)]`. Changing it
/// changes the bytes, so it takes a new schema version and an upcaster.
pub trait Codec {
    /// Its stable name.
    const NAME: &'static str;

    /// The value as bytes.
    ///
    /// # Errors
    /// [`SchemaError::Encode`] if the codec cannot represent the value.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError>;

    /// The value in these bytes.
    ///
    /// # Errors
    /// A description of the fault in the bytes.
    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn Error + Send + Sync + 'static>>;
}

/// JSON text, the default: every tool reads it, and a reader skips fields that it does not know.
///
/// Every finite float is read back bit for bit. A value that would be read back as another value is
/// refused, at any depth in the event. This concerns floats that are infinite or not a number, and
/// `Some` of `None`, of `()` or of a unit struct: JSON writes `null` in each case. A value with
/// more than 127 levels of lists, maps, structs and variants within each other is refused, too. The
/// reader stops at that depth.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Codec for Json {
    const NAME: &'static str = "json";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError> {
        let path = Path::default();
        serde_json::to_vec(&Faithful::<T, JsonPayload>::new(value, &path))
            .map_err(|error| not_encoded::<T>(&path, error))
    }

    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn Error + Send + Sync + 'static>> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// [MessagePack](https://msgpack.org), by `rmp-serde`: smaller and faster than JSON, exact for
/// every number, and with the names of fields, so that a reader skips unknown ones.
///
/// A value that would be read back as another value is refused, at any depth in the event. This
/// concerns `Some` of `None` or of `()`, because MessagePack has a single nil. It also concerns a
/// number of a `serde_json::Value` with more digits than a `u64`, an `i64` or an `f64` holds, which
/// exists only with the feature `arbitrary_precision` of `serde_json`. Bytes after the value are an
/// error. As in JSON, a value is written with at most 127 levels; `rmp-serde` reads up to 1,024.
#[derive(Clone, Copy, Debug)]
pub struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "messagepack";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError> {
        let path = Path::default();
        rmp_serde::to_vec_named(&Faithful::<T, PackedPayload>::new(value, &path))
            .map_err(|error| not_encoded::<T>(&path, error))
    }

    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn Error + Send + Sync + 'static>> {
        let mut deserializer = Deserializer::from_read_ref(bytes);
        let value = T::deserialize(&mut deserializer)?;
        packed_end(&mut deserializer)?;
        Ok(value)
    }
}

/// # Errors
/// If bytes follow the value. The payload is then of another codec, or holds two values.
pub(crate) fn packed_end(
    deserializer: &mut Deserializer<ReadRefReader<'_, [u8]>>,
) -> Result<(), &'static str> {
    // Any value but nil is refused at its marker, so this reads no markers inside of a value. A
    // value that is cut off would otherwise look like the end.
    match <()>::deserialize(deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(end)) if end.kind() == UnexpectedEof => {
            Ok(())
        }
        _ => Err("there are bytes after the MessagePack value; if the codec of the event was \
                  changed, the payload is of the other codec"),
    }
}

fn not_encoded<T: ?Sized>(path: &Path, error: impl Display) -> SchemaError {
    SchemaError::Encode { what: type_name::<T>(), reason: path.describe(error) }
}
