use std::{any::type_name, error::Error};

use serde::{Serialize, de::DeserializeOwned};

use super::SchemaError;

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
    /// [`SchemaError::Encode`] if it cannot hold the value.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError>;

    /// The value in these bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn Error + Send + Sync + 'static>>;
}

/// JSON text, the default: every tool reads it, and fields that a reader does not know are
/// passed over.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Codec for Json {
    const NAME: &'static str = "json";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError> {
        serde_json::to_vec(value).map_err(|error| not_encoded::<T>(&error))
    }

    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn Error + Send + Sync + 'static>> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// [MessagePack](https://msgpack.org), by `rmp-serde`: smaller and faster than JSON, exact for
/// every number, and with the names of fields, so that unknown ones are passed over.
#[derive(Clone, Copy, Debug)]
pub struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "messagepack";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SchemaError> {
        rmp_serde::to_vec_named(value).map_err(|error| not_encoded::<T>(&error))
    }

    fn decode<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Result<T, Box<dyn Error + Send + Sync + 'static>> {
        Ok(rmp_serde::from_slice(bytes)?)
    }
}

fn not_encoded<T: ?Sized>(error: &dyn Error) -> SchemaError {
    SchemaError::Encode { what: type_name::<T>(), reason: error.to_string() }
}
