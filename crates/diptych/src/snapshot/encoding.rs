//! The bytes of one state: MessagePack with the names of fields, then the likeness of the state.
//! The likeness shows whether a reader gets another state from the same bytes.

use serde::{Serialize, de::DeserializeOwned};

use super::likeness::likeness;
use crate::{
    event::{Codec, MessagePack},
    faithful::{Faithful, PackedState, Path},
};

/// Appends a state to these bytes. Fails if the state would be read back as another one.
pub(crate) fn encode<T: Serialize>(state: &T, mut to: Vec<u8>) -> Result<Vec<u8>, String> {
    let path = Path::default();
    match rmp_serde::encode::write_named(&mut to, &Faithful::<T, PackedState>::new(state, &path)) {
        Ok(()) => to.extend_from_slice(&likeness(state)?.to_le_bytes()),
        Err(error) => return Err(path.describe(error)),
    }
    Ok(to)
}

/// Reads a state that [`encode`] wrote. Fails if another state results, because a field was not
/// written, or the type has no place for a stored field.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (bytes, written) = bytes.split_last_chunk().ok_or("it is cut off")?;
    let state: T = MessagePack::decode(bytes).map_err(|error| error.to_string())?;
    match likeness(&state)? == u64::from_le_bytes(*written) {
        true => Ok(state),
        false => Err("another state is read from it than was written: its type or its Serialize \
                      was changed without a new VERSION, or its Deserialize does not read all \
                      that was written"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests;
