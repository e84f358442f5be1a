//! The bytes of one state: MessagePack with the names of fields.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Codec, MessagePack,
    faithful::{Faithful, PackedState, Path},
};

/// Writes a state after these bytes, unless it would be read back as another one.
pub(crate) fn encode<T: Serialize>(state: &T, mut to: Vec<u8>) -> Result<Vec<u8>, String> {
    let path = Path::default();
    match rmp_serde::encode::write_named(&mut to, &Faithful::<T, PackedState>::new(state, &path)) {
        Ok(()) => Ok(to),
        Err(error) => Err(path.describe(error)),
    }
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    MessagePack::decode(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
