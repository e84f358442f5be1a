//! The bytes of one state: MessagePack with the names of fields.

use serde::{Serialize, de::DeserializeOwned};

use super::faithful::Faithful;

/// Writes a state after these bytes, unless it would be read back as another one.
pub(crate) fn encode<T: Serialize>(state: &T, mut to: Vec<u8>) -> Result<Vec<u8>, String> {
    match rmp_serde::encode::write_named(&mut to, &Faithful::new(state)) {
        Ok(()) => Ok(to),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
